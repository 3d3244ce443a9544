"""What an application call needs of the service around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.files import FileResponse, Files
    from trickles_web.http.names import Names
    from trickles_web.http.responses import Finished
    from trickles_web.http.run import Run


class Host(Protocol):
    """The service, as a run sees it."""

    config: HttpConfig
    files: Files
    names: Names

    def ready(self, run: Run) -> None:
        """A parked request can be answered now."""
        ...

    def grown(self, run: Run) -> int:
        """`run.size` changed; returns how many bytes the run may hold before it has to wait."""
        ...

    def produced(self, run: Run) -> None:
        """More of the response exists, and may go where it outlives this process."""
        ...

    def completed(self, run: Run, response: Finished | FileResponse) -> None:
        """All bytes of the response exist, or it failed."""
        ...

    def ended(self, run: Run) -> None:
        """The call has returned."""
        ...

    def started(self, run: Run, status: int) -> None:
        """The response's status is known, 101 for an accepted WebSocket."""
        ...

    def now(self) -> int:
        """Wall-clock ms."""
        ...
