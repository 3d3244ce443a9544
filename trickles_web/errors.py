"""Every error of the house.

TricklesError
├── UsageError              wrong option, path, URL, secret: one line for the user, exit code 2
│   ├── SecretError         secret missing, unreadable, too short, or readable by others
│   ├── AppImportError      "module:attribute" names nothing that can be served
│   └── BindError           address cannot be bound
├── LifespanFailed          the application refused to start
├── ResponseGone            bytes of a response can no longer be had (file changed, soft state gone)
├── WireError               bytes that are no datagram of ours (never leaves the transport)
├── ContinuationError       a continuation not ours, altered, expired (never leaves the transport)
└── FlowError(OSError)      what a client sees: the flow cannot go on
    ├── ConnectError        no server answered the first contact
    ├── FlowTimeout         a flow that worked fell silent for longer than its time limit
    ├── FlowRefused         the server will not serve this flow (expired, other secret or service)
    ├── IdentityError       the server is not, or does not prove to be, who it is taken for
    ├── VersionsDiffer      replicas hold different versions of one file
    ├── ResponseTruncated   the response broke off: what was read is not the whole of it
    └── OutcomeUnknown      whether the request was executed cannot be known
"""

from __future__ import annotations


class TricklesError(Exception):
    """Base of all errors raised on purpose by trickles-web."""


class UsageError(TricklesError):
    """The user asked for something that cannot be done; str(error) says what to do instead."""


class SecretError(UsageError):
    """The master secret cannot be used."""


class AppImportError(UsageError):
    """The application named on the command line cannot be imported."""


class BindError(UsageError):
    """The address cannot be bound."""


class LifespanFailed(TricklesError):
    """The application reported `lifespan.startup.failed`, or raised with lifespan "on"."""


class ResponseGone(TricklesError):
    """Bytes of a response cannot be produced again; others in their place would be wrong."""


class WireError(TricklesError):
    """A datagram is malformed: truncated, over-long, of an unknown version or kind."""


class ContinuationError(TricklesError):
    """A continuation cannot be opened; `reason` is the counter it goes under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FlowError(TricklesError, OSError):
    """A flow cannot go on. An OSError, because that is what users of sockets catch."""


class ConnectError(FlowError, ConnectionRefusedError):
    """No server answered the first contact within the time limit."""


class FlowTimeout(FlowError, TimeoutError):
    """An established flow heard nothing from any server within its time limit."""


class FlowRefused(FlowError, ConnectionResetError):
    """The server refuses this flow, and says so to every repeat."""


class IdentityError(FlowError, ConnectionAbortedError):
    """A server of a private flow is not to be trusted; nothing was sent to it.

    `reason`: pin, changed, new (and not asked), expired, not yet valid, other host, untrusted,
    no certificate, no key, signature, or settings (of the client).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class VersionsDiffer(FlowError):
    """Parts of one file came from replicas that name different versions of it; says which."""


class ResponseTruncated(FlowError, ConnectionResetError):
    """The response broke off after its first bytes; what was read is incomplete."""


class OutcomeUnknown(FlowError, ConnectionResetError):
    """The request may or may not have been executed; repeating it could execute it twice."""


class FramingError(RuntimeError):
    """The application's response cannot be written as HTTP."""


class ClientGone(ConnectionResetError):
    """`send` of a WebSocket whose client has left (an OSError, as ASGI asks for)."""
