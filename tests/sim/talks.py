"""Conversations: requests that go on while they are answered, by both sides' own clock."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from urllib.parse import parse_qsl

from trickles_web.http.scope import Receive, Scope, Send
from trickles_web.testing.cluster import Client, Cluster

ECHOED = bytes(byte ^ 0x5A for byte in range(256))
"""What an answer makes of each byte."""


@dataclass(frozen=True)
class Talk:
    """One request in pieces. Pauses are mean seconds before a piece, of either side."""

    pieces: tuple[bytes, ...]
    chunked: bool = True
    pause: float = 0.0
    answer_pause: float = 0.0
    pipelined: bool = False
    """The next request follows at once."""
    query: str = ""

    def head(self, seed: int) -> bytes:
        length = sum(map(len, self.pieces))
        framing = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {length}"
        target = f"/?seed={seed}&pause={self.answer_pause}&{self.query}"
        return f"POST {target} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n".encode()

    def framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece

    @property
    def expected(self) -> bytes:
        return b"".join(self.pieces).translate(ECHOED)


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back what it reads, changed, when it likes. `enough`: it ends after so many bytes."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    draw, pause = random.Random(query["seed"]), float(query["pause"])
    enough = int(query.get("enough", 1 << 60))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more, read = True, 0
    while more and read < enough:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if pause:
            await asyncio.sleep(draw.expovariate(1 / pause))
        body, more = message["body"], message["more_body"]
        read += len(body)
        await send(
            {"type": "http.response.body", "body": body.translate(ECHOED), "more_body": True}
        )
    await send({"type": "http.response.body", "body": b""})


class Bodies:
    """Reads one response after the other: the bodies of chunked ones, as far as they are here."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.whole = 0
        """Responses that are here to their end."""
        self._left = b""

    def feed(self, data: bytes) -> None:
        self._left += data
        while self._step():
            pass

    def _step(self) -> bool:
        if len(self.bodies) == self.whole:
            head, end, rest = self._left.partition(b"\r\n\r\n")
            if not end:
                return False
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert b"transfer-encoding: chunked" in head, head
            self.bodies.append(b"")
            self._left = rest
            return True
        line, end, rest = self._left.partition(b"\r\n")
        if not end or len(rest) < int(line, 16) + 2:
            return False
        size = int(line, 16)
        assert rest[size : size + 2] == b"\r\n"
        self.bodies[-1] += rest[:size]
        self.whole += not size
        self._left = rest[size + 2 :]
        return True


class Talker(Client):
    """Has its talks one after the other, and sees that each byte of an answer is right."""

    def __init__(
        self,
        cluster: Cluster,
        talks: list[Talk],
        *,
        at: float = 0.0,
        read_pause: float = 0.0,
        room: int = 1 << 60,
    ) -> None:
        """room: request bytes written that no server has taken, at most."""
        super().__init__(cluster)
        self.talks = talks
        self.answers = Bodies()
        self._at = at
        self.read_pause = read_pause
        self._room = room
        self._draw = random.Random(len(cluster.clients))

    @property
    def over(self) -> bool:
        return self.answers.whole == len(self.talks) or bool(self.flow.error) or self.flow.eof

    async def play(self) -> None:
        await asyncio.sleep(self._at)
        writer = asyncio.ensure_future(self._write())
        while not self.over:
            if self.read_pause:
                await asyncio.sleep(self._draw.expovariate(1 / self.read_pause))
            data = self.read()
            self.answers.feed(data)
            self._check()
            if not data and not self.over:
                await self.wait()
        self.answers.feed(self.read())
        self._check()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    def _check(self) -> None:
        for talk, body in zip(self.talks, self.answers.bodies, strict=False):
            assert talk.expected.startswith(body)
        for talk, body in zip(self.talks, self.answers.bodies[: self.answers.whole], strict=False):
            assert "enough" in talk.query or talk.expected == body

    async def _write(self) -> None:
        for number, talk in enumerate(self.talks):
            while not (self.answers.whole == number or self.talks[number - 1].pipelined):
                await self.wait()
            self.write(talk.head(self._draw.randrange(1 << 30)))
            for piece in talk.pieces:
                if talk.pause:
                    await asyncio.sleep(self._draw.expovariate(1 / talk.pause))
                while self.flow.untaken() >= self._room:
                    await self.wait()
                self.write(talk.framed(piece))
            if talk.chunked:
                self.write(b"0\r\n\r\n")
