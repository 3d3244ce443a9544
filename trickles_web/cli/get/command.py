"""The options of trickles-get, with curl's names and letters, and what they mean together."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

import trickles_web
from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.options import STDIO, Asking, Job, Limits, Options, Retrying, Saving
from trickles_web.cli.get.requests import read_data
from trickles_web.cli.get.run import PROGRAM, complain, run
from trickles_web.cli.get.stats import VARIABLES
from trickles_web.cli.trusting import trusting
from trickles_web.client.url import Url, parse_listen, parse_rate, parse_url
from trickles_web.errors import UsageError

REMOTE_NAME = ""
"""As an output: the name that the URL ends with."""
MOST_PARALLEL = 300
"""As curl's; each is a flow with its socket."""
_ORDERED = frozenset({"output", "remote_name", "data", "data_raw", "data_binary", "json"})
Checked = TypeVar("Checked")


class _InOrder(click.Command):
    """Notes in which order options came that each belong to the next URL, or make up the data."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[PROGRAM] = [param.name for param in order if param.name in _ORDERED]
        return super().parse_args(ctx, args)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = command.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return complain(Failure(Exit.USAGE, error.format_message()))
    except Failure as failure:
        return complain(failure)
    except click.Abort:
        return 130
    return result if isinstance(result, int) else Exit.OK


_SECONDS = click.FloatRange(min=0, min_open=True)
_WAIT = click.FloatRange(min=0)
_COUNT = click.IntRange(min=0)
_TRANSFERS = click.IntRange(1, MOST_PARALLEL)

_EPILOG = f"""\
Exit codes are curl's; of several URLs, that of the first that failed.

With --retry, a request that may have been executed is sent again only if that does no harm (GET,
HEAD, PUT, DELETE); a POST only if no server has taken it. What has come is kept if the server
still has the same version, by its ETag.

Variables of --write-out: {", ".join(VARIABLES)}.
"""


@click.command(cls=_InOrder, epilog=_EPILOG)
@click.argument("urls", nargs=-1, metavar="trickles[s]://HOST[:PORT]/PATH...")
@click.option("-o", "--output", multiple=True, metavar="FILE", help="Body to FILE; - is stdout.")
@click.option("-O", "--remote-name", count=True, help="Body to a file named as the URL ends.")
@click.option("--output-dir", metavar="DIR", default="", help="Where files of -o and -O go.")
@click.option("--create-dirs", is_flag=True, help="Make the directories of output files.")
@click.option("-C", "--continue-at", metavar="OFFSET", help="Resume there; -: at the file's end.")
@click.option("--remove-on-error", is_flag=True, help="Leave no part of a file behind.")
@click.option("-r", "--range", "byte_range", default="", metavar="RANGE", help="Bytes: 0-99, -100.")
@click.option("-I", "--head", is_flag=True, help="HEAD instead of GET; show the headers.")
@click.option("-i", "--include", is_flag=True, help="Show the response headers, too.")
@click.option("-D", "--dump-header", default="", metavar="FILE", help="Response headers to FILE.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'")
@click.option("-X", "--request", "method", default="", metavar="METHOD", help="Such as DELETE.")
@click.option("-d", "--data", multiple=True, metavar="DATA", help="POST this form; @FILE: of it.")
@click.option("--data-raw", multiple=True, metavar="DATA", help="POST this, @ or not.")
@click.option("--data-binary", multiple=True, metavar="DATA", help="POST this, or @FILE, as it is.")
@click.option("--json", multiple=True, metavar="DATA", help="POST this, or @FILE, as JSON.")
@click.option("-T", "--upload-file", multiple=True, metavar="FILE", help="PUT this; - is stdin.")
@click.option("-L", "--location", is_flag=True, help="Follow redirects.")
@click.option("--max-redirs", type=int, default=50, metavar="N", help="So many; -1: any number.")
@click.option("-f", "--fail", is_flag=True, help="No body and exit code 22 on HTTP errors.")
@click.option("-Z", "--parallel", is_flag=True, help="Several URLs at a time.")
@click.option("--parallel-max", type=_TRANSFERS, default=50, metavar="N", help="So many.")
@click.option("--fail-early", is_flag=True, help="Begin no URL after one has failed.")
@click.option("--replica", "replicas", multiple=True, metavar="HOST:PORT", help="It is there, too.")
@click.option("--retry", type=_COUNT, default=0, metavar="N", help="Try again N times at most.")
@click.option("--retry-delay", type=_WAIT, default=0.0, metavar="SECONDS", help="0: 1, 2, 4, 8...")
@click.option("--retry-max-time", type=_WAIT, default=0.0, metavar="SECONDS", help="Then no more.")
@click.option("--retry-all-errors", is_flag=True, help="Not only what looks temporary.")
@click.option("-m", "--max-time", type=_SECONDS, metavar="SECONDS", help="For each attempt.")
@click.option("--connect-timeout", type=_SECONDS, metavar="SECONDS")
@click.option("--limit-rate", metavar="RATE", default="0", help="Bytes per second: 500k, 10M, 1G.")
@trusting("--pinnedpubkey")
@click.option("-w", "--write-out", default="", metavar="FORMAT", help="Print after each URL.")
@click.option("-s", "--silent", is_flag=True, help="No progress, no messages.")
@click.option("-S", "--show-error", is_flag=True, help="Messages even with --silent.")
@click.option("-v", "--verbose", is_flag=True, help="Show both heads and the flow's figures.")
@click.version_option(trickles_web.__version__, "-V", "--version", prog_name=PROGRAM)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    """Fetch URLs over Trickles, as curl would over TCP.

    With --replica, a large file comes from all the places at once, and what one of them does not
    send, another one does.
    """
    try:
        return asyncio.run(run(_options(given, context.meta[PROGRAM])))
    except Failure as failure:
        failure.quiet = failure.quiet or (given["silent"] and not given["show_error"])
        raise


def _options(given: dict[str, Any], order: list[str]) -> Options:
    """Raises Failure for what does not go together."""
    if not given["urls"]:
        raise Failure(
            Exit.USAGE, f"no URL: give trickles://HOST:PORT/PATH, or see {PROGRAM} --help"
        )
    data = _data(given, order)
    bodies = [data is not None, bool(given["upload_file"]), given["head"]]
    if sum(bodies) > 1:
        raise Failure(Exit.USAGE, "only one of --head, --data and its like, --upload-file")
    return Options(
        jobs=tuple(_jobs(given, order)),
        asking=Asking(
            method=given["method"],
            head=given["head"],
            headers=given["headers"],
            data=data,
            json=bool(given["json"]),
            byte_range=given["byte_range"],
            redirects=given["max_redirs"] if given["location"] else 0,
        ),
        saving=_saving(given),
        retrying=Retrying(
            given["retry"],
            given["retry_delay"],
            given["retry_max_time"],
            given["retry_all_errors"],
        ),
        limits=Limits(
            rate=_checked(Exit.USAGE, parse_rate, given["limit_rate"]),
            max_time=given["max_time"],
            connect_timeout=given["connect_timeout"],
            parallel=given["parallel_max"] if given["parallel"] else 1,
            fail_early=given["fail_early"],
        ),
        trusting=given["trusting"],
        replicas=tuple(_checked(Exit.USAGE, parse_listen, text) for text in given["replicas"]),
        fail=given["fail"],
        silent=given["silent"],
        show_error=given["show_error"],
        verbose=given["verbose"],
    )


def _checked(code: Exit, parse: Callable[[str], Checked], text: str) -> Checked:
    try:
        return parse(text)
    except UsageError as error:
        raise Failure(code, str(error)) from None


def _saving(given: dict[str, Any]) -> Saving:
    place = given["continue_at"]
    if place is not None:
        if place != STDIO and not (place.isascii() and place.isdigit()):
            raise Failure(Exit.USAGE, f"bad offset {place!r}: give a number of bytes, or -")
        others = ("byte_range", "include", "head", "upload_file", "remove_on_error")
        for other in others:
            if given[other]:
                option = "range" if other == "byte_range" else other.replace("_", "-")
                raise Failure(Exit.USAGE, f"--continue-at does not go with --{option}")
    return Saving(
        include=given["include"] or given["head"],
        continues=place is not None,
        at=None if place in (None, STDIO) else int(place),
        create_dirs=given["create_dirs"],
        remove_on_error=given["remove_on_error"],
        dump_header=given["dump_header"],
        write_out=_format(given["write_out"]),
    )


def _format(text: str) -> str:
    """The argument of --write-out; `@FILE` is in a file."""
    return read_data(text, binary=True).decode("utf-8", "replace") if text[:1] == "@" else text


def _data(given: dict[str, Any], order: list[str]) -> bytes | None:
    """All that is to be posted, in the order of the command line; None: nothing."""
    sources: dict[str, Iterator[str]] = {
        name: iter(given[name]) for name in ("data", "data_raw", "data_binary", "json")
    }
    names = [name for name in order if name in sources]
    parts = []
    for name in names:
        text = next(sources[name])
        raw = name == "data_raw"
        parts.append(text.encode() if raw else read_data(text, binary=name != "data"))
    return (b"" if given["json"] else b"&").join(parts) if names else None


def _jobs(given: dict[str, Any], order: list[str]) -> Iterator[Job]:
    """The n-th -o or -O is the n-th URL's, the n-th -T likewise."""
    named, uploads = iter(given["output"]), iter(given["upload_file"])
    outputs = [
        next(named) if name == "output" else REMOTE_NAME
        for name in order
        if name in ("output", "remote_name")
    ]
    if len(outputs) > len(given["urls"]):
        raise Failure(Exit.USAGE, f"{len(outputs)} of -o and -O, but {len(given['urls'])} URLs")
    for number, text in enumerate(given["urls"]):
        upload = next(uploads, "")
        if upload not in ("", STDIO) and urlsplit(text).path.endswith("/"):
            text += os.path.basename(upload)
        url = _checked(Exit.BAD_URL, parse_url, text)
        output = outputs[number] if number < len(outputs) else STDIO
        if output == REMOTE_NAME:
            output = _remote_name(url)
        if output != STDIO:
            output = str(Path(given["output_dir"]) / output)
        yield Job(url, output, upload)


def _remote_name(url: Url) -> str:
    name = url.target.partition("?")[0].rpartition("/")[2]
    if name in ("", ".", ".."):
        raise Failure(Exit.WRITE, f"no file name at the end of {url.target!r}: use -o")
    return name
