"""All URLs of a command line: one after the other or in parallel, until the last, or a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import click

from trickles_web.cli.get.failures import Exit, Failure
from trickles_web.cli.get.flows import Flows
from trickles_web.cli.get.meters import Meters
from trickles_web.cli.get.options import Job, Options
from trickles_web.cli.get.output import Output
from trickles_web.cli.get.stats import write_out
from trickles_web.cli.get.transfer import Transfer

PROGRAM = "trickles-get"


def complain(failure: Failure, *, about: str = "") -> int:
    """One line on stderr, unless it is a quiet one; the exit code."""
    if not failure.quiet:
        where = f" [{about}]" if about else ""
        click.echo(f"{PROGRAM}: ({failure.code:d}) {failure}{where}", err=True)
    return failure.code


async def run(options: Options) -> int:
    """The exit code: of the first transfer that failed."""
    flows, meters = Flows(options), Meters(options)
    dump = Output(options.saving.dump_header) if options.saving.dump_header else None
    codes: list[int] = []
    waiting = iter(options.jobs)

    async def work() -> None:
        for job in waiting:
            code = await _transfer(options, Transfer(options, job, flows, meters, dump), job)
            if code:
                codes.append(code)
                if options.limits.fail_early:
                    return

    _abort_on_interrupt(flows)
    try:
        async with meters.running(), asyncio.TaskGroup() as group:
            for _ in range(min(options.limits.parallel, len(options.jobs))):
                group.create_task(work())
    finally:
        flows.close()
        if dump is not None:
            dump.close()
    return codes[0] if codes else Exit.OK


async def _transfer(options: Options, transfer: Transfer, job: Job) -> int:
    code: int = Exit.OK
    several = len(options.jobs) > 1
    try:
        await transfer.run()
    except Failure as failure:
        failure.quiet = failure.quiet or options.quiet
        about = str(job.url) if several else ""
        code = complain(failure, about=about)
    if options.saving.write_out:
        with _closed_stdout():
            write_out(options.saving.write_out, transfer.stats)
    return code


@contextlib.contextmanager
def _closed_stdout() -> Iterator[None]:
    """Whoever reads stdout may have gone: nothing to say."""
    with contextlib.suppress(BrokenPipeError):
        yield


def _abort_on_interrupt(flows: Flows) -> None:
    """Ctrl-C and SIGTERM: tell the servers in one datagram each, then die as the signal says."""

    def interrupted(number: int) -> None:
        flows.abort()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Signals are the main thread's; run from another one, the caller handles them.
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, interrupted, number)
