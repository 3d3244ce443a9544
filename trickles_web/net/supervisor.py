"""Several server processes on one port, and one process that does nothing but watch them.

    check address, secret, gateway -> worker 1 -> (ready) -> other workers -> (ready) -> gateway
    a child died                   -> started again at once; after quick deaths, a little later
    ... before it was ever ready   -> everything ends: what fails at first fails again
    SIGINT, SIGTERM                -> SIGTERM to all, SIGKILL to what is left; the second: SIGKILL

Children are fresh interpreters in process groups of their own, so that a Ctrl-C reaches them once,
through here. The kernel kills them if this process dies. The supervisor holds no socket and no
state: the workers share the port through SO_REUSEPORT, and a dead one's flows go on at the others
meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from trickles_web.errors import BindError, UsageError
from trickles_web.net.options import Config
from trickles_web.net.secret import ENVIRONMENT, load_secret
from trickles_web.net.sockets import bind_udp, endpoint_name, inherited_udp, parse_listen, tune

logger = logging.getLogger("trickles.error")

PR_SET_PDEATHSIG = 1
QUICK_DEATH_S = 1.0
"""A child that lived for less died of something that may repeat: the next start waits."""
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
KILL_AFTER_S = 1.5
"""Beyond a worker's own limit on its shutdown."""

_OPTION_VARIABLES = [
    f"TRICKLES_{option}"
    for option in (
        *("APP", "APP_DIR", "STATIC", "HOST", "PORT", "FD", "WORKERS", "GATEWAY", "SECRET_FILE"),
        *("ACCESS_LOG", "LOG_LEVEL", "USE_COLORS", "LIFESPAN", "LOOP", "INTERFACE", "FACTORY"),
        *("THREADS", "HTTP", "WS", "WS_MAX_SIZE", "WS_PER_MESSAGE_DEFLATE", "REQUEST_BUFFERING"),
        *("PROXY_HEADERS", "FORWARDED_ALLOW_IPS", "STORE", "PEER", "LIMIT_REQUEST_BODY"),
        *("TIMEOUT_GRACEFUL_SHUTDOWN", "FILE_IDENTITY", "NEVER_RERUN", "RERUN", "ROOT_PATH"),
        *("STEERING", "PREFERRED_ADDRESS"),
    )
]
"""Not for the children: they get all but the store as arguments, and TRICKLES_WORKERS would make
supervisors."""


def free_tcp_port(host: str, port: int) -> int:
    """The port, or one that is free for 0. Raises BindError if it cannot be listened on."""
    name = f"TCP {endpoint_name(host, port)}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(1)  # REUSEADDR lets two bind; only one may listen
            chosen: int = sock.getsockname()[1]
            return chosen
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise BindError(
                f"{name} is in use by another process; choose another --gateway or stop it"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise BindError(f"{name}: {reason}; choose another --gateway") from None


class Child:
    """One process that is kept alive."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        environment: dict[str, str],
        secret: bytes = b"",
    ) -> None:
        self.name = name
        self.command = command
        """The command line, given the descriptor of its end of the channel: it reads the secret
        from there, and reports there that it is ready."""
        self.environment = environment
        self.secret = secret
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.ready = False
        self.ever_ready = False
        self.quick_deaths = 0
        self.start_at = 0.0
        self.channel = -1

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0


class Supervisor:
    """`run()` blocks until everything has ended; its result is the exit code."""

    def __init__(self, config: Config) -> None:
        if not isinstance(config.app, str) and config.static is None:
            raise UsageError("workers import the application: give it as 'module:attribute'")
        self.config = config
        self.children: list[Child] = []
        self._waiting: list[Child] = []
        """Not started yet: each starts when all before it are ready."""
        self._selector = selectors.DefaultSelector()
        self._signals = 0
        self._exit_code = 0
        self._announced = False
        # Loaded here, because a child between fork and exec should not load libraries.
        self._libc = ctypes.CDLL(None, use_errno=True)

    def run(self) -> int:
        """Raises UsageError when it cannot begin."""
        self._prepare()
        logger.info("Started parent process [%d]", os.getpid())
        with self._catching_signals():
            try:
                while not self._signals:
                    self._start_due()
                    self._wait(self._next_start())
                    self._reap()
                logger.info("Shutting down")
                self._end()
            finally:
                self._kill()  # also when something here raised
        logger.info("Finished parent process [%d]", os.getpid())
        return self._exit_code

    # -- before the start -----------------------------------------------------------------------

    def _prepare(self) -> None:
        """Finds the mistakes that every child would report, and settles what must be the same for
        all.
        """
        config = self.config
        secret = load_secret(config.service_name, config.secret_file)
        if config.fd is not None:
            sock = inherited_udp(config.fd)
            host, port = sock.getsockname()[:2]
            advice = tune(sock)
            sock.detach()  # the worker's
        else:
            with bind_udp(config.host, config.port) as probe:
                host, port = config.host, probe.getsockname()[1]
                advice = tune(probe)
        if advice:
            logger.warning("%s", advice)
        if config.gateway is not None:
            gateway_host, gateway_port = parse_listen("--gateway", config.gateway)
            gateway_port = free_tcp_port(gateway_host, gateway_port)
            gateway = endpoint_name(gateway_host, gateway_port)
        else:
            gateway = None
        self.config = replace(config, host=host, port=port, gateway=gateway)
        removed = {ENVIRONMENT, *_OPTION_VARIABLES}
        environment = {k: v for k, v in os.environ.items() if k not in removed}
        # A store's name may hold a password, and arguments are for every user to read.
        worker = environment | {"TRICKLES_STORE": config.store}
        for number in range(1, config.workers + 1):
            self.children.append(Child(f"Worker {number}", self._worker_command, worker, secret))
        if gateway is not None:
            self.children.append(Child("Gateway", self._gateway_command, environment))
        self._waiting = list(self.children)

    def _worker_command(self, ready: int) -> list[str]:
        config = self.config
        steered = config.workers if config.workers > 1 else 0
        options = {
            "--host": config.host,
            "--port": str(config.port),
            "--fd": None if config.fd is None else str(config.fd),
            "--workers": "1",
            "--static": config.static,
            "--app-dir": config.app_dir or None,
            "--root-path": config.root_path or None,
            "--lifespan": config.lifespan,
            "--loop": config.loop,
            "--interface": config.interface,
            "--threads": str(config.threads),
            "--http": config.http,
            "--ws": config.ws,
            "--ws-max-size": str(config.ws_max_size),
            "--ws-per-message-deflate": str(config.ws_per_message_deflate),
            "--forwarded-allow-ips": config.forwarded_allow_ips,
            "--peer": config.peer,
            "--preferred-address": config.preferred_address,
            "--limit-request-body": str(config.limit_request_body),
            "--file-identity": config.file_identity,
            "--rerun": config.rerun,
            "--log-level": config.log_level,
            "--timeout-graceful-shutdown": str(config.timeout_graceful_shutdown),
            "--steering": config.steering,
            "--child": f"{ready}:{steered}",
        }
        command = [sys.executable, "-m", "trickles_web.cli.serve"]
        command += [f"{name}={value}" for name, value in options.items() if value is not None]
        command += [f"--never-rerun={glob}" for glob in config.never_rerun]
        command.append("--access-log" if config.access_log else "--no-access-log")
        if config.factory:
            command.append("--factory")
        if not config.proxy_headers:
            command.append("--no-proxy-headers")
        if not config.request_buffering:
            command.append("--no-request-buffering")
        if config.use_colors is not None:
            command.append("--use-colors" if config.use_colors else "--no-use-colors")
        return command + ([] if config.static is not None else ["--", config.app])

    def _gateway_command(self, ready: int) -> list[str]:
        config = self.config
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
        return [
            sys.executable,
            "-m",
            "trickles_web.cli.gateway",
            f"--listen={config.gateway}",
            f"--loop={config.loop}",
            f"--log-level={config.log_level}",
            f"--child={ready}",
            f"trickles://{endpoint_name(host, config.port)}",
        ]

    # -- life of a child ------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None and child not in self._waiting and child.start_at <= now:
                self._start(child)
        # The first worker alone, so that a broken application is reported once; then the others
        # together.
        first = self.children[0]
        while self._waiting:
            child = self._waiting[0]
            others = [c for c in self.children if c.name.startswith("Worker") and c is not child]
            held = others if child.name == "Gateway" else [first]
            if child is not first and not all(c.ever_ready for c in held):
                break
            self._start(self._waiting.pop(0))

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        if child.secret:
            ours.send(child.secret)
        parent = os.getpid()

        def die_with_parent() -> None:
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

        inherited = [theirs.fileno()]
        if self.config.fd is not None:
            inherited.append(self.config.fd)
        child.process = subprocess.Popen(
            child.command(theirs.fileno()),
            env=child.environment,
            pass_fds=inherited,
            process_group=0,
            preexec_fn=die_with_parent,  # no threads here
        )
        theirs.close()
        child.channel = ours.detach()
        child.started = time.monotonic()
        child.ready = False
        self._selector.register(child.channel, selectors.EVENT_READ, child)

    def _heard(self, child: Child) -> None:
        """Its channel says `ready`, or its end that the child is gone."""
        with contextlib.suppress(ConnectionResetError):  # it died before it read the secret
            if os.read(child.channel, 64):
                self._is_ready(child)
        self._drop_channel(child)

    def _drop_channel(self, child: Child) -> None:
        if child.channel >= 0:
            self._selector.unregister(child.channel)
            os.close(child.channel)
            child.channel = -1

    def _is_ready(self, child: Child) -> None:
        again = child.ever_ready
        child.ready = child.ever_ready = True
        now = " now" if again else ""
        # A killed gateway takes its TCP connections along: nothing to invite anyone to.
        hint = "" if child.name == "Gateway" else f"; to try it: kill -9 {child.pid}"
        logger.info("%s is process [%d]%s%s", child.name, child.pid, now, hint)
        if not self._announced and all(c.ever_ready for c in self.children):
            self._announced = True
            gateway = f" and http://{self.config.gateway}" if self.config.gateway else ""
            logger.info(
                "Trickles running on trickles://%s (UDP)%s (Press CTRL+C to quit)",
                endpoint_name(self.config.host, self.config.port),
                gateway,
            )

    def _reap(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                continue
            code = child.process.poll()
            if code is not None:
                if child.channel >= 0 and not child.ready:
                    self._heard(child)  # it may have been ready before it died
                self._drop_channel(child)
                self._died(child, code, now)

    def _died(self, child: Child, code: int, now: float) -> None:
        pid = child.pid
        child.process = None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if not child.ever_ready and code != -signal.SIGKILL:
            logger.error("%s [%d] %s before it served; giving up", child.name, pid, how)
            self._exit_code = code if code > 0 else 1
            self._signals += 1
            return
        quick = now - child.started < QUICK_DEATH_S or not child.ready
        child.quick_deaths = child.quick_deaths + 1 if quick else 0
        delay = 0.0
        if child.quick_deaths > 1:
            delay = min(FIRST_DELAY_S * 2 ** (child.quick_deaths - 2), LONGEST_DELAY_S)
        child.start_at = now + delay
        when = f"in {delay:.1f} s" if delay else "at once"
        logger.warning("%s [%d] %s; restarting it %s", child.name, pid, how, when)

    # -- waiting and ending ---------------------------------------------------------------------

    def _next_start(self) -> float | None:
        """Seconds until something is due; None: nothing but events."""
        now = time.monotonic()
        due = [c.start_at for c in self.children if c.process is None and c not in self._waiting]
        return max(0.0, min(due) - now) if due else None

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._heard(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    for number in key.fileobj.recv(4096):  # type: ignore[union-attr]
                        self._signals += number in (signal.SIGINT, signal.SIGTERM)

    @contextlib.contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Signals become bytes on a socket that the selector watches, SIGCHLD too."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            before = {number: signal.signal(number, lambda *_: None) for number in numbers}
            wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            self._selector.register(ours, selectors.EVENT_READ)
            try:
                yield
            finally:
                self._selector.close()
                signal.set_wakeup_fd(wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _end(self) -> None:
        """SIGTERM for all, and time to end cleanly: the gateway carries the workers' last words."""
        signals = self._signals
        limits = self.config.timeout_graceful_shutdown + self.config.shutdown_timeout_s
        deadline = time.monotonic() + limits + KILL_AFTER_S
        for last in (False, True):
            ending = [child for child in self.children if (child.name == "Gateway") is last]
            for child in ending:
                if child.process is not None:
                    child.process.terminate()
            while any(c.process is not None for c in ending):
                left = deadline - time.monotonic()
                if left <= 0 or self._signals > signals:
                    logger.warning("Not waiting any longer; killing what is left")
                    return
                self._wait(left)
                for child in self.children:
                    if child.process is not None and child.process.poll() is not None:
                        self._drop_channel(child)
                        child.process = None

    def _kill(self) -> None:
        for child in self.children:
            if child.process is not None:
                child.process.kill()
                child.process.wait()
                child.process = None
            if child.channel >= 0:
                os.close(child.channel)
                child.channel = -1
