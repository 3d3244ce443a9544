"""Clients of an HTTP/3 server, by aioquic, each with one request at a time: a process of its own.

    python -m loadtest.http3 HOST PORT CONNECTIONS SECONDS

Prints JSON. It costs more than the server, whose rate it therefore does not show; the server's CPU
time for a request it does. `certificate` makes what such a server needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.application import BODY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

WARM_UP = 20
NAME = "localhost"


def certificate(
    folder: Path, key: CertificateIssuerPrivateKeyTypes | None = None
) -> tuple[Path, Path]:
    """Files of a certificate that signs itself, and of its key, one of P-256 unless told."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - day).not_valid_after(now + day).sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def _protocol() -> type[Any]:
    from aioquic.asyncio import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived

    class Client(QuicConnectionProtocol):  # type: ignore[misc, unused-ignore]
        """One connection; `get` returns the length of a 200's body."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._http = H3Connection(self._quic)
            self._received: dict[int, int] = {}
            self._waiting: dict[int, asyncio.Future[int]] = {}

        async def get(self, authority: bytes) -> int:
            stream = self._quic.get_next_available_stream_id()
            self._waiting[stream] = asyncio.get_running_loop().create_future()
            self._received[stream] = 0
            head = [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", authority),
                (b":path", b"/"),
            ]
            self._http.send_headers(stream, head, end_stream=True)
            self.transmit()
            return await self._waiting[stream]

        def quic_event_received(self, event: Any) -> None:
            for found in self._http.handle_event(event):
                stream = found.stream_id
                if isinstance(found, HeadersReceived) and (b":status", b"200") not in found.headers:
                    self._received[stream] = -1 << 60  # never the right length
                if isinstance(found, DataReceived):
                    self._received[stream] += len(found.data)
                if found.stream_ended:
                    self._waiting.pop(stream).set_result(self._received.pop(stream))

    return Client


async def measure(host: str, port: int, connections: int, seconds: float) -> dict[str, float]:
    """As `loadtest.latencies.measure`."""
    from aioquic.asyncio import connect
    from aioquic.h3.connection import H3_ALPN
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name=NAME
    )
    authority = f"{host}:{port}".encode()
    times: list[float] = []
    total = 0

    async def work(client: Any, until: float) -> None:
        nonlocal total
        now = time.perf_counter()
        while now < until:
            if await client.get(authority) != len(BODY):
                raise EOFError("not the answer")
            total += 1
            before, now = now, time.perf_counter()
            times.append((now - before) * 1e6)

    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(connections):
            connected = connect(
                host, port, configuration=configuration, create_protocol=_protocol()
            )
            client = await stack.enter_async_context(connected)
            total += await client.get(authority) == len(BODY)
            clients.append(client)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(work(client, began + seconds))
        elapsed = time.perf_counter() - began
    times.sort()
    return {
        "requests": len(times),
        "requests in all": total,
        "seconds": elapsed,
        "p50 us": times[len(times) // 2],
        "p99 us": times[len(times) * 99 // 100],
    }


if __name__ == "__main__":
    host, *numbers = sys.argv[1:]
    port, connections, seconds = numbers
    print(json.dumps(asyncio.run(measure(host, int(port), int(connections), float(seconds)))))
