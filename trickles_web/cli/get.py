"""trickles-get: fetch one URL over Trickles, with curl's options, messages and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import TypeVar, cast

import click
import h11

import trickles_web
from trickles_web.client.fetch import READ_BYTES, EmptyReply, Fetch, Head, Request
from trickles_web.client.progress import Progress
from trickles_web.client.streams import open_connection
from trickles_web.client.transport import FlowTransport
from trickles_web.client.url import Url, parse_rate, parse_url
from trickles_web.config import ClientConfig
from trickles_web.errors import (
    ConnectError,
    FlowError,
    FlowTimeout,
    ResponseTruncated,
    UsageError,
)

PROGRAM = "trickles-get"
STALL_REDRAW_S = 0.5
Checked = TypeVar("Checked")


class Exit(IntEnum):
    """curl's exit codes, as far as they have a meaning here."""

    OK = 0
    USAGE = 2
    BAD_URL = 3
    UNRESOLVED = 6
    UNCONNECTED = 7
    WEIRD_REPLY = 8
    PARTIAL = 18
    HTTP_ERROR = 22
    WRITE = 23
    TIMEOUT = 28
    EMPTY = 52
    RECEIVE = 56


class Failure(Exception):
    """Ends the run with this code and one line; quiet ones say nothing."""

    def __init__(self, code: Exit, message: str, *, quiet: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.quiet = quiet


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    url: Url
    output: str | None
    rate: float
    head: bool
    fail: bool
    silent: bool
    include: bool
    headers: tuple[str, ...]
    max_time: float | None
    connect_timeout: float | None
    verbose: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = command.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _complain(Failure(Exit.USAGE, error.format_message()))
    except Failure as failure:
        return _complain(failure)
    except click.Abort:
        return 130
    return result if isinstance(result, int) else Exit.OK


def _complain(failure: Failure) -> int:
    if not failure.quiet:
        click.echo(f"{PROGRAM}: ({failure.code:d}) {failure}", err=True)
    return failure.code


@click.command()
@click.argument("url", metavar="trickles://HOST[:PORT]/PATH")
@click.option("-o", "--output", metavar="FILE", help="Write the body to FILE; - is stdout.")
@click.option("--limit-rate", metavar="RATE", default="0", help="Bytes per second: 500k, 10M, 1G.")
@click.option("-I", "--head", is_flag=True, help="HEAD instead of GET; show the headers.")
@click.option("-f", "--fail", is_flag=True, help="No body and exit code 22 on HTTP errors.")
@click.option("-s", "--silent", is_flag=True, help="No progress, no messages.")
@click.option("-S", "--show-error", is_flag=True, help="Messages even with --silent.")
@click.option("-i", "--include", is_flag=True, help="Show the response headers, too.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'")
@click.option("-m", "--max-time", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.option("--connect-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.option("-v", "--verbose", is_flag=True, help="Show both heads and the flow's figures.")
@click.version_option(trickles_web.__version__, "-V", "--version", prog_name=PROGRAM)
def command(
    url: str,
    output: str | None,
    limit_rate: str,
    head: bool,
    fail: bool,
    silent: bool,
    show_error: bool,
    include: bool,
    headers: tuple[str, ...],
    max_time: float | None,
    connect_timeout: float | None,
    verbose: bool,
) -> int:
    """Fetch a URL over Trickles."""
    try:
        options = Options(
            url=_checked(Exit.BAD_URL, parse_url, url),
            output=None if output == "-" else output,
            rate=_checked(Exit.USAGE, parse_rate, limit_rate),
            head=head,
            fail=fail,
            silent=silent,
            include=include or head,
            headers=headers,
            max_time=max_time,
            connect_timeout=connect_timeout,
            verbose=verbose,
        )
        asyncio.run(_run(options))
    except Failure as failure:
        failure.quiet = failure.quiet or (silent and not show_error)
        raise
    return Exit.OK


def _checked(code: Exit, parse: Callable[[str], Checked], text: str) -> Checked:
    try:
        return parse(text)
    except UsageError as error:
        raise Failure(code, str(error)) from None


def build_request(options: Options) -> Request:
    """The request, -H applied as curl does: "Name: value" sets, "Name:" removes, "Name;" empties.

    Raises Failure for what is none of these.
    """
    headers = [
        ("Host", options.url.authority),
        ("User-Agent", f"{PROGRAM}/{trickles_web.__version__}"),
        ("Accept", "*/*"),
    ]
    replaced: set[str] = set()
    for text in options.headers:
        name, colon, value = text.partition(":")
        if not colon and text.rstrip().endswith(";"):
            name, value = text.rstrip()[:-1], " "
        elif not colon:
            raise Failure(Exit.USAGE, f"bad header {text!r}: give 'Name: value'")
        key = name.strip().lower()
        if key not in replaced:
            replaced.add(key)
            headers = [header for header in headers if header[0].lower() != key]
        if value:
            headers.append((name.strip(), value.strip()))
    encoded = [(name.encode("latin-1", "replace"), value.encode()) for name, value in headers]
    return Request("HEAD" if options.head else "GET", options.url.target, encoded)


class _Output:
    """Where bytes go: a descriptor, opened when there is something to write."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._fd: int | None = None
        self._blocking = False

    def open(self) -> None:
        if self._fd is not None:
            return
        try:
            if self._path is None:
                self._fd = 1
            else:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            self._blocking = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError as error:
            raise Failure(
                Exit.WRITE, f"cannot write {self._path or 'stdout'}: {error.strerror}"
            ) from None

    async def write(self, data: bytes) -> None:
        self.open()
        try:
            if self._blocking:
                # A pipe may stand still for minutes; the flow's timers must not.
                await asyncio.to_thread(self._write_all, data)
            else:
                self._write_all(data)
        except BrokenPipeError:
            raise Failure(Exit.WRITE, "the reader of the output has gone", quiet=True) from None
        except OSError as error:
            raise Failure(
                Exit.WRITE, f"cannot write {self._path or 'stdout'}: {error.strerror}"
            ) from None

    def _write_all(self, data: bytes) -> None:
        assert self._fd is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        if self._fd is not None and self._path is not None:
            os.close(self._fd)
        self._fd = None


async def _run(options: Options) -> None:
    started = monotonic()
    request = build_request(options)
    writer: asyncio.StreamWriter | None = None
    fetch: Fetch | None = None
    output = _Output(options.output)
    try:
        async with asyncio.timeout(options.max_time):
            config = ClientConfig()
            if options.connect_timeout is not None:
                config = dataclasses.replace(config, connect_timeout_s=options.connect_timeout)
            reader, writer = await open_connection(
                options.url.host, options.url.port, config=config, limit=READ_BYTES
            )
            _abort_on_interrupt(writer)
            fetch = Fetch(reader, writer, limit=options.rate)
            await _transfer(options, request, fetch, output)
    except (OSError, EmptyReply, h11.ProtocolError) as error:
        raise _explain(error, fetch, monotonic() - started) from error
    finally:
        output.close()
        if writer is not None:
            _say_figures(options, writer)
            writer.transport.abort()


def _explain(error: Exception, fetch: Fetch | None, elapsed: float) -> Failure:
    """curl's code and one line for whatever ended the transfer."""
    received = fetch.received if fetch is not None else 0
    missing = fetch.missing if fetch is not None else None
    if isinstance(error, socket.gaierror):
        return Failure(Exit.UNRESOLVED, f"could not resolve host: {error.strerror}")
    if isinstance(error, ConnectError):
        silent = error.errno == errno.ETIMEDOUT
        return Failure(Exit.TIMEOUT if silent else Exit.UNCONNECTED, str(error))
    if isinstance(error, TimeoutError) and not isinstance(error, FlowError):
        return Failure(
            Exit.TIMEOUT,
            f"operation timed out after {elapsed * 1000:.0f} ms with {received} bytes received",
        )
    if isinstance(error, h11.LocalProtocolError):
        return Failure(Exit.USAGE, f"this request cannot be sent: {error}")
    if isinstance(error, EmptyReply):
        return Failure(Exit.EMPTY, str(error))
    if missing and isinstance(error, (ResponseTruncated, h11.RemoteProtocolError)):
        why = f" ({error})" if isinstance(error, ResponseTruncated) else ""
        return Failure(Exit.PARTIAL, f"transfer ended with {missing} bytes missing{why}")
    if isinstance(error, ResponseTruncated):
        return Failure(Exit.PARTIAL, f"transfer broke off after {received} bytes: {error}")
    if isinstance(error, FlowTimeout):
        return Failure(Exit.TIMEOUT, f"{error}, after {received} bytes")
    if isinstance(error, h11.RemoteProtocolError):
        partial = "without sending complete message body" in str(error)
        return Failure(Exit.PARTIAL if partial else Exit.WEIRD_REPLY, f"bad response: {error}")
    return Failure(Exit.RECEIVE, str(error) or type(error).__name__)


async def _transfer(options: Options, request: Request, fetch: Fetch, output: _Output) -> None:
    fetch.request(request)
    _say(options, ">", fetch.sent.split(b"\r\n")[:-1])
    while True:
        head = await fetch.head()
        _say(options, "<", [*head.lines(), b""])
        if options.fail and head.status >= 400:
            raise Failure(Exit.HTTP_ERROR, f"the requested URL returned error: {head.status}")
        if options.include:
            await output.write(b"\r\n".join([*head.lines(), b"", b""]))
        if head.final:
            break
    output.open()
    with _progress(options, head) as progress:
        async for data in fetch.body():
            await output.write(data)
            if progress is not None:
                progress.advance(fetch.received)


@contextlib.contextmanager
def _progress(options: Options, head: Head) -> Iterator[Progress | None]:
    """A progress line, if somebody would see it; redrawn while the transfer stalls, too."""
    to_terminal = options.output is None and os.isatty(1)
    if options.silent or options.head or to_terminal or not sys.stderr.isatty():
        yield None
        return
    progress = Progress(sys.stderr, head.length, monotonic)

    async def redraw() -> None:
        while True:
            await asyncio.sleep(STALL_REDRAW_S)
            progress.draw()

    task = asyncio.get_running_loop().create_task(redraw())
    try:
        yield progress
    finally:
        task.cancel()
        progress.close()


def _abort_on_interrupt(writer: asyncio.StreamWriter) -> None:
    """Ctrl-C and SIGTERM: tell the server in one datagram, then die as the signal says."""

    def interrupted(number: int) -> None:
        writer.transport.abort()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Signals are the main thread's; run from another one, the caller handles them.
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, interrupted, number)


def _say(options: Options, mark: str, lines: Sequence[bytes]) -> None:
    if options.verbose:
        for line in lines:
            click.echo(f"{mark} {line.decode('latin-1')}".rstrip(), err=True)


def _say_figures(options: Options, writer: asyncio.StreamWriter) -> None:
    if options.verbose:
        stats = cast(FlowTransport, writer.transport).flow.stats
        figures = [f"{name} {getattr(stats, name)}" for name in _figures(stats)]
        click.echo(f"* flow: {', '.join(figures)}", err=True)


def _figures(stats: object) -> list[str]:
    names = ("datagrams_in", "datagrams_out", "bytes_in", "losses", "timeouts", "srtt")
    return [name for name in names if hasattr(stats, name)]


if __name__ == "__main__":
    sys.exit(main())
