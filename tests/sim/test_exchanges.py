"""Whole exchanges on the simulated network: every byte right, no hang, one seed one run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.world import Config, World
from trickles_web.config import ClientConfig
from trickles_web.errors import FlowTimeout
from trickles_web.testing import network

each_kind = pytest.mark.usefixtures("each_kind")

PATH = network.Path(loss=0.05, request_loss=0.05, reorder=0.05, duplicate=0.02, corrupt=0.005)


def mixed_flows(seed: int, flows: int) -> World:
    """Flows of mixed sizes over three replicas; soft state wiped about once per exchange."""
    draw = random.Random(seed)
    # Replicas share no store here, so each request is one datagram.
    world = World(seed, Config(path=PATH, replicas=3, wipe_every=0.02))
    for i in range(flows):
        exchanges = [
            (
                draw.choice((1, 100, 1500, 8000, draw.randrange(1, 60_000))),
                draw.choice((0, 0, 300)),
                0,
            )
            for _ in range(draw.choice((1, 1, 2, 4)))
        ]
        if i % 50 == 0:
            exchanges.append((400_000, 0, 0))
        world.add(exchanges, at=draw.random() * flows / 50)
    return world


def verdict(world: World) -> tuple[int, int, list[str]]:
    clients = world.clients.values()
    errors = [str(client.flow.error) for client in clients if client.flow.error]
    return world.finished, sum(client.wrong for client in clients), errors


@each_kind
@pytest.mark.parametrize("number", range(2))
def test_2000_flows_over_three_replicas(number: int) -> None:
    seed = 2 * number + Config.private
    world = mixed_flows(seed, 500)
    assert world.run(900), f"seed {seed}: a flow hangs at {world.clock.now:.1f} s"
    assert verdict(world) == (500, 0, [])


A_RUN = """
from tests.sim.test_exchanges import mixed_flows
from trickles_web.transport import replay
replay.FALSE_POSITIVES = 0.5  # which are part of a run, and too rare to show in a short one
world = mixed_flows(17, 40)
assert world.run(900)
down, up = world.down_link, world.up_link
print(world.clock.now, down.carried, up.carried, down.dropped)
print(*(client.flow.stats for client in world.clients.values()))
"""


def test_the_same_seed_gives_the_same_run() -> None:
    """In any process: Python salts the hashes of bytes anew in each."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", A_RUN],
            env=os.environ | {"PYTHONHASHSEED": salt},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


def random_world(seed: int) -> World:
    """One flow on a network and servers drawn at random, up to the absurd."""
    draw = random.Random(seed * 7919)
    loss = draw.choice((0, 0.001, 0.01, 0.05, 0.2))
    request_loss = draw.choice((0, 0, 0.01, 0.05, 0.2))
    path = network.Path(
        loss=loss,
        request_loss=request_loss,
        reorder=draw.choice((0, 0, 0.02, 0.2)),
        duplicate=draw.choice((0, 0, 0.05)),
        corrupt=draw.choice((0, 0, 0.02)),
        rate=draw.choice((5e5, 8e6, 8e7)),
        delay=draw.choice((0.0002, 0.01, 0.05)),
        queue=draw.choice((6_000, 40_000, 240_000)),
    )
    replicas = draw.choice((1, 1, 2, 3))
    wipe_every = draw.choice((0, 0, 0.1, 1))
    kill_every = draw.choice((0, 0, 0, 1))
    # What only one process holds must live as long as it takes to arrive.
    body = 0 if replicas > 1 else 1000 if wipe_every or kill_every else 50_000
    largest = 100_000 if loss >= 0.2 else 800_000
    exchanges = [
        (
            draw.choice((1, 50, 1000, 5000, draw.randrange(1, largest))),
            draw.choice((0, 0, 0, 100, 3000, 50_000)) and draw.randrange(body + 1),
            draw.choice((0, 0, 0, 0, 1, 30)),
        )
        for _ in range(draw.choice((1, 1, 3, 10)))
    ]
    config = Config(path=path, replicas=replicas, wipe_every=wipe_every, kill_every=kill_every)
    world = World(seed, config)
    world.add(exchanges)
    return world


@each_kind
@pytest.mark.parametrize("block", range(8))
def test_networks_drawn_at_random(block: int) -> None:
    for seed in range(block * 25 + Config.private, block * 25 + 25, 2):
        world = random_world(seed)
        assert world.run(2000), f"seed {seed}: hangs at {world.clock.now:.1f} s"
        assert verdict(world) == (1, 0, []), f"seed {seed}"


@each_kind
def test_a_response_in_pieces_arrives_as_it_is_made() -> None:
    world = World(1, Config())
    world.add([(20_000, 0, 30)])
    assert world.run(5)
    assert verdict(world) == (1, 0, [])
    assert 0.3 <= world.clock.now < 0.4


@each_kind
def test_a_returning_client_needs_one_round_trip_less() -> None:
    """And a private one another less, if it knows the servers."""
    times = []
    token, server = b"", None
    for _ in range(2):
        world = World(3, Config(path=network.Path(delay=0.010)))
        client = world.add([(900, 0, 0)])
        client.flow = client.new_flow(token, server)
        assert world.run(5)
        times.append(world.clock.now)
        token, server = client.flow.token, getattr(client.flow, "_server", None)
    stranger, returning = times
    introduction = 0.020 if Config.private else 0
    assert 0.040 <= stranger - introduction < 0.041
    assert 0.020 <= returning < 0.021


@each_kind
def test_a_dead_server_costs_no_byte() -> None:
    world = World(5, Config(kill_every=0.5, dead_for=0.2))
    world.add([(20_000_000, 0, 0)])
    assert world.run(120)
    assert verdict(world) == (1, 0, [])


def test_a_request_that_servers_lose_as_often_as_it_is_sent_ends() -> None:
    world = World(3, Config(wipe_every=0.05))
    client = world.add([(100, 1_000_000, 0)])
    world.clock.run(lambda: client.flow.error is not None, 300)
    assert isinstance(client.flow.error, FlowTimeout), "it goes on for ever"
    assert "servers lose the request" in str(client.flow.error)
    assert world.clock.now > ClientConfig().silence_timeout_s
