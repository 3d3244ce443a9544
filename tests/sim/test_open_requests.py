"""Requests that are taken while they are answered, whole flows in virtual time: every byte of both
directions once and in order, no hang, no memory without bound, one seed one run."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path as Directory

import pytest

from tests.sim.talks import Talk, Talker, answering
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowTimeout, OutcomeUnknown
from trickles_web.http import intake
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.testing.cluster import Cluster, Process
from trickles_web.testing.network import Path

each_kind = pytest.mark.usefixtures("each_kind")

NETWORK = Path(loss=0.05, request_loss=0.05, reorder=0.05, duplicate=0.02)


def pieces(draw: random.Random, count: int, most: int) -> tuple[bytes, ...]:
    return tuple(draw.randbytes(draw.randrange(1, most)) for _ in range(count))


def random_talk(draw: random.Random) -> Talk:
    return Talk(
        pieces(draw, draw.choice((1, 5, 20)), draw.choice((30, 3000, 20_000))),
        chunked=draw.random() < 0.5,
        pause=draw.choice((0, 0.01, 0.3)),
        answer_pause=draw.choice((0, 0.01, 0.3)),
        pipelined=draw.random() < 0.5,
        query="x" * draw.choice((0, 0, 2000, 5000)),
    )


def random_cluster(seed: int, directory: Directory) -> tuple[Cluster, Talker, int]:
    """One flow, its network and servers drawn at random; and the window it should have."""
    draw = random.Random(seed * 7919)
    loss = draw.choice((0, 0.01, 0.05, 0.2))
    path = Path(
        loss=loss,
        request_loss=loss,
        reorder=draw.choice((0, 0.05, 0.3)),
        duplicate=draw.choice((0, 0.05)),
        delay=draw.choice((0.0002, 0.01, 0.05)),
        rate=draw.choice((5e5, 8e6)),
    )
    cluster = Cluster(seed, answering, directory, path, draw.choice((1, 2, 3)))
    talks = [random_talk(draw) for _ in range(draw.choice((1, 3)))]
    room, read_pause = draw.choice((1 << 60, 5000, 1)), draw.choice((0, 0, 0.2))
    talker = Talker(cluster, talks, read_pause=read_pause, room=room)
    return cluster, talker, draw.choice((262_144, 30_000, 4000))


@each_kind
@pytest.mark.parametrize("block", range(8))
def test_conversations_drawn_at_random(
    block: int, tmp_path: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(block * 30 + Cluster.private, block * 30 + 30, 2):
        cluster, talker, window = random_cluster(seed, tmp_path / str(seed))
        monkeypatch.setattr(intake, "WINDOW", window)
        cluster.run(120)
        assert talker.flow.error is None, f"seed {seed}"
        assert talker.answers.whole == len(talker.talks), f"seed {seed}"


def many_talkers(seed: int, directory: Directory, flows: int) -> Cluster:
    draw = random.Random(seed)
    cluster = Cluster(seed, answering, directory, NETWORK, count=3)
    for _ in range(flows):
        Talker(cluster, [random_talk(draw) for _ in range(2)], at=draw.random() * 2)
    return cluster


@each_kind
def test_many_flows_at_once(tmp_path: Directory) -> None:
    cluster = many_talkers(3, tmp_path, 30)
    cluster.run(300)
    for client in cluster.clients.values():
        assert isinstance(client, Talker)
        assert (client.flow.error, client.answers.whole) == (None, 2)


A_RUN = """
import sys
from pathlib import Path
from tests.sim.test_open_requests import many_talkers
cluster = many_talkers(17, Path(sys.argv[1]), 10)
cluster.run(300)
down, up = cluster.down_link, cluster.up_link
print(cluster.clock.now, down.carried, up.carried, down.dropped)
print(*(client.flow.stats for client in cluster.clients.values()))
"""


def test_the_same_seed_gives_the_same_run(tmp_path: Directory) -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", A_RUN, tmp_path / salt],
            env=os.environ | {"PYTHONHASHSEED": salt},
            cwd=Directory(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


def test_what_the_server_has_is_forgotten_by_the_client(tmp_path: Directory) -> None:
    """A long conversation is kept nowhere whole."""
    draw = random.Random(4)
    cluster = Cluster(4, answering, tmp_path, NETWORK, count=3)
    talker = Talker(cluster, [Talk(pieces(draw, 300, 5000))], room=20_000)
    most_held = 0

    def look() -> None:
        nonlocal most_held
        for process in cluster.processes:
            for run in process.service.runner.calls.runs:
                most_held = max(most_held, run.intake.size if run.intake is not None else 0)
        cluster.clock.after(0.01, look)

    look()
    cluster.run(120)
    assert talker.answers.whole == 1
    assert len(talker.talks[0].expected) > 2 * intake.WINDOW
    assert talker.most_kept < 20_000 + 5000 + 100
    assert 0 < most_held < 2 * intake.WINDOW


@each_kind
@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(4))
def test_minutes_of_silence_end_nothing(seed: int, loss: float, tmp_path: Directory) -> None:
    """Continuations grow old, and what is parked is forgotten."""
    draw = random.Random(seed)
    path = Path(loss=loss, request_loss=loss)
    cluster = Cluster(seed, answering, tmp_path, path, count=1 + 2 * (seed % 2))
    talk = Talk(pieces(draw, 4, 3000), pause=150, answer_pause=(0, 150)[seed // 2])
    talker = Talker(cluster, [talk, talk])
    cluster.run(3600)
    assert (talker.flow.error, talker.answers.whole) == (None, 2)
    assert cluster.clock.now > 200


def test_an_application_that_reads_nothing_for_minutes_is_no_dead_server(
    tmp_path: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when the client rests too: each side waits for the other's next step, which comes."""
    monkeypatch.setattr(intake, "WINDOW", 4000)
    cluster = Cluster(1, answering, tmp_path, client=ClientConfig(receive_buffer_bytes=20_000))
    draw = random.Random(1)
    config = replace(cluster.config, response_buffer_bytes=10_000)
    cluster.processes[0].service.runner.config = config
    talker = Talker(cluster, [Talk(pieces(draw, 200, 3000))], read_pause=200)

    def rested() -> None:
        talker.read_pause = 0.0

    cluster.clock.after(600, rested)
    cluster.run(1000)
    assert (talker.flow.error, talker.answers.whole) == (None, 1)
    assert cluster.clock.now > 600


@each_kind
@pytest.mark.parametrize("seed", range(6))
def test_a_client_that_moves_goes_on(seed: int, tmp_path: Directory) -> None:
    """To another port and to another host: there it proves its address first."""
    draw = random.Random(seed)
    cluster = Cluster(seed, answering, tmp_path, NETWORK, count=1 + seed % 3)
    talker = Talker(cluster, [Talk(pieces(draw, 60, 3000), pause=0.05, answer_pause=0.01)])

    def move(address: tuple[str, int]) -> None:
        cluster.clients[address] = talker
        talker.address = address

    cluster.clock.after(0.5, lambda: move(("10.9.9.9", 5000)))
    cluster.clock.after(1.0, lambda: move(("10.9.9.9", 6000)))
    cluster.clock.after(1.5, lambda: move(("10.8.8.8", 6000)))
    cluster.run(30)
    assert (talker.flow.error, talker.answers.whole) == (None, 1)
    assert cluster.clock.now > 2


def kill_its_owner(cluster: Cluster, at: float) -> None:
    def kill() -> None:
        owner = cluster.owner()
        owner.kill()
        cluster.processes.remove(owner)

    cluster.clock.after(at, kill)


@each_kind
@pytest.mark.parametrize("seed", range(12))
def test_a_dead_owner_ends_the_flow_with_an_error(seed: int, tmp_path: Directory) -> None:
    draw = random.Random(seed)
    loss = draw.choice((0, 0.05))
    cluster = Cluster(seed, answering, tmp_path, Path(loss=loss, request_loss=loss), count=3)
    pause = draw.choice((0.01, 0.1, 3))
    talk = Talk(pieces(draw, 200, 3000), draw.random() < 0.5, pause, draw.choice((0, pause)))
    talker = Talker(cluster, [talk])
    at = 0.5 + draw.random() * 5 * min(pause, 0.3)
    kill_its_owner(cluster, at)
    cluster.run(at + 20)
    assert isinstance(talker.flow.error, OutcomeUnknown), talker.flow.error
    assert not talker.answers.whole


def test_no_server_at_all_ends_the_flow_after_a_minute(tmp_path: Directory) -> None:
    cluster = Cluster(1, answering, tmp_path)
    talker = Talker(cluster, [Talk(pieces(random.Random(1), 1000, 300), pause=0.1)])
    cluster.clock.after(5, lambda: cluster.owner().kill())
    cluster.run(70)
    assert isinstance(talker.flow.error, FlowTimeout)


@each_kind
@pytest.mark.parametrize("seed", range(16))
def test_an_answer_that_ends_first_ends_the_flow(seed: int, tmp_path: Directory) -> None:
    """Nobody could tell what comes of the request from the next one."""
    draw = random.Random(seed)
    loss = draw.choice((0, 0.05, 0.2))
    cluster = Cluster(seed, answering, tmp_path, Path(loss=loss, request_loss=loss), count=2)
    enough = f"enough={draw.randrange(10_000)}"
    chunked, pause = draw.random() < 0.5, draw.choice((0, 0.1))
    talk = Talk(pieces(draw, 40, 3000), chunked, pause, query=enough)
    talker = Talker(cluster, [talk, replace(talk, query="")])
    cluster.run(60)
    assert (talker.flow.error, talker.answers.whole) == (None, 1)
    assert talker.flow.eof


def seeing(paths: list[str]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await answering(scope, receive, send)

    return app


class Smuggler(Talker):
    """Its body looks like a request, and comes when the server has died."""

    died: asyncio.Event

    async def _write(self) -> None:
        body = b"GET /smuggled?seed=1&pause=0 HTTP/1.1\r\nHost: test\r\n\r\n"
        self.write(Talk((body,), chunked=False).head(1))
        await self.died.wait()
        self.write(body)


@each_kind
def test_a_body_is_never_taken_for_a_request(tmp_path: Directory) -> None:
    """Not by a process that knows nothing of the exchange, and finds it at the request's end."""
    paths: list[str] = []
    cluster = Cluster(1, seeing(paths), tmp_path, count=2)
    talker = Smuggler(cluster, [Talk(())])
    talker.died = asyncio.Event()

    def kill(owner: Process) -> None:
        owner.kill()
        cluster.processes.remove(owner)
        talker.died.set()

    cluster.clock.after(0.5, lambda: kill(cluster.owner()))
    cluster.run(30)
    assert paths == ["/"]
    assert isinstance(talker.flow.error, OutcomeUnknown)
