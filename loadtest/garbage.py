"""Scenario: hostile datagrams at a live server that serves a real client meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import statistics
import threading
from dataclasses import dataclass, field

from apps.large_files import MEGABYTE, megabyte
from loadtest.attack import Attack, record
from loadtest.processes import Replica, Stage, counters, free_udp_port
from loadtest.report import Options, Report
from trickles_web.client import open_connection
from trickles_web.client.tokens import TokenStore

FILE_MEGABYTES = 3
UPLOAD_BYTES = 400_000
MOST_AMPLIFICATION = 3.0
CLIENT_PATIENCE_S = 60.0
UNVALIDATED = [f"127.0.0.{n}" for n in range(2, 10)]
"""Addresses that never echoed a continuation: what they get must be bounded by what they send."""
VALIDATED = "127.0.0.1"
"""The honest client's address, where an attacker sits, too."""


@dataclass(slots=True)
class Honest:
    """A real client that downloads and uploads until told to stop."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    downloads: int = 0
    uploads: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)

    def run(self) -> None:
        """To be run in a thread."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        tokens = TokenStore(None)
        whole = b"".join(megabyte(n) for n in range(FILE_MEGABYTES))
        while not self.stop.is_set():
            try:
                async with asyncio.timeout(CLIENT_PATIENCE_S):
                    body = await self._ask(f"GET /files/{FILE_MEGABYTES}.bin", b"", tokens)
                    self.wrong += body != whole
                    self.downloads += 1
                    sent = os.urandom(UPLOAD_BYTES)
                    answer = await self._ask("POST /upload", sent, tokens)
                    self.wrong += hashlib.sha256(sent).hexdigest().encode() not in answer
                    self.uploads += 1
            except (OSError, EOFError, ValueError) as error:
                self.errors.append(repr(error))

    async def _ask(self, line: str, body: bytes, tokens: TokenStore) -> bytes:
        reader, writer = await open_connection("127.0.0.1", self.port, tokens=tokens)
        try:
            head = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answered = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)^content-length: (\d+)\r$", answered, re.MULTILINE)
            if not answered.startswith(b"HTTP/1.1 200 ") or length is None:
                raise ValueError(answered.partition(b"\r\n")[0].decode("latin-1"))
            return await reader.readexactly(int(length[1]))
        finally:
            writer.close()


def run(options: Options) -> Report:
    seconds = 5.0 if options.quick else 60.0
    report = Report()
    with Stage() as stage:
        port = free_udp_port()
        arguments = ("apps.site:app", "--port", str(port), "--log-level", "debug")
        server = Replica(stage, "server", *arguments)
        server.ready()
        honest = Honest(port)
        attack = assault(port, honest, seconds, options.seed, 300 if options.quick else 3_000)
        report.check(server.process.popen.poll() is None, "the server lives")
        code = server.process.end()
        log = server.log
    _judge(report, attack, honest, code, log)
    return report


def assault(port: int, honest: Honest, seconds: float, seed: int, shots: int) -> Attack:
    """Attack the server on this port for so long, then with single shots.

    Meanwhile the honest client goes about its work.
    """
    chance = random.Random(seed)
    recorded = record(("127.0.0.1", port), b"/files/1.bin", MEGABYTE)
    sources = [*UNVALIDATED, VALIDATED, VALIDATED]
    with Attack(("127.0.0.1", port), sources, recorded, chance) as attack:
        client = threading.Thread(target=honest.run)
        client.start()
        try:
            attack.run(seconds)
            attack.shots(shots)
        finally:
            honest.stop.set()
            client.join()
    return attack


def _judge(report: Report, attack: Attack, honest: Honest, code: int, log: str) -> None:
    for kind, count in sorted(attack.sent.items()):
        most = attack.shot_peaks.get(kind, 0.0)
        figure = f"one brings back {most:.2f} of its bytes at most"
        verdict = "held" if most <= MOST_AMPLIFICATION else "MISSED"
        report.attack(f"datagrams: {kind}", count, figure, verdict)
    unvalidated = [attack.amplification(address) for address in UNVALIDATED]
    peak = max(attack.peak(address) for address in UNVALIDATED)
    figures = report.figures
    figures["replies to attackers, bytes"] = attack.received
    figures["amplification in the flood, unvalidated addresses, mean"] = sum(unvalidated) / len(
        unvalidated
    )
    figures["... highest of an address"] = max(unvalidated)
    figures["... highest of an address at any moment"] = peak
    figures["amplification of single datagrams, mean"] = statistics.mean(attack.shot_ratios)
    figures["... highest"] = most = max(attack.shot_ratios)
    figures["... datagrams"] = len(attack.shot_ratios)
    figures["amplification, the honest client's address"] = attack.amplification(VALIDATED)
    figures["honest downloads"] = honest.downloads
    figures["honest uploads"] = honest.uploads
    figures["honest errors"] = len(honest.errors)
    figures["honest wrong answers"] = honest.wrong
    figures["tracebacks in the server's log"] = log.count("Traceback")
    figures["server's exit code"] = code
    for reason, count in sorted(counters(log).items()):
        figures[f"server counted: {reason}"] = count
    report.check(peak <= MOST_AMPLIFICATION, "never over 3 times the bytes to such an address")
    report.check(most <= MOST_AMPLIFICATION, "no single datagram brings back over 3 times its size")
    report.check(honest.downloads > 0 and honest.uploads > 0, "the honest client is served")
    report.check(not honest.errors, f"no error at the honest client: {honest.errors[:3]}")
    report.check(honest.wrong == 0, "no wrong byte at the honest client")
    report.check("Traceback" not in log, "no traceback")
    report.check(counters(log)["internal error"] == 0, "no internal error")
    report.check(code == 0, "the server ends cleanly")
