"""A simulation, from the test's process: it is begun, and at its end tells its story."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from trickles_web.errors import LifespanFailed, TricklesError
from trickles_web.net.application import import_application
from trickles_web.testing import nursery
from trickles_web.testing.frames import Frame, packed, read_frame
from trickles_web.testing.story import Story
from trickles_web.testing.world import Settings, World


class SimulationBroke(TricklesError):
    """The process of the simulation has ended by itself; what it printed says why."""


class Simulation:
    """Runs from its making to `close`."""

    def __init__(self, app: Any, settings: Settings) -> None:
        """app: the application, or "module:attribute", which is imported here.

        Raises LifespanFailed, and UsageError for a name that cannot be imported.
        """
        began = time.perf_counter()
        if isinstance(app, str):
            app = import_application(app)
        self.settings = settings
        self.story = Story(settings.seed)
        # Below the folder of temporary files, because the path of a socket must be short.
        self._directory = Path(tempfile.mkdtemp(prefix="trickles-"))
        self._control, theirs = socket.socketpair()
        self._pid = nursery.fork_afresh(lambda: self._be_nursery(app, theirs))
        theirs.close()
        self._open = True
        try:
            kind, *rest = self._hear()
        except SimulationBroke:
            self._reap()
            raise
        if kind == "failed":
            self._reap()
            raise LifespanFailed(f"the application did not start: {rest[0]}")
        self.seconds = time.perf_counter() - began
        """What it took to begin, and later to end."""

    @property
    def path(self) -> str:
        """Of the Unix socket, for HTTP clients."""
        return str(self._directory / "http")

    def close(self) -> None:
        """End it, and get its story. Raises SimulationBroke."""
        if not self._open:
            return
        began = time.perf_counter()
        try:
            self._control.sendall(packed("end"))
            self.story = self._hear()[1]
        except ConnectionError as error:
            raise SimulationBroke(str(error)) from None
        finally:
            self._reap()
        self.seconds += time.perf_counter() - began

    def _hear(self) -> Frame:
        frame = read_frame(self._control)
        if frame is None:
            raise SimulationBroke("the process of the simulation has ended; see what it printed")
        return frame

    def _reap(self) -> None:
        self._open = False
        self._control.close()
        os.waitpid(self._pid, 0)

    # In the children

    def _be_nursery(self, app: Any, control: socket.socket) -> None:
        self._control.close()
        world, requests = socket.socketpair()
        nursery.fork(lambda: self._be_world(control, world, requests))
        control.close()
        world.close()
        nursery.tend(app, requests)
        # Here, because a test that is killed would leave it.
        shutil.rmtree(self._directory, ignore_errors=True)

    def _be_world(
        self, control: socket.socket, world: socket.socket, requests: socket.socket
    ) -> None:
        requests.close()
        World(self.settings, self._directory, world).serve(control)
