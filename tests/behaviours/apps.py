"""Applications of the table. What they find out, they note on the stage or answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from tests.behaviours.ways import Application, Stage
from tests.http.apps import read_body
from trickles_web.http.scope import Message, Receive, Scope, Send

Header = tuple[bytes, bytes]


def start(status: int = 200, *headers: Header) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def describe(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Notes "METHOD path" and answers what it was asked, as JSON."""
    data = await read_body(receive)
    stage.seen.append(f"{scope['method']} {scope['path']}")
    kinds = ("method", "path", "root_path", "scheme", "http_version", "client", "server")
    said = {kind: scope[kind] for kind in kinds}
    said["raw_path"] = scope["raw_path"].decode()
    said["query"] = scope["query_string"].decode()
    said["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    said["body"] = data.decode("latin-1")
    await send(start(200))
    await send(body(json.dumps(said).encode()))


def sends(*messages: Message) -> Application:
    """Sends these messages, come what may."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def tries(*messages: Message) -> Application:
    """Notes the RuntimeError of each message that was wrong, and goes on."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            try:
                await send(message)
            except RuntimeError as error:
                stage.seen.append(str(error))

    return app


def raises(*messages: Message) -> Application:
    """Raises after these messages."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise ValueError("on purpose")

    return app


def streams(pieces: Sequence[bytes], *headers: Header) -> Application:
    """Sends piece after piece, with a pause after each, and notes how much it has sent."""

    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        sent = 0
        await send(start(200, *headers))
        for piece in pieces:
            await send(body(piece, more=True))
            sent += len(piece)
            stage.seen.append(sent)
            await asyncio.sleep(0)
        await send(body(b""))

    return app


async def sends_file(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200, (b"content-type", b"application/x-test")))
    await send({"type": "http.response.pathsend", "path": str(stage.file)})


async def sends_no_file(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send({"type": "http.response.pathsend", "path": f"{stage.file}.missing"})


async def listens(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Notes what `receive` gives after the body, and when; the client must read for it to end."""
    await read_body(receive)
    heard = asyncio.create_task(receive())  # type: ignore[arg-type, var-annotated]
    await send(start())
    for _ in range(20):
        await send(body(bytes(1000), more=True))
        stage.seen.append("early" if heard.done() else "in time")
    await send(body(b""))
    stage.seen.append((await heard)["type"])


async def outlives_its_client(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await send(start())
    await send(body(bytes(5000), more=True))
    stage.seen.append((await receive())["type"])
    await send(body(b"to nobody", more=True))
    stage.seen.append("ran on")


async def works_on(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Has work to do after its response."""
    await read_body(receive)
    await send(start())
    await send(body(b"accepted"))
    await stage.go_on.wait()
    stage.seen.append("worked on")


async def acts(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Executes: notes so, and answers the number of this execution once it may go on."""
    await read_body(receive)
    stage.seen.append("executed")
    number = len(stage.seen)
    await stage.go_on.wait()
    await send(start())
    await send(body(b"execution %d" % number))


async def keeps_state(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["pool"] = "open"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(start())
    await send(body(scope["state"]["pool"].encode()))
    scope["state"]["pool"] = "of this request only"


async def returns(stage: Stage, scope: Scope, receive: Receive, send: Send) -> object:
    await send(start())
    await send(body(b"hello"))
    return "not None"
