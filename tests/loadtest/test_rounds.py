"""Contenders in turns, what is made of their samples, and CPU clocks."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from loadtest.measure import Interval, cpu_seconds, family, interval
from loadtest.rounds import Comparison, Sample, p50, spread, take_turns


def sample(amount: float, server_s: float, *, client_s: float = 0.5, p50_us: float = 0.0) -> Sample:
    """One second, of which the server used so much."""
    cost = Interval(seconds=1.0, server_s=server_s, client_s=client_s, foreign_s=0.25)
    return Sample(amount, 1.0, amount, cost, p50_us=p50_us)


def test_each_takes_its_turn_in_every_round_and_each_begins_once() -> None:
    order: list[str] = []

    def turn(name: str) -> Sample:
        order.append(name)
        return sample(1, 1)

    found = take_turns({name: lambda name=name: turn(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"
    assert {name: len(samples) for name, samples in found.samples.items()} == dict.fromkeys(
        "abc", 3
    )


def test_a_turn_that_fails_ends_it() -> None:
    def turn() -> Sample:
        raise RuntimeError("nobody answers")

    with pytest.raises(RuntimeError, match="nobody"):
        take_turns({"a": turn}, 1)


def test_ratios_are_of_one_round() -> None:
    """The machine slows down by half from round to round: the ratio does not change."""
    ours = [sample(300, 1.0), sample(300, 2.0), sample(600, 8.0)]
    theirs = [sample(100, 1.0), sample(100, 2.0), sample(100, 4.0)]
    found = Comparison({"ours": ours, "theirs": theirs})
    assert found.ratios("ours", "theirs") == [3.0, 3.0, 3.0]
    first, second = found.rows({"ours": "theirs"})
    assert first["ratio of these"] == "3.00" and first["to"] == "theirs"
    assert second["ratio of these"] == "-" and second["to"] == "-"
    assert first["requests/s"] == 300
    assert first["server CPU us per request"] == pytest.approx(2.0 / 300 * 1e6)
    assert first["client-bound"] == "-" and first["foreign CPU %"] == 25


def test_the_cpu_time_is_of_all_requests_and_the_rate_of_those_measured() -> None:
    it = Sample(amount=100, seconds=2.0, total=400, cost=Interval(2.5, 1.0))
    assert it.rate == 50
    assert it.per_server_s == 400 and it.server_us == 2500


def test_latencies_are_compared_like_costs() -> None:
    found = Comparison({"a": [sample(1, 1, p50_us=60)], "b": [sample(1, 1, p50_us=120)]})
    assert found.ratios("a", "b", p50) == [0.5]


def test_a_busy_client_is_told() -> None:
    (row,) = Comparison({"a": [sample(1, 1, client_s=0.95)]}).rows({})
    assert row["client-bound"] == "yes"


def test_spread() -> None:
    assert spread([3.14159]) == "3.14 to 3.14"
    assert spread([20.04, 2]) == "2.0 to 20.0"
    assert spread([12345.6, 999.4]) == "999 to 12,346"


BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_cpu_time_of_a_process_and_its_children() -> None:
    """Both burn 0.3 s; a thread that has ended counts, too."""
    thread = f"import threading; t = threading.Thread(target=exec, args=({BURN!r},))"
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {BURN!r}, 'x'])"
    code = f"{thread}; t.start(); t.join(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert cpu_seconds([process.pid]) >= 0.3
        process.communicate(b"\n")
    assert cpu_seconds([process.pid]) == 0
    code = f"{child}; print(flush=True); input(); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert len(family(process.pid)) == 2
        process.communicate(b"\n")


def test_an_interval_knows_servers_clients_and_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        with interval([server.pid]) as found:
            subprocess.run([sys.executable, "-c", BURN], check=True)
            began = time.process_time()
            while time.process_time() < began + 0.05:
                pass
        server.communicate(b"\n")
    assert found.client_s >= 0.3
    assert found.server_s < 0.3 and found.seconds > 0
    assert found.foreign_s < found.seconds * 1000
