"""HTTP clients as their users have them, each behind one function: what is asked, what came.

Every entry of SYNCHRONOUS and ASYNCHRONOUS is the library, and a context in which it keeps its
connections to one server.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import requests

import trickles_web.client.httpx as over_httpx
import trickles_web.client.httpx2 as over_httpx2
from tests.client import programs
from trickles_web.client import create_connection, routed
from trickles_web.client.requests import TricklesAdapter
from trickles_web.client.urllib3 import TricklesPoolManager

HOST = "127.0.0.1"
PATIENCE_S = 30.0

Answer = tuple[int, bytes]
Ask = Callable[[str, str, bytes], Answer]
"""Method, target, body: status and body."""
AskLater = Callable[[str, str, bytes], Awaitable[Answer]]


@contextlib.contextmanager
def by_httpx(library: Any, ours: Any, port: int) -> Iterator[Ask]:
    mounts = {"trickles://": ours.TricklesTransport()}
    with library.Client(mounts=mounts, timeout=PATIENCE_S) as client:

        def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"trickles://{HOST}:{port}{target}"
            response = client.request(method, url, content=body, follow_redirects=True)
            return response.status_code, response.content

        yield ask


@contextlib.asynccontextmanager
async def by_httpx_in_asyncio(library: Any, ours: Any, port: int) -> AsyncIterator[AskLater]:
    mounts = {"trickles://": ours.AsyncTricklesTransport()}
    async with library.AsyncClient(mounts=mounts, timeout=PATIENCE_S) as client:

        async def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"trickles://{HOST}:{port}{target}"
            response = await client.request(method, url, content=body, follow_redirects=True)
            return response.status_code, response.content

        yield ask


@contextlib.contextmanager
def by_requests(port: int) -> Iterator[Ask]:
    with requests.Session() as session:
        session.mount("trickles://", TricklesAdapter())

        def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"trickles://{HOST}:{port}{target}"
            response = session.request(method, url, data=body, timeout=PATIENCE_S)
            return response.status_code, response.content

        yield ask


@contextlib.contextmanager
def by_urllib3(port: int) -> Iterator[Ask]:
    with TricklesPoolManager() as pools:

        def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"trickles://{HOST}:{port}{target}"
            response = pools.request(method, url, body=body, timeout=PATIENCE_S)
            return response.status, response.data

        yield ask


@contextlib.contextmanager
def by_http_client(port: int) -> Iterator[Ask]:
    """It follows no redirects."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, PATIENCE_S)) as connection:
        connection.sock = create_connection((HOST, port), PATIENCE_S)

        def ask(method: str, target: str, body: bytes) -> Answer:
            connection.request(method, target, body)
            response = connection.getresponse()
            return response.status, response.read()

        yield ask


@contextlib.contextmanager
def by_urllib(port: int) -> Iterator[Ask]:
    """A connection for every request."""
    with routed({f"{HOST}:{port}"}):

        def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"http://{HOST}:{port}{target}"
            request = urllib.request.Request(url, body or None, method=method)
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, response.read()

        yield ask


def flow_to(info: tuple[Any, ...]) -> socket.socket:
    """For aiohttp, which takes sockets as it would get them from `socket.socket`."""
    return create_connection(info[4][:2])


@contextlib.asynccontextmanager
async def by_aiohttp(port: int) -> AsyncIterator[AskLater]:
    connector = aiohttp.TCPConnector(socket_factory=flow_to)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"http://{HOST}:{port}{target}"
            timeout = aiohttp.ClientTimeout(PATIENCE_S)
            async with session.request(method, url, data=body, timeout=timeout) as response:
                return response.status, await response.read()

        yield ask


@contextlib.contextmanager
def by_program(name: str, port: int) -> Iterator[Ask]:
    """curl or wget under trickles-run; a process for every request."""
    with tempfile.TemporaryDirectory() as folder:
        body_file, answer_file = Path(folder) / "body", Path(folder) / "answer"

        def ask(method: str, target: str, body: bytes) -> Answer:
            answer_file.write_bytes(b"")
            body_file.write_bytes(body)
            words = programs.request(name, method, body_file if body else None, answer_file)
            told = programs.run(*words, f"http://{HOST}:{port}{target}")
            return programs.status(told), answer_file.read_bytes()

        yield ask


@contextlib.contextmanager
def by_httpx_through_the_proxy(port: int) -> Iterator[Ask]:
    with programs.proxy() as url, httpx.Client(proxy=url, timeout=PATIENCE_S) as client:

        def ask(method: str, target: str, body: bytes) -> Answer:
            url = f"http://{HOST}:{port}{target}"
            response = client.request(method, url, content=body, follow_redirects=True)
            return response.status_code, response.content

        yield ask


@contextlib.asynccontextmanager
async def by_aiohttp_through_the_proxy(port: int) -> AsyncIterator[AskLater]:
    with programs.proxy() as proxy:
        async with aiohttp.ClientSession(proxy=proxy) as session:

            async def ask(method: str, target: str, body: bytes) -> Answer:
                url = f"http://{HOST}:{port}{target}"
                timeout = aiohttp.ClientTimeout(PATIENCE_S)
                async with session.request(method, url, data=body, timeout=timeout) as response:
                    return response.status, await response.read()

            yield ask


Asynchronous = Callable[[int], contextlib.AbstractAsyncContextManager[AskLater]]
Synchronous = Callable[[int], contextlib.AbstractContextManager[Ask]]

SYNCHRONOUS: dict[str, Synchronous] = {
    "httpx": lambda port: by_httpx(httpx, over_httpx, port),
    "httpx2": lambda port: by_httpx(httpx2, over_httpx2, port),
    "requests": by_requests,
    "urllib3": by_urllib3,
    "http.client": by_http_client,
    "urllib.request": by_urllib,
    "curl under trickles-run": lambda port: by_program("curl", port),
    "wget under trickles-run": lambda port: by_program("wget", port),
    "httpx through the proxy": by_httpx_through_the_proxy,
}
ASYNCHRONOUS: dict[str, Asynchronous] = {
    "httpx in asyncio": lambda port: by_httpx_in_asyncio(httpx, over_httpx, port),
    "httpx2 in asyncio": lambda port: by_httpx_in_asyncio(httpx2, over_httpx2, port),
    "aiohttp": by_aiohttp,
    "aiohttp through the proxy": by_aiohttp_through_the_proxy,
}


@contextlib.contextmanager
def in_a_loop(open_client: Asynchronous, port: int) -> Iterator[Ask]:
    """An asynchronous client as if it were a synchronous one, in a loop of its own."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        ask = runner.run(stack.enter_async_context(open_client(port)))

        async def asked(method: str, target: str, body: bytes) -> Answer:
            return await ask(method, target, body)

        try:
            yield lambda method, target, body: runner.run(asked(method, target, body))
        finally:
            runner.run(stack.aclose())


def client(name: str, port: int) -> contextlib.AbstractContextManager[Ask]:
    """One of the libraries, with its connections to this port."""
    if name in SYNCHRONOUS:
        return SYNCHRONOUS[name](port)
    return in_a_loop(ASYNCHRONOUS[name], port)


NAMES = [*SYNCHRONOUS, *ASYNCHRONOUS]
