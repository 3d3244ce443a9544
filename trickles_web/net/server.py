"""One server process: configuration, wiring, signals, start and end.

    Config -> Server.run -> bind, secret, application
                            lifespan startup -> endpoint -> (SIGINT, SIGTERM, should_exit)
                            endpoint closed -> lifespan shutdown, at most 5 s

Ending is at once: what is in flight goes on at the next process, so there is nothing to drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from secrets import randbelow
from typing import Any

from trickles_web.config import HttpConfig, TransportConfig
from trickles_web.credentials import Identity
from trickles_web.errors import LifespanFailed
from trickles_web.http.names import NAME_KEY_BYTES, Names
from trickles_web.http.service import Service
from trickles_web.net import stores, systemd
from trickles_web.net.complaints import complain
from trickles_web.net.endpoint import Endpoint, wall_clock_ms
from trickles_web.net.forks import parted_by_forks
from trickles_web.net.monitoring.readings import Reading, read
from trickles_web.net.monitoring.tallies import Tally, alone
from trickles_web.net.options import Config, loop_factory
from trickles_web.net.secret import load_secrets
from trickles_web.net.sockets import endpoint_name
from trickles_web.net.udp import UdpSocket
from trickles_web.transport.keys import Keyring, derived
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.server import Server as TransportServer

logger = logging.getLogger("trickles.error")

STARTUP_FAILURE = 3
"""Exit code when the application refuses to start, as uvicorn's."""
YOUNG_OBJECTS = 10_000
"""New containers before the garbage collector looks at them: a request makes some dozens, most of
which are gone before the next."""

LAST_WORDS_S = 0.25
"""A client that was about to ask when there was something to be told comes within this."""


class Server:
    """One process that serves. `run()` blocks; `serve()` is for a loop that is running already.

    `on_started` is called when it serves, instead of the banner; `on_worn` when it has called the
    application as often as it is to, instead of the end. Set `should_exit` to end it, from
    any thread; `force_exit` too, not to wait for the application. `clock`: wall-clock ms.
    """

    def __init__(
        self,
        config: Config,
        *,
        secrets: Sequence[bytes] = (),
        on_started: Callable[[], None] | None = None,
        on_worn: Callable[[], None] | None = None,
        clock: Callable[[], int] = wall_clock_ms,
        transport: TransportConfig | None = None,
    ) -> None:
        """secrets: master secrets, of which the first seals; loaded when it serves if not given."""
        self.config = config
        self._clock = clock
        self._transport = transport or TransportConfig()
        self.started = False
        self.exit_code = 0
        self.address = (config.host, config.port)
        """What it is bound to, once that is known."""
        self.endpoint: Endpoint | None = None
        self._identity: Identity
        self._secrets = secrets
        self._on_started = on_started
        self._on_worn = on_worn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read: Callable[[], Reading] | None = None
        self._should_exit = self._force_exit = self._owns_process = False
        self._stop = asyncio.Event()
        self._force = asyncio.Event()

    @property
    def should_exit(self) -> bool:
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        self._wake()

    def counted(self) -> bytes:
        """What was counted so far, packed, and b"" before it serves. From any thread."""
        return b"" if self._read is None else self._read().pack()

    def _tallies(self) -> list[Tally]:
        return [] if self._read is None else alone(os.getpid(), self._read())

    def _wake(self) -> None:
        """Both may be set from another thread, as uvicorn's can; events may not."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notice)

    def _notice(self) -> None:
        if self._should_exit:
            self._stop.set()
        if self._force_exit:
            self._force.set()

    def run(self) -> int:
        """Serves until told to end; the exit code. Raises UsageError."""
        self._owns_process = True
        with asyncio.Runner(loop_factory=loop_factory(self.config.loop)) as runner:
            runner.run(self.serve())
        return self.exit_code

    async def serve(self) -> None:
        """Raises UsageError when it cannot begin; sets `exit_code`."""
        config = self.config
        self._loop = asyncio.get_running_loop()
        self._notice()
        with contextlib.ExitStack() as stack:
            # Bound first: what arrives during a slow import waits in the socket's buffer. A worker
            # that shares the port binds last instead, and meanwhile the others serve its flows.
            sock = None if config.steered else self._bind(stack)
            if sock is not None:
                self.address = sock.getsockname()[:2]
            stack.enter_context(config.monitored(self._tallies))
            secrets = self._secrets or load_secrets(config.service_name, config.secret_file)
            application = config.load_application()
            stack.enter_context(self._signals())
            await self._serve(stack, sock, secrets, application)

    def _bind(self, stack: contextlib.ExitStack) -> socket.socket:
        sock = self.config.bind()
        stack.callback(sock.close)
        return sock

    async def _serve(
        self,
        stack: contextlib.ExitStack,
        sock: socket.socket | None,
        secrets: Sequence[bytes],
        application: Any,
    ) -> None:
        logger.info("Started server process [%d]", os.getpid())
        http = self.config.http_config()
        opened = stores.open_store(
            self.config.store,
            http,
            self.config.service_name,
            self.address,
            secrets=secrets,
            peer=self.config.peer,
            tmpfs="tmpfs" not in self.config.without,
            clock=self._clock,
        )
        service, transport = self._layers(stack, secrets, application, http, opened.store)
        await opened.start(self._on_ready, transport.renewed)
        try:
            if await self._startup(service):
                await self._answer(service, transport, sock or self._bind(stack), opened)
        finally:
            await opened.close()

    async def _answer(
        self,
        service: Service,
        transport: TransportServer,
        sock: socket.socket,
        opened: stores.Opened,
    ) -> None:
        """Serve until told to end."""
        loop = asyncio.get_running_loop()
        without = self.config.without
        udp = UdpSocket(sock, loop, gso="gso" not in without, gro="gro" not in without)
        self.address = udp.address
        endpoint = self.endpoint = Endpoint(
            transport, service, udp, loop, self._clock, forwarding=opened.relay
        )
        self._read = partial(read, udp, endpoint, transport, service.runner, opened.store)
        if self._owns_process:
            # What is there by now stays: collections need not look at it again, each time.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS)
        if self.config.limit_max_requests is not None:
            most = self.config.limit_max_requests
            most += randbelow(self.config.limit_max_requests_jitter + 1)
            service.runner.calls.expect(most, lambda: self._worn(most))
        endpoint.start()
        self.started = True
        self._announce(udp.advice)
        complaining = loop.create_task(complain(endpoint.counters))
        await self._stop.wait()
        complaining.cancel()
        if self._on_started is None:  # else it is the supervisor's to say
            logger.info("Shutting down")
            systemd.notify("STOPPING=1")
        if await self._drain(service):
            await asyncio.sleep(LAST_WORDS_S)
        await endpoint.flush()
        endpoint.close()
        await self._shutdown(service)
        logger.debug("Counters: %s", dict(sorted(endpoint.counters().items())))
        logger.info("Finished server process [%d]", os.getpid())

    def _layers(
        self,
        stack: contextlib.ExitStack,
        secrets: Sequence[bytes],
        application: Any,
        http_config: HttpConfig,
        store: stores.AnyStore,
    ) -> tuple[Service, TransportServer]:
        """All between the application and the socket."""
        config, name = self._transport, self.config.service_name
        cleartext = self.config.cleartext(self.address[0])
        config = replace(config, preferred=self.config.preferred, cleartext=cleartext)
        keyring = Keyring(secrets, name, config.rotation_ms, os.urandom)
        self._identity = identity = self.config.identity(secrets[0])
        privacy = Privacy(keyring, identity.credentials, os.urandom, self.config.exchanges)
        transport = TransportServer(
            config,
            stack.enter_context(parted_by_forks(keyring)),
            ReplayFilter(
                config.replay_capacity, config.replay_horizon_ms + 2 * config.clock_skew_ms
            ),
            int.from_bytes(os.urandom(4), "big"),
            os.urandom,
            store.id,
            stack.enter_context(parted_by_forks(privacy)),
        )
        service = Service(
            application,
            http_config,
            store,
            on_ready=self._on_ready,
            clock=self._clock,
            names=Names([derived(s, name, "response", 0, NAME_KEY_BYTES) for s in secrets]),
            server=self.address,
            open_to_strangers=self.config.static is not None,
        )
        return service, transport

    def _worn(self, most: int) -> None:
        """The application was called so often."""
        logger.warning("Maximum request limit of %d exceeded. Terminating process.", most)
        if self._on_worn is not None:
            self._on_worn()  # when its successor serves it will be told to end
        else:
            self.should_exit = True

    def _on_ready(self, incarnation: int) -> None:
        if self.endpoint is not None:
            self.endpoint.on_ready(incarnation)

    # -- start and end --------------------------------------------------------------------------

    async def _startup(self, service: Service) -> bool:
        """Whether the application has started; ended early by a signal counts as not."""
        starting = asyncio.ensure_future(service.startup())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,), timeout=self.config.shutdown_timeout_s)
            if starting.done() and not starting.cancelled():
                starting.exception()  # looked at, so that asyncio does not report it
            return False
        try:
            starting.result()
        except LifespanFailed:  # the lifespan has said why
            self.exit_code = STARTUP_FAILURE
            return False
        return True

    def _announce(self, advice: str) -> None:
        if self._on_started is not None:
            self._on_started()
            return
        logger.info(
            "Trickles running on %s://%s (UDP) (Press CTRL+C to quit)",
            self.config.scheme(self.address[0]),
            endpoint_name(*self.address),
        )
        logger.info("Its key for private flows is %s", self._identity.pin)
        if advice:
            logger.warning("%s", advice)
        logger.info("To try it: kill -9 %d, start it again, and transfers go on", os.getpid())
        systemd.notify("READY=1")

    async def _drain(self, service: Service) -> bool:
        """Let what runs come to its end, unless told to end at once; was there anything?"""
        calls = len(service.runner.calls.runs)
        if calls:
            logger.info("Waiting for %d calls to complete. (CTRL+C to force quit)", calls)
        draining = asyncio.ensure_future(service.drain(self.config.timeout_graceful_shutdown))
        forced = asyncio.ensure_future(self._force.wait())
        await asyncio.wait((draining, forced), return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not draining.done():
            draining.cancel()
            return False
        waited, left = draining.result()
        if left:
            logger.error("Cancel %d running calls, timeout graceful shutdown exceeded", left)
        return waited

    async def _shutdown(self, service: Service) -> None:
        ending = asyncio.ensure_future(service.shutdown())
        forced = asyncio.ensure_future(self._force.wait())
        await asyncio.wait(
            (ending, forced),
            timeout=self.config.shutdown_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        forced.cancel()
        if not ending.done():
            logger.warning("The application's shutdown takes too long; ending without it")
            ending.cancel()
            await asyncio.wait((ending,), timeout=1.0)
        elif not ending.cancelled() and ending.exception() is not None:
            logger.error("Application shutdown failed.", exc_info=ending.exception())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the process; a second one forces it."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        handled = []
        for number in numbers:
            # Only the main thread may; in another one the owner sets `should_exit`.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self._signalled)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _signalled(self) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
