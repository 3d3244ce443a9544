"""What there is to say of a long transfer, up or down: bytes, memory, and whom it outlived."""

from __future__ import annotations

from dataclasses import dataclass, field

from loadtest.owners import peak_mb, workers
from loadtest.processes import Process, Replica
from loadtest.report import Report

MOST_MB = 200
"""Target for the client, the gateway and each worker, whatever the size of the body."""
LOOK_S = 0.05
"""Between two looks at memory."""


@dataclass(slots=True)
class Transfer:
    """One of them; a table has a row for each."""

    direction: str
    client: str
    megabytes: int
    server: Replica
    process: Process
    """The client's."""
    gateway: Process | None
    same: bool = False
    """SHA-256 equal."""
    complaint: str = ""
    kills: int = 0
    """Of the owner of the request or response."""
    seconds: float = 0.0
    _look_at: float = 0.0
    _peaks: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("client", "gateway", "worker"), 0.0)
    )

    def look(self, now: float) -> None:
        """Note the memory of all; what a process needs only at its very end may be missed."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        self._note("client", self.process.pid)
        if self.gateway is not None:
            self._note("gateway", self.gateway.pid)
        for pid in workers(self.server):
            self._note("worker", pid)

    def _note(self, role: str, pid: int) -> None:
        self._peaks[role] = max(self._peaks[role], peak_mb(pid))

    def judge(self, report: Report, kills: int) -> None:
        """Of `kills` wanted."""
        report.add(
            {
                "direction": self.direction,
                "client": self.client,
                "MB": self.megabytes,
                "kills of the owner": self.kills,
                "seconds": self.seconds,
                "MB/s": self.megabytes / self.seconds,
                **{f"{role} peak MB": peak for role, peak in self._peaks.items()},
                "SHA-256 equal": self.same,
                "complaint": self.complaint.strip().rpartition("\n")[2][:100] or "-",
            }
        )
        what = f"{self.megabytes} MB {self.direction} by {self.client}"
        report.check(self.same, f"{what}: the right bytes")
        report.check(not self.complaint, f"{what}: no complaint of the client")
        report.check(self.kills == kills, f"{what}: the owner is killed {kills} times")
        for role, peak in self._peaks.items():
            report.check(peak < MOST_MB, f"{what}: {role} below {MOST_MB} MB")
