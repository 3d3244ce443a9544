"""One URL from its first request to the last byte: redirects, resuming, and trying again.

A part that is there already is asked for no second time if the server still has the same version
of it, which a strong entity tag tells; else the file begins anew, or the transfer fails: bytes of
two versions are never put together. Without a tag, --continue-at trusts the user, as curl does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from time import monotonic

import click
import h11

from trickles_web.cli.get.failures import Came, Exit, Failure, explain
from trickles_web.cli.get.flows import Answer, Flows
from trickles_web.cli.get.meters import Meter, Meters
from trickles_web.cli.get.options import Job, Options
from trickles_web.cli.get.output import Output
from trickles_web.cli.get.requests import IDEMPOTENT, build_request, redirected, resumed
from trickles_web.cli.get.stats import Stats
from trickles_web.client.fetch import EmptyReply, Head, Request
from trickles_web.client.striped import content_range
from trickles_web.client.url import Url

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""curl's list of answers that may be others in a while,"""
UNEXECUTED = frozenset({408, 429, 503})
"""and those by which a server says that it did nothing."""
LASTING = frozenset(
    {
        *(Exit.USAGE, Exit.BAD_URL, Exit.PROTOCOL, Exit.WRITE, Exit.READ, Exit.RANGE),
        *(Exit.REDIRECTS, Exit.NO_KEY, Exit.IDENTITY, Exit.PIN),
    }
)
"""What trying again would not change."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 600.0
"""curl's: before the first retry, doubled with each."""
LOOK_S = 0.1
"""How often a long upload shows its progress."""


class Transfer:
    """See the module. `stats` tells how it went."""

    def __init__(
        self, options: Options, job: Job, flows: Flows, meters: Meters, dump: Output | None
    ) -> None:
        saving = options.saving
        self._options, self._job, self._flows, self._meters = options, job, flows, meters
        self._dump = dump
        self._output = Output(job.output, append=saving.continues, create_dirs=saving.create_dirs)
        self._begin = 0
        if saving.continues:
            self._begin = self._output.start if saving.at is None else saving.at
        self._have = self._begin
        """Bytes of the resource that need not come any more."""
        self._etag = self._output.etag() if saving.continues else b""
        self._began = monotonic()
        self.stats = Stats(job.url, "" if self._output.path is None else job.output)

    async def run(self) -> None:
        """Raises Failure."""
        try:
            request = build_request(self._options.asking, self._job)
            self.stats.method = request.method
            with self._meters.transfer() as meter:
                await self._attempts(request, meter)
            self._output.mark(b"")
        except Failure as failure:
            self.stats.failure = failure
            if self._options.saving.remove_on_error:
                self._output.remove()
            raise
        finally:
            self.stats.ended = monotonic()
            self._output.close()

    # ---- trying again

    async def _attempts(self, request: Request, meter: Meter) -> None:
        while True:
            try:
                return await self._attempt(request, meter)
            except Failure as failure:
                wait = self._wait(failure, request)
                if wait is None:
                    raise
                self._warn(failure, wait)
            await asyncio.sleep(wait)
            self.stats.retries += 1
            self.stats.restart()
            if not self._can_resume(request):
                self._output.restart()
                self._have = self._begin

    def _wait(self, failure: Failure, request: Request) -> float | None:
        """Seconds until it is tried again; None if that is not wanted, or would be wrong."""
        retrying, count = self._options.retrying, self.stats.retries
        wanted = failure.transient or (retrying.all_errors and failure.code not in LASTING)
        if count >= retrying.count or not wanted:
            return None
        if not (failure.unexecuted or request.method in IDEMPOTENT):
            return None  # it may have been executed, and twice would be wrong
        if not (self._output.can_restart or self._can_resume(request)):
            return None  # a pipe takes nothing back
        wait = retrying.delay or min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**count)
        wait = max(wait, failure.wait_s or 0.0)
        over = monotonic() + wait - self._began > retrying.max_time
        return None if retrying.max_time and over else wait

    def _can_resume(self, request: Request) -> bool:
        """Is it known of which version the part is that came?"""
        plain = request.method == "GET" and not self._options.asking.byte_range
        return plain and bool(self._etag) and self._have > 0

    def _warn(self, failure: Failure, wait: float) -> None:
        if self._options.quiet:
            return
        left = self._options.retrying.count - self.stats.retries
        click.echo(
            f"trickles-get: ({failure.code:d}) {failure}; trying again in {wait:g} s, "
            f"{left} {'time' if left == 1 else 'times'} more at most",
            err=True,
        )

    # ---- one attempt

    async def _attempt(self, request: Request, meter: Meter) -> None:
        """Raises Failure."""
        began, answers = monotonic(), list[Answer]()
        opened = self._flows.opened
        try:
            async with asyncio.timeout(self._options.limits.max_time):
                await self._follow(request, meter, answers)
        except (OSError, EmptyReply, h11.ProtocolError) as error:
            received = answers[-1].received if answers else 0
            missing = answers[-1].missing if answers else None
            raise explain(error, Came(received, missing, monotonic() - began)) from error
        finally:
            self.stats.flows += self._flows.opened - opened
            self.stats.uploaded = sum(answer.uploaded for answer in answers)

    async def _follow(self, request: Request, meter: Meter, answers: list[Answer]) -> None:
        """The answer, and those to which it leads."""
        url = self._job.url
        while True:
            plain = request.method == "GET" and self._have > 0
            asked = resumed(request, self._have, self._etag) if plain else request
            async with self._flows.answer(url, asked) as answer:
                answers.append(answer)
                with self._uploading(answer, asked, meter):
                    head = await self._head(answer)
                following = self._redirected(request, url, head)
                if following is None:
                    return await self._take(answer, head, asked, meter)
                async for _ in answer.body():
                    pass
            request, url = following
            self.stats.effective = url

    def _redirected(self, request: Request, url: Url, head: Head) -> tuple[Request, Url] | None:
        """Raises Failure for one too many."""
        most = self._options.asking.redirects
        if not most:
            with contextlib.suppress(Failure):
                place = redirected(request, url, head)
                if place is not None:
                    self.stats.redirect_url = str(place[1])
            return None
        following = redirected(request, url, head)
        if following is not None:
            self.stats.redirects += 1
            if 0 < most < self.stats.redirects:
                raise Failure(Exit.REDIRECTS, f"maximum ({most}) redirects followed")
        return following

    @contextlib.contextmanager
    def _uploading(self, answer: Answer, request: Request, meter: Meter) -> Iterator[None]:
        """Shows how much of the request is sent."""
        body = request.body
        if body is None:
            yield
            return

        async def show() -> None:
            while True:
                await asyncio.sleep(LOOK_S)
                meter.advance(answer.uploaded, body.length)

        task = asyncio.create_task(show())
        try:
            yield
        finally:
            task.cancel()

    async def _head(self, answer: Answer) -> Head:
        """The final head; all of them are shown and kept as the options say."""
        said = answer.sent
        self._say(">", said.split(b"\r\n")[:-1])
        while True:
            head = await answer.head()
            if not said:
                said = answer.sent
                self._say(">", said.split(b"\r\n")[:-1])
            lines = head.lines()
            self._say("<", [*lines, b""])
            self.stats.headed(head)
            text = b"\r\n".join([*lines, b"", b""])
            if self._dump is not None:
                await self._dump.write(text)
            if self._options.saving.include and not self._options.fail:
                await self._output.write(text)
            if head.final:
                return head

    def _say(self, mark: str, lines: Sequence[bytes]) -> None:
        if self._options.verbose:
            for line in lines:
                click.echo(f"{mark} {line.decode('latin-1')}".rstrip(), err=True)

    # ---- what is done with the answer

    async def _take(self, answer: Answer, head: Head, request: Request, meter: Meter) -> None:
        resuming = request.method == "GET" and self._have > 0
        if head.status == 416 and resuming:
            return self._nothing_left(head)
        if head.status >= 400:
            failure = _http_error(head)
            again = self._wait(failure, request) is not None
            # What is not a part of the file has no place behind its parts.
            if self._options.fail or resuming or again:
                raise failure
        elif resuming:
            self._continue(head)
        await self._write(answer, head, meter)

    def _nothing_left(self, head: Head) -> None:
        """The range begins behind the end: at it, if the file was whole. Else raises Failure."""
        told = head.get(b"content-range").removeprefix(b"bytes */").strip()
        if told != b"%d" % self._have:
            size = told.decode("latin-1") if told.isdigit() else "fewer"
            raise Failure(
                Exit.RANGE,
                f"cannot resume at {self._have}: the server's file has {size} bytes; "
                "is it another version? Without --continue-at it is fetched anew",
            )

    def _continue(self, head: Head) -> None:
        """Is it the rest that comes? Raises Failure if that cannot be written where it belongs."""
        told = content_range(head) if head.status == 206 else None
        if told is not None and told[0] == self._have:
            return
        if self._begin or head.status == 206 or not self._output.can_restart:
            why = "it sends no ranges, or has another version now"
            if head.status >= 300:
                why = f"status {head.status}; --location follows redirects"
            raise Failure(
                Exit.RANGE,
                f"cannot resume at {self._have}: the server does not send the rest ({why}). "
                "Without --continue-at it is fetched anew",
            )
        self._output.restart()
        self._have = 0

    async def _write(self, answer: Answer, head: Head, meter: Meter) -> None:
        """The body, to where it belongs."""
        output, stats = self._output, self.stats
        output.open()
        whole = head.status == 200 or (head.status == 206 and self._have > 0)
        if whole and not self._options.asking.byte_range:
            self._etag = head.etag
            output.mark(head.etag)
        total = None if head.length is None else self._have + head.length
        meter.advance(self._have, total)
        body: AsyncIterator[bytes] = answer.body()
        async for data in body:
            await output.write(data)
            self._have += len(data)
            stats.downloaded += len(data)
            meter.advance(self._have, total)


def _http_error(head: Head) -> Failure:
    told = head.get(b"retry-after")
    unknown = bool(head.get(b"trickles-outcome"))
    why = " (whether the request was executed is unknown)" if unknown else ""
    return Failure(
        Exit.HTTP_ERROR,
        f"the requested URL returned error: {head.status}{why}",
        transient=head.status in TRANSIENT,
        unexecuted=head.status in UNEXECUTED and not unknown,
        wait_s=float(told) if told.isdigit() else None,
    )
