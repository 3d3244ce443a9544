"""Several server processes on one port, and one process that does nothing but watch them.

    check address, secret, gateway -> worker 1 -> (ready) -> other workers -> (ready) -> gateway
    a child died, or is hung       -> started again at once; after quick deaths, a little later
    ... before it was ever ready   -> everything ends: what fails at first fails again
    SIGHUP, a changed file         -> each worker in turn: its successor is ready, then it ends
    SIGTTIN, SIGTTOU               -> one worker more, one less
    SIGINT, SIGTERM                -> SIGTERM to all, SIGKILL to what is left; the second: SIGKILL

The supervisor holds no socket and no state: the workers share the port through SO_REUSEPORT, and a
dead one's flows go on at the others meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from trickles_web.errors import UsageError
from trickles_web.net import sockets, systemd, worker
from trickles_web.net.beside import gateway_command
from trickles_web.net.children import MOST_PINGS, PING_S, PONG, READY, WORN, Child, Place
from trickles_web.net.monitoring.readings import Reading
from trickles_web.net.monitoring.tallies import Tallies
from trickles_web.net.options import Config
from trickles_web.net.reloading import Watcher
from trickles_web.net.secret import ENVIRONMENT, load_secrets
from trickles_web.net.signals import Signals

logger = logging.getLogger("trickles.error")

QUICK_DEATH_S: Final = 1.0
"""A child that lived for less died of something that may repeat: the next start waits."""
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
KILL_AFTER_S: Final = 1.5
"""Beyond a worker's own limit on its shutdown."""
CHANGED: Final = 0
"""What the watcher of files tells where signals come as their numbers."""


class Supervisor:
    """`run()` blocks until everything has ended; its result is the exit code."""

    def __init__(self, config: Config) -> None:
        if not isinstance(config.app, str) and config.static is None:
            raise UsageError("workers import the application: give it as 'module:attribute'")
        self.config = config
        self.places: list[Place] = []
        self._leaving: list[Child] = []
        """Told to end, and not gone yet."""
        self._aging: list[Place] = []
        """Workers to be replaced, one after the other."""
        self._environment: dict[str, str] = {}
        self._secrets: tuple[bytes, ...] = ()
        self._pin = ""
        self._selector = selectors.DefaultSelector()
        self._incoming: Signals
        self._tallies = Tallies()
        self._watcher = Watcher(config, self._tell_of) if config.reload else None
        self._signals = 0
        self._exit_code = 0
        self._announced = False
        self._ping_s = min(PING_S, config.timeout_worker_healthcheck / MOST_PINGS)
        self._ping_at = 0.0

    def run(self) -> int:
        """Raises UsageError when it cannot begin."""
        self._prepare()
        logger.info("Started parent process [%d]", os.getpid())
        with self.config.monitored(self._tallies.all), self._catching_signals():
            try:
                while not self._signals:
                    self._start_due()
                    self._replace_next()
                    self._look()
                    self._wait(self._next_start())
                    self._reap()
                logger.info("Shutting down")
                systemd.notify("STOPPING=1")
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
        self._secrets = load_secrets(config.service_name, config.secret_file)
        self._pin = config.identity(self._secrets[0]).pin
        if config.fd is not None:
            sock = sockets.inherited_udp(config.fd)
            host, port = sock.getsockname()[:2]
            advice = sockets.tune(sock)
            sock.detach()  # the worker's
        else:
            with sockets.bind_udp(config.host, config.port) as probe:
                host, port = config.host, probe.getsockname()[1]
                advice = sockets.tune(probe)
        if advice:
            logger.warning("%s", advice)
        gateway = config.gateway
        if gateway is not None:
            gateway_host, gateway_port = sockets.parse_listen("--gateway", gateway)
            gateway = sockets.endpoint_name(
                gateway_host, sockets.free_tcp_port("--gateway", gateway_host, gateway_port)
            )
        # The log is configured as it is here; who watches files is the supervisor alone.
        self.config = replace(
            config, host=host, port=port, gateway=gateway, reload=False, workers=config.count
        )
        self._environment = {k: v for k, v in os.environ.items() if k != ENVIRONMENT}
        for _ in range(config.count):
            self._add_worker()
        if gateway is not None:
            self.places.append(Place("Gateway", self._start_gateway))

    @property
    def _workers(self) -> list[Place]:
        return [place for place in self.places if place.name != "Gateway"]

    def _add_worker(self) -> Place:
        place = Place(f"Worker {len(self._workers) + 1}", lambda: self._start_worker(place))
        self.places.insert(len(self._workers), place)
        return place

    def _start_worker(self, place: Place) -> Child:
        alone = replace(self.config, gateway=None, metrics=None, workers=1, env_file=None)
        config = replace(alone, steered=len(self._workers))
        inherited = () if config.fd is None else (config.fd,)
        told = worker.told(config, self._secrets)
        return self._started(
            Child(place.name, worker.command, self._environment, told, inherited=inherited)
        )

    def _start_gateway(self) -> Child:
        def command(descriptor: int) -> list[str]:
            return gateway_command(self.config, self._pin, descriptor)

        return self._started(Child("Gateway", command, self._environment))

    def _started(self, child: Child) -> Child:
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        return child

    # -- life of a child ------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self.places:
            if place.now is None and self._due(place) <= now:
                place.now, place.successor = place.successor or self._begin(place), None

    def _begin(self, place: Place) -> Child | None:
        try:
            return place.start()
        except OSError as error:  # too many processes, no memory: perhaps not for long
            place.start_at = time.monotonic() + FIRST_DELAY_S
            logger.error("%s cannot be started: %s", place.name, error.strerror or error)
            return None

    def _due(self, place: Place) -> float:
        """When to start it (monotonic seconds): the first worker alone, so that a broken
        application is reported once; then the others together; then the gateway.
        """
        before = self._workers if place.name == "Gateway" else self.places[:1]
        awaited = any(p is not place and not p.ever_ready for p in before)
        return float("inf") if awaited else place.start_at

    def _replace_next(self) -> None:
        """Let the successor of one worker begin, unless there is one that does."""
        if self._aging and not any(place.successor for place in self.places):
            place = self._aging.pop(0)
            if place in self.places and place.now is not None:
                place.successor = self._begin(place)

    def _next(self, child: Child) -> bytes:
        """As `Child.heard`. What it has counted is noted."""
        message = child.heard()
        if message.startswith(PONG) and message != PONG:
            reading = Reading.unpack(message.removeprefix(PONG))
            self._tallies.heard(child.name.removeprefix("Worker "), child.pid, reading)
        return message

    def _heard(self, child: Child) -> None:
        message = self._next(child)
        if not message:
            self._selector.unregister(child.channel)  # its end; how it ended, its process tells
        place = next((p for p in self.places if child in (p.now, p.successor)), None)
        if place is None:
            return  # it is leaving
        if message == READY:
            self._is_ready(place, child)
        elif message == WORN and place not in self._aging:
            self._aging.append(place)

    def _is_ready(self, place: Place, child: Child) -> None:
        now = " now" if place.ever_ready else ""
        place.ever_ready = True
        if child is place.successor:
            place.successor = None
            self._let_go(place)
            place.now = child
        # A killed gateway takes its TCP connections along: nothing to invite anyone to.
        hint = "" if place.name == "Gateway" else f"; to try it: kill -9 {child.pid}"
        logger.info("%s is process [%d]%s%s", place.name, child.pid, now, hint)
        if not self._announced and all(p.ever_ready for p in self.places):
            self._announced = True
            gateway = f" and http://{self.config.gateway}" if self.config.gateway else ""
            logger.info(
                "Trickles running on %s://%s (UDP)%s (Press CTRL+C to quit)",
                self.config.scheme(self.config.host),
                sockets.endpoint_name(self.config.host, self.config.port),
                gateway,
            )
            logger.info("Its key for private flows is %s", self._pin)
        if self._announced and not self._aging:
            systemd.notify("READY=1")

    def _let_go(self, place: Place) -> None:
        """Who serves at this place ends, in its own time."""
        for child in (place.now, place.successor):
            if child is not None:
                child.terminate(self._patience_s)
                self._leaving.append(child)
        place.now = place.successor = None

    @property
    def _patience_s(self) -> float:
        """What a worker may take to end."""
        config = self.config
        return config.timeout_graceful_shutdown + config.shutdown_timeout_s + KILL_AFTER_S

    def _look(self) -> None:
        """Who is hung?"""
        now = time.monotonic()
        for child in self._leaving:
            if child.kill_at <= now:
                logger.warning("%s [%d] does not end; killing it", child.name, child.pid)
                child.kill_at = float("inf")
                child.kill()
        if now < self._ping_at:
            return
        self._ping_at = now + self._ping_s
        for leaving in self._leaving:
            leaving.ping()
        for serving in [p.now for p in self.places if p.now is not None and p.now.ready]:
            serving.ping()
            limit = self.config.timeout_worker_healthcheck
            if serving.hung(limit / self._ping_s):
                message = "%s [%d] gave no sign of life for %g s; killing it"
                logger.warning(message, serving.name, serving.pid, limit)
                serving.kill()

    def _reap(self) -> None:
        for gone in [child for child in self._leaving if child.code is not None]:
            self._leaving.remove(gone)
            self._forget(gone)
        for place in list(self.places):
            for child in (place.now, place.successor):
                if child is None or child.code is None:
                    continue
                self._forget(child)
                place.ever_ready = place.ever_ready or child.ready
                if child is place.successor:
                    place.successor = None
                if place.now is None or child is place.now:
                    self._died(place, child, child.code)
                else:
                    self._stays(place, place.now, child)

    def _forget(self, child: Child) -> None:
        while self._next(child):
            pass  # it may have been ready before it died, and has counted
        with contextlib.suppress(KeyError, ValueError):  # its end was heard before
            self._selector.unregister(child.channel)
        child.close()
        self._tallies.gone(child.pid)

    def _stays(self, place: Place, serving: Child, failed: Child) -> None:
        """What a successor fails of, all others would fail of, too."""
        self._aging.clear()
        message = "%s: its successor [%d] %s before it served; [%d] goes on"
        logger.error(message, place.name, failed.pid, failed.ending, serving.pid)

    def _died(self, place: Place, child: Child, code: int) -> None:
        place.now = None
        ended = (place.name, child.pid, child.ending)
        if not place.ever_ready and code != -signal.SIGKILL:
            if self._watcher is not None:
                place.start_at = float("inf")
                logger.error("%s [%d] %s before it served; waiting for a change", *ended)
                return
            if self._announced:
                self.places.remove(place)
                logger.error("%s [%d] %s before it served; it is taken away again", *ended)
                return
            logger.error("%s [%d] %s before it served; giving up", *ended)
            self._exit_code = code if code > 0 else 1
            self._signals += 1
            return
        if place.name != "Gateway":
            self._tallies.restarted(place.name.removeprefix("Worker "))
        quick = time.monotonic() - child.started < QUICK_DEATH_S or not child.ready
        place.quick_deaths = place.quick_deaths + 1 if quick else 0
        delay = 0.0
        if place.quick_deaths > 1:
            delay = min(FIRST_DELAY_S * 2 ** (place.quick_deaths - 2), LONGEST_DELAY_S)
        place.start_at = time.monotonic() + delay
        when = f"in {delay:.1f} s" if delay else "at once"
        logger.warning("%s [%d] %s; restarting it %s", *ended, when)

    # -- what it is told ------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGINT | signal.SIGTERM:
                self._signals += 1
            case signal.SIGHUP:
                self._renew()
            case signal.SIGTTIN:
                place = self._add_worker()
                logger.info("%s is added", place.name)
            case signal.SIGTTOU if len(self._workers) > 1:
                place = self._workers[-1]
                logger.info("%s is taken away", place.name)
                self._let_go(place)
                self.places.remove(place)

    def _renew(self) -> None:
        """All workers begin anew, with what the secret's file says by now."""
        try:
            self._secrets = load_secrets(self.config.service_name, self.config.secret_file)
        except UsageError as error:
            logger.error("The workers stay as they are: %s", error)
            return
        logger.info("Replacing the workers, one after the other")
        if self._announced:
            systemd.notify_reloading()
        self._replace_workers()

    def _tell_of(self, files: str) -> None:
        """From the watcher's thread."""
        logger.warning("%s changed; reloading", files)
        self._incoming.tell(CHANGED)

    def _replace_workers(self) -> None:
        self._aging = [place for place in self._workers if place.now is not None]
        for place in self._workers:
            place.start_at = min(place.start_at, time.monotonic())  # one that waited for a change

    # -- waiting and ending ---------------------------------------------------------------------

    def _next_start(self) -> float:
        """Seconds until something is due."""
        due = [self._due(place) for place in self.places if place.now is None]
        due += [child.kill_at for child in self._leaving]
        return max(0.0, min([self._ping_at, *due]) - time.monotonic())

    def _wait(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._heard(key.data)
                continue
            for number in self._incoming.come():
                if number == CHANGED:
                    self._replace_workers()
                else:
                    self._signalled(number)

    @contextlib.contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """And changes of files, if there is somebody who watches them."""
        self._incoming = Signals()
        with self._incoming.caught():
            self._selector.register(self._incoming, selectors.EVENT_READ)
            if self._watcher is not None:
                self._watcher.start()
            try:
                yield
            finally:
                if self._watcher is not None:
                    self._watcher.stop()
                self._selector.close()

    def _end(self) -> None:
        """SIGTERM for all, and time to end cleanly: the gateway carries the workers' last words."""
        signals, deadline = self._signals, time.monotonic() + self._patience_s
        gateways = [place for place in self.places if place.name == "Gateway"]
        for ending in (self._workers, gateways):
            for place in ending:
                self._let_go(place)
            while self._leaving:
                left = deadline - time.monotonic()
                if left <= 0 or self._signals > signals:
                    logger.warning("Not waiting any longer; killing what is left")
                    return
                self._wait(left)
                self._reap()

    def _kill(self) -> None:
        for place in self.places:
            self._leaving += [c for c in (place.now, place.successor) if c is not None]
        for child in self._leaving:
            child.close()
