"""trickles-trace: what a transfer did on the wire, told as text and drawn as a plot."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import click
import h11

import trickles_web
from trickles_web.cli.trusting import Trusting, only_for_private, trusting
from trickles_web.client.fetch import READ_BYTES, EmptyReply, Fetch, Request
from trickles_web.client.streams import open_connection
from trickles_web.client.url import Url, parse_url
from trickles_web.config import SCHEME, ClientConfig
from trickles_web.errors import UsageError
from trickles_web.trace import plot
from trickles_web.trace.frames import CaptureError
from trickles_web.trace.marks import Marks
from trickles_web.trace.packets import datagrams
from trickles_web.trace.pcap import frames
from trickles_web.trace.recording import Recording
from trickles_web.trace.rows import HEADING, Row
from trickles_web.trace.seen import Seen, decoded
from trickles_web.trace.telling import Stories, tell
from trickles_web.trace.totals import end
from trickles_web.transport import wire

PROGRAM = "trickles-trace"
STDIN = "-"
INTERRUPTED = "interrupted"
FAILED = 1
"""Exit code where the transfer failed, or the capture is damaged; 2: asked for in a wrong way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    source: str
    url: Url | None
    output: str | None
    save: str | None
    plot: str | None
    flow: str
    packets: bool
    max_time: float | None
    client: ClientConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    try:
        result = command.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except CaptureError as error:
        return _complain(str(error), FAILED)
    except UsageError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:  # as in `trickles-trace FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        return 130
    return result if isinstance(result, int) else 0


def _complain(message: str, code: int) -> int:
    click.echo(f"{PROGRAM}: {message}", err=True)
    return code


@click.command()
@click.argument("source", metavar="trickles[s]://HOST[:PORT]/PATH | FILE.pcap | -")
@click.option("-o", "--output", metavar="FILE", help="Write the response's body to FILE.")
@click.option("--save", metavar="FILE.pcap", help="Keep what was recorded; without bodies.")
@click.option("--plot", "plot_to", metavar="FILE", help="Draw it: .svg, .png or .pdf.")
@click.option("--packets", is_flag=True, help="A line for each datagram, not for each burst.")
@click.option("--flow", default="", metavar="ID", help="The flow whose id begins so, of several.")
@click.option("-m", "--max-time", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@trusting()
@click.version_option(trickles_web.__version__, "-V", "--version", prog_name=PROGRAM)
def command(
    source: str,
    output: str | None,
    save: str | None,
    plot_to: str | None,
    packets: bool,
    flow: str,
    max_time: float | None,
    trusting: Trusting,
) -> int:
    """Fetch a URL, or read what was captured, and tell what happened on the wire.

    Captures are those of --save, and of tcpdump at a client or a server; - is stdin, as in
    tcpdump -i any -w - udp port 8000 | trickles-trace -
    """
    url = parse_url(source) if "://" in source else None
    if url is None and (output or save or max_time):
        raise UsageError(
            f"-o, --save and -m go with a URL, which begins with {SCHEME}://, not with a capture"
        )
    if not re.fullmatch("[0-9a-f]{0,16}", flow.lower()):
        raise UsageError(f"bad flow {flow!r}: give hexadecimal digits that its id begins with")
    if output == "-":
        raise UsageError("the story goes to stdout: give a file for the body")
    if plot_to is not None:
        plot.check(plot_to)
    client = ClientConfig()
    if url is not None:
        only_for_private(url, trusting)
        client = trusting.config_for(url, client)
    return _run(
        Options(source, url, output, save, plot_to, flow.lower(), packets, max_time, client)
    )


def _run(options: Options) -> int:
    if options.url is None:
        with _opened(options.source) as file:
            _tell(file, options)
        return 0
    try:
        with _recorded_to(options.save) as file:
            failure = _fetched(options, options.url, file)
            file.seek(0)
            _tell(file, options)
    except BrokenPipeError:
        raise  # of stdout
    except OSError as error:
        raise UsageError(f"the trace cannot be written: {error.strerror}") from None
    if failure == INTERRUPTED:
        return 130
    return _complain(failure, FAILED) if failure else 0


def _fetched(options: Options, url: Url, file: BinaryIO) -> str:
    """Record the transfer. Returns what went wrong with it, in a line; empty if nothing did."""
    recording = Recording(file)
    try:
        failure = asyncio.run(_transfer(options, url, recording))
    except KeyboardInterrupt:
        failure = INTERRUPTED
    if recording.error is not None:
        raise recording.error
    return failure


def _recorded_to(path: str | None) -> contextlib.AbstractContextManager[BinaryIO]:
    if path is None:
        return contextlib.closing(tempfile.TemporaryFile())
    return _open(path, "w+b")


def _open(path: str, mode: str) -> BinaryIO:
    """Raises UsageError."""
    try:
        return open(path, mode)  # type: ignore[return-value]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        what = "read" if mode == "rb" else "write"
        raise UsageError(f"cannot {what} {path}: {reason}") from None


# ---- the transfer


async def _transfer(options: Options, url: Url, recording: Recording) -> str:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(options.max_time):
            config = dataclasses.replace(options.client, recorder=recording)
            reader, writer = await open_connection(
                url.host, url.port, config=config, limit=READ_BYTES
            )
            await _fetch(options, url, Fetch(reader, writer))
    except socket.gaierror as error:
        return f"could not resolve {url.host}: {error.strerror}"
    except (OSError, EmptyReply, h11.ProtocolError) as error:
        late = isinstance(error, TimeoutError) and not error.args
        return f"not done after {options.max_time:g} s" if late else _reason(error)
    finally:
        if writer is not None:
            writer.transport.abort()
    return ""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def _fetch(options: Options, url: Url, fetch: Fetch) -> None:
    agent = f"{PROGRAM}/{trickles_web.__version__}"
    headers = [("Host", url.authority), ("User-Agent", agent), ("Accept", "*/*")]
    fetch.request(Request("GET", url.target, [(n.encode(), v.encode()) for n, v in headers]))
    while not (await fetch.head()).final:
        pass
    with contextlib.ExitStack() as stack:
        body = None
        if options.output is not None:
            body = stack.enter_context(_open(options.output, "wb"))
        async for data in fetch.body():
            if body is not None:
                body.write(data)


# ---- what is told


def _opened(source: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if source == STDIN:
        return contextlib.nullcontext(sys.stdin.buffer)
    return _open(source, "rb")


def _tell(file: BinaryIO, options: Options) -> None:
    """Rows and summary of one flow, or a table of several."""
    stories, several = Stories(), _several(file, options)
    marks = Marks() if options.plot is not None and not several else None
    paper = _Paper(stories, named=options.source == STDIN and not options.flow)
    write = (lambda row: None) if several else paper.write
    try:
        tell(_seen(file), stories, write, flow=options.flow, packets=options.packets, marks=marks)
    finally:
        _sum_up(stories, options, several)
    if options.plot is not None and (stories.flows or options.url is None):
        _draw(marks, stories, options.plot)


class _Paper:
    """What rows are printed on. named: each with the beginning of its flow's id."""

    def __init__(self, stories: Stories, *, named: bool) -> None:
        self._stories = stories
        self._named = named
        self._headed = False

    def write(self, row: Row) -> None:
        name = f"{row.flow.hex()[:4]} " if self._named else ""
        if not self._headed:
            self._headed = True
            print(f"{' ' * len(name)}{HEADING}")
        print(f"{name}{row.told(self._stories.began)}")


def _seen(file: BinaryIO) -> Iterator[Seen]:
    return datagrams(frames(file))


def _several(file: BinaryIO, options: Options) -> bool:
    """Are there several flows to tell of? Of a stream nobody knows before its end."""
    if options.source == STDIN or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return False
    names = set()
    with contextlib.suppress(CaptureError):
        for one in _seen(file):
            name = wire.flow_of(one.datagram).hex()
            if name.startswith(options.flow) and decoded(one.datagram) is not None:
                names.add(name)
            if len(names) > 1:
                break
    file.seek(0)
    return len(names) > 1


def _sum_up(stories: Stories, options: Options, several: bool) -> None:
    flows = list(stories.flows.values())
    if not flows and options.url is not None:
        return  # nothing was sent, and the user is going to hear why
    if not flows:
        which = f" whose id begins with {options.flow}" if options.flow else ""
        print(f"no datagram of a Trickles flow{which} was captured")
    elif len(flows) == 1:
        print("\n".join(stories.summary(flows[0])))
    else:
        print("\n".join(stories.table()))
    if several:
        print("one of them: --flow ID, of which the first digits are enough")


def _draw(marks: Marks | None, stories: Stories, path: str) -> None:
    flows = list(stories.flows.values())
    if not flows:
        raise UsageError("nothing to plot")
    if marks is None or len(flows) > 1:
        raise UsageError("a plot shows one flow: name it with --flow")
    [story] = flows
    totals = story.totals
    title = f"{end(story.client)} -> {end(story.server)}   flow {story.flow.hex()}"
    plot.draw(marks, title, totals.began, path)
    print(f"plotted to {path}")


if __name__ == "__main__":
    sys.exit(main())
