"""All that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trickles_web
from tests.fuzz import decoders, frames, receiving, serving
from tests.fuzz.programs import BYTES_OF_A_STEP, Step, steps

MILLION = 1_000_000


class Target(NamedTuple):
    """`run` takes any bytes, and raises where a rule is broken."""

    run: Callable[[bytes], None]
    modules: tuple[str, ...]
    """Whose coverage is told: paths below the package."""
    most_bytes: int
    """Of an input."""
    runs: int = MILLION
    """Inputs after which it counts as searched."""

    @property
    def is_decoder(self) -> bool:
        """Is an input one message, and not a program of many?"""
        return self.runs == MILLION


PACKAGE = Path(trickles_web.__file__).resolve().parent
PROGRAMS = 100_000
"""Each of many datagrams, up to 50 steps of several, or of frames: millions of them in all."""
LONGEST_PROGRAM = 1 + 50 * BYTES_OF_A_STEP


def attacked_server(data: bytes) -> None:
    """A byte that chooses the server, then steps of its peers."""
    subject = serving.begin(data[0] if data else 0)
    for step, *numbers in steps(data[1:], serving.STEPS):
        step(subject, *numbers)
    subject.end()


def misled_client(data: bytes) -> None:
    """Steps of everybody around the client."""
    _client(data, receiving.STEPS)


def unlucky_client(data: bytes) -> None:
    """Nobody lies, but much is lost."""
    _client(data, receiving.HONEST)


def _client(data: bytes, table: Sequence[Step]) -> None:
    subject = receiving.Receiving()
    for step, *numbers in steps(data, table):
        step(subject, *numbers)
    subject.end()


CLIENT = tuple(
    f"transport/{name}.py"
    for name in ("flow", "download", "line", "upload", "reassembly", "refusals", "claim")
)
WIRE = "transport/wire/"
TARGETS: dict[str, Target] = {
    "client-datagrams": Target(
        decoders.client_datagrams, (WIRE + "client.py", WIRE + "common.py"), 400
    ),
    "server-datagrams": Target(
        decoders.server_datagrams, (WIRE + "server.py", WIRE + "common.py"), 400
    ),
    "trains": Target(decoders.trains, (WIRE + "runs.py",), 600),
    "upload-runs": Target(decoders.upload_runs, (WIRE + "uploads.py",), 2000),
    "continuations": Target(
        decoders.continuations, ("transport/continuation.py", "transport/keys.py"), 900
    ),
    "notes": Target(decoders.seal_notes, ("transport/note.py", "transport/keys.py"), 600),
    "http-progress": Target(decoders.http_progress, ("http/progress.py",), 720),
    "request-heads": Target(decoders.request_heads, ("http/heads.py", "http/parsers.py"), 400),
    "requests": Target(
        decoders.requests,
        ("http/reader.py", "http/heads.py", "http/blocks.py", "http/parsers.py", "http/request.py"),
        400,
    ),
    "chunked-bodies": Target(decoders.chunked_bodies, ("http/chunks.py",), 400),
    "byte-ranges": Target(decoders.byte_ranges, ("http/byteranges.py",), 200),
    "fields": Target(
        decoders.fields,
        ("http/conditions.py", "http/negotiation.py", "http/proxy_headers.py"),
        200,
    ),
    "websocket-frames": Target(
        frames.websocket_frames,
        ("http/websocket.py", "http/deflate.py", "http/intake.py"),
        200,
        PROGRAMS,
    ),
    "attacked-server": Target(
        attacked_server,
        tuple(f"transport/{name}.py" for name in ("server", "claims", "presented", "replay")),
        LONGEST_PROGRAM,
        PROGRAMS,
    ),
    "misled-client": Target(misled_client, CLIENT, LONGEST_PROGRAM, PROGRAMS),
    "unlucky-client": Target(unlucky_client, CLIENT, LONGEST_PROGRAM, PROGRAMS),
}
