"""The flows of one run: kept for the next URL of the same server, and all ended together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from time import monotonic
from typing import cast

import click

from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.options import Options
from trickles_web.client import identities
from trickles_web.client.fetch import READ_BYTES, Fetch, RateLimit, Request
from trickles_web.client.streams import open_connection
from trickles_web.client.striped import Striped, config_for_each
from trickles_web.client.transport import FlowTransport
from trickles_web.client.url import Url, join_authority
from trickles_web.config import ClientConfig
from trickles_web.errors import UsageError

FIGURES = ("datagrams_in", "datagrams_out", "bytes_in", "losses", "timeouts", "srtt")

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answer = Fetch | Striped


def _server(url: Url) -> Url:
    """The same for all URLs whose requests one flow can carry."""
    return dataclasses.replace(url, target="/")


class Flows:
    """Opens what requests need. All of them share one rate limit."""

    def __init__(self, options: Options) -> None:
        self._replicas = options.replicas
        self._verbose = options.verbose
        self._limit = RateLimit(options.limits.rate, monotonic())
        self._trusting = options.trusting
        self._config = ClientConfig(replicas=options.replicas)
        patience = options.limits.connect_timeout
        if patience is not None:
            self._config = dataclasses.replace(self._config, connect_timeout_s=patience)
        self._idle: dict[Url, list[Ends]] = {}
        """By `_server` of their URLs;"""
        self._configs: dict[Url, ClientConfig] = {}
        """these, too."""
        self._busy: set[asyncio.StreamWriter] = set()
        self._striped: set[Striped] = set()
        self.opened = 0

    @contextlib.asynccontextmanager
    async def answer(self, url: Url, request: Request) -> AsyncIterator[Answer]:
        """The answer to a request that is sent with it. Raises what opening and sending raise.

        Of several replicas a GET may come in stripes; for anything else, a flow goes on at another
        one when its own is silent.
        """
        if self._replicas and request.method == "GET" and request.body is None:
            async with self._of_replicas(url, request) as striped:
                yield striped
            return
        server = _server(url)
        reader, writer = ends = await self._take(server)
        fetch = Fetch(reader, writer, limit=self._limit)
        try:
            fetch.request(request)
            yield fetch
        finally:
            fetch.stop()
            self._busy.discard(writer)
            if fetch.reusable and not writer.is_closing():
                self._idle.setdefault(server, []).append(ends)
            else:
                self._end(server, writer)

    @contextlib.asynccontextmanager
    async def _of_replicas(self, url: Url, request: Request) -> AsyncIterator[Striped]:
        addresses = dict.fromkeys([(url.host, url.port), *self._replicas])
        config = self._config_for(_server(url))
        striped = Striped(request, list(addresses), config=config, limit=self._limit)
        self._striped.add(striped)
        try:
            yield striped
        finally:
            self._striped.discard(striped)
            striped.close()
            self.opened += striped.flows
            if self._verbose:
                shares = zip(addresses, striped.from_each, strict=True)
                told = [f"{host} port {port}: {count} bytes" for (host, port), count in shares]
                for host, port in addresses:
                    self._tell_who(host, port, config_for_each(config, url.host))
                click.echo(f"* replicas: {', '.join(told)}", err=True)

    def _config_for(self, server: Url) -> ClientConfig:
        """Raises Failure."""
        if server not in self._configs:
            try:
                self._configs[server] = self._trusting.config_for(server, self._config)
            except UsageError as error:
                raise Failure(Exit.USAGE, str(error)) from None
        return self._configs[server]

    async def _take(self, server: Url) -> Ends:
        idle = self._idle.get(server)
        if idle:
            ends = idle.pop()
        else:
            self.opened += 1
            config = self._config_for(server)
            ends = await open_connection(server.host, server.port, config=config, limit=READ_BYTES)
        self._busy.add(ends[1])
        return ends

    def _end(self, server: Url, writer: asyncio.StreamWriter) -> None:
        if self._verbose:
            self._tell_who(server.host, server.port, self._config_for(server))
            stats = cast(FlowTransport, writer.transport).flow.stats
            figures = [f"{name} {getattr(stats, name)}" for name in FIGURES if hasattr(stats, name)]
            click.echo(f"* flow: {', '.join(figures)}", err=True)
        writer.transport.abort()

    def _tell_who(self, host: str, port: int, config: ClientConfig) -> None:
        """Who a server of private flows is, if it was believed, and why."""
        server = identities.server(host, port, config)
        if server is not None and server.judgement is not None:
            told = server.judgement
            where = join_authority(host, port)
            click.echo(f"* server: {where} is {told.pin}: {told.why}", err=True)

    def close(self) -> None:
        """End the idle ones."""
        for server, ends in self._idle.items():
            for _, writer in ends:
                self._end(server, writer)
        self._idle.clear()

    def abort(self) -> None:
        """End all at once, without a word; servers at work are told."""
        for writer in self._busy:
            writer.transport.abort()
        for striped in self._striped:
            striped.close()
