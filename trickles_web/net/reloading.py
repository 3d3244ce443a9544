"""--reload: begin anew when a file changes."""

from __future__ import annotations

import fnmatch
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trickles_web.errors import UsageError

if TYPE_CHECKING:
    from watchfiles import Change

    from trickles_web.net.options import Config

INCLUDED: Final = ("*.py",)
EXCLUDED: Final = (".*", ".py[cod]", ".sw.*", "~*")
"""uvicorn's."""


class Watcher:
    """Watches the directories of a configuration in a thread, from `start` on until `stop`."""

    def __init__(self, config: Config, changed: Callable[[str], None]) -> None:
        """changed(files): called in that thread. Raises UsageError."""
        try:
            import watchfiles
        except ImportError:
            raise UsageError("--reload: pip install 'trickles-web[standard]'") from None
        self._watch = watchfiles.watch
        self._changed = changed
        self.directories = [Path(name).resolve() for name in config.reload_dirs or (".",)]
        for directory in self.directories:
            if not directory.is_dir():
                raise UsageError(f"--reload-dir {directory}: no such directory")
        self._delay_ms = max(1, round(config.reload_delay * 1000))
        self._included = (*INCLUDED, *config.reload_includes)
        usual = [glob for glob in EXCLUDED if glob not in config.reload_includes]
        self._excluded = (*usual, *config.reload_excludes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def counts(self, path: Path) -> bool:
        """Does a change of this file matter?"""
        parents = [d for d in self.directories if path.is_relative_to(d)]
        inside = [part for d in parents for part in path.relative_to(d).parts]
        for glob in self._excluded:
            excluded = Path(glob)
            if any(fnmatch.fnmatch(part, glob) for part in inside):
                return False
            if excluded.is_dir() and path.is_relative_to(excluded.resolve()):
                return False
        return any(fnmatch.fnmatch(path.name, glob) or path.match(glob) for glob in self._included)

    def _filter(self, change: Change, path: str) -> bool:
        return self.counts(Path(path))

    def _run(self) -> None:
        for changes in self._watch(
            *self.directories,
            watch_filter=self._filter,
            debounce=self._delay_ms,
            step=min(50, self._delay_ms),
            stop_event=self._stop,
            raise_interrupt=False,
        ):
            here = os.getcwd()
            names = sorted({os.path.relpath(path, here) for _, path in changes})
            self._changed(", ".join(f"'{name}'" for name in names))
