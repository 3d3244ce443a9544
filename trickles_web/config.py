"""Frozen configuration. Every number carries its unit in its name, and its reason beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

SCHEME: Final = "trickles"
"""Of URLs: flows in clear,"""
PRIVATE_SCHEME: Final = "trickless"
"""and private ones."""

BASE_DATAGRAM: Final = 1200
"""Bytes of UDP payload that any path carries (RFC 9000 §14)."""

MILLISECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """What a server needs to answer datagrams."""

    replay_horizon_ms: int = 60_000
    """A continuation is redeemable as an ordinary claim for this long after its mint."""
    opening_horizon_ms: int = 3_600_000
    """Up to this age a continuation still opens a generation, with a small window."""
    token_horizon_ms: int = 86_400_000
    """Up to this age it still proves an address in HELLO."""
    clock_skew_ms: int = 5_000
    """Clocks of replicas may differ by this much."""
    rotation_ms: int = 86_400_000
    """Keys live for two of these: at least the token horizon."""
    replay_capacity: int = 1 << 21
    """Keys per Bloom filter: at 1e-6 false positives 29 bits each, two filters, 15 MB in all."""
    max_datagram_bytes: int = 1472
    """Largest DATA a client may ask for (Ethernet less IPv4 and UDP headers)."""
    max_loopback_datagram_bytes: int = 16_376
    """The same for a client on this host: the loopback's MTU is 65,536, and four of these are one
    segmented send."""

    cleartext: bool = True
    """Are flows served that are not private?"""
    preferred: bytes = b""
    """Where clients are asked to go on, packed as `transport.origin` does; b"": where they are."""

    def largest_datagram(self, host: str) -> int:
        """Bytes of DATA that may go to this address."""
        if host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1"):
            return self.max_loopback_datagram_bytes
        return self.max_datagram_bytes


class Recorder(Protocol):
    """Sees a flow's datagrams, as `trace.Recording` does. `local` and `remote` are addresses as the
    socket module has them. Nothing may be raised.
    """

    def sent(self, datagrams: Sequence[bytes], local: Any, remote: Any) -> None: ...

    def received(self, train: bytes, segment: int, local: Any, remote: Any) -> None:
        """Datagrams end to end, `segment` bytes each, but the last may be shorter."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes a client believe that a server is who it is taken for: the first that is given.

    Of none of them: certificates, for the host's name, up to one that the system has.
    """

    pin: str | None = None
    """The server's public key, as it prints it and as curl's --pinnedpubkey: `sha256//...`."""
    insecure: bool = False
    """Anybody is believed."""
    known_hosts: str | None = None
    """A file of keys met before: who is not in it is believed, and written there."""
    cafile: str | None = None
    """Certificates (PEM) to believe, instead of the system's."""
    server_name: str | None = None
    """For which host they have to be, unless for the one that is asked."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a client's flow needs."""

    private: Trust | None = None
    """Encrypted flows, with servers that are trusted for this reason; None: flows in clear."""
    post_quantum: bool = False
    """Agree on the secret of a private flow by ML-KEM-768 and X25519, not by X25519 alone. It takes
    servers with --post-quantum, and a round trip more."""

    replicas: tuple[tuple[str, int], ...] = ()
    """Where else the service is: (host, UDP port). Flows are spread over all of its addresses, and
    go on at another one when theirs is silent. Only for a client of one service."""
    follow_preferred: bool = True
    """Go on at the address that a server prefers, if it names one."""
    receive_buffer_bytes: int = 4 << 20
    """Response bytes asked for but not yet read by the application, at most."""
    connect_timeout_s: float = 10.0
    """First contact must be answered within this."""
    refused_patience_s: float = 2.0
    """How long ICMP port-unreachable is taken for a server that is restarting."""
    silence_timeout_s: float = 60.0
    """An established flow with an exchange in progress fails after this much silence."""
    max_datagram_bytes: int = 1472
    """What a path is asked to carry at most (Ethernet less IPv4 and UDP headers);"""
    max_ipv6_datagram_bytes: int = 1452
    max_loopback_datagram_bytes: int = 16_376
    recorder: Recorder | None = None
    """Told of each datagram that is sent or arrives."""

    def privately(self) -> ClientConfig:
        """The same for private flows: with servers that it trusts, or else that the system does."""
        return replace(self, private=self.private or Trust())


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Limits and habits of the HTTP layer."""

    max_head_bytes: int = 65_536
    max_target_bytes: int = 16_384
    max_body_bytes: int = 16 << 20
    response_buffer_bytes: int = 4 << 20
    """A running response waits (backpressure) when it holds this much that the client lacks."""
    store_bytes: int = 256 << 20
    """Spools and responses together, as far as they are in memory."""
    spool_disk_bytes: int = 4 << 30
    """Request bodies on disk: those of more than 1 MiB,"""
    spool_memory_bytes: int = 64 << 20
    """unless all that these have in memory, beyond their first, is together no more than that."""
    store_responses: int = 4096
    """Finished responses kept for repeats."""
    response_ttl_ms: int = 60_000
    max_running: int = 10_000
    """Application calls in progress."""
    authorisation_ms: int = 3_600_000
    """After this long the application is asked again whether a file may be served."""
    file_identity: str = "stat"
    """What names a file's version: size and mtime (`stat`), or its `content`, if mtimes differ."""
    request_buffering: bool = True
    """An application is called for a whole request. False: for its head, and takes its body as it
    comes; no other process can go on with that."""
    http: str = "auto"
    """What parses request heads: `h11`, `httptools`, or the latter where it is installed."""
    ws: str = "auto"
    """What speaks WebSocket: `wsproto`, `none`, or the former where it is installed."""
    ws_max_bytes: int = 16 << 20
    """Largest message of a WebSocket."""
    ws_per_message_deflate: bool = True
    never_rerun: tuple[str, ...] = ()
    """Paths, as `fnmatch` patterns, where every method may change something: runs at most once.

    By a claim before the call, as for POST. Nothing less would do: only a claim tells of a call
    whose process died before anything was answered, and a HELLO can be copied on its way. So it
    costs a claim for each request, a round trip for the first one of a flow, and checkpoints.
    """
    lifespan: str = "auto"
    root_path: str = ""
    proxy_headers: bool = True
    """X-Forwarded-Proto and X-Forwarded-For change scheme and client, if the client is trusted."""
    forwarded_allow_ips: str = "127.0.0.1,::1"
    """Which clients are: addresses, networks and names with commas between, or `*`.

    Gateways among them are believed for whom they speak, with `proxy_headers` or without.
    """
    server_header: bool = True
    date_header: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """More that every response has."""
    access_log: bool = True
    access_log_format: str = "uvicorn"
    """`uvicorn`: a line when a response begins. `json`: at its end, with its size and duration."""
    client_silence_ms: int = 60_000
    """A client not heard of for this long while its response is produced is taken to be gone."""
