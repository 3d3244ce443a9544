"""The pytest plugin: `trickles_client` serves an application from several replicas, over a network
that loses packets.

A test that fails is run again with one replica. If it passes then, the replicas are to blame, and
its report says so.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol  # it has no public name, and plugins that rerun need it

from trickles_web.errors import UsageError

if TYPE_CHECKING:  # a session without these fixtures is not to pay for what they import
    from trickles_web.testing.clients import Clients, MakeAsyncClient, MakeClient
    from trickles_web.testing.simulation import Simulation
    from trickles_web.testing.story import Story
    from trickles_web.testing.verdict import Verdict
    from trickles_web.testing.world import Settings

FIXTURES = {"trickles_client", "trickles_async_client"}
MILLISECONDS = "trickles_ms"
"""The property of a test: what it took to begin and to end its simulations."""
MOST_REPLICAS = 64

_CLIENTS = pytest.StashKey["list[Clients]"]()
_SEED = pytest.StashKey[int]()
_ALONE = pytest.StashKey[bool]()
"""This is the second run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trickles", "applications served by several replicas (trickles-web)")
    replicas = "replicas that serve an application; 3 unless told"
    loss = "probability that a packet is lost; 0.05 unless told"
    seed = "of the network: a number, or 'random' for another one in each test"
    group.addoption("--trickles-replicas", metavar="N", help=f"{replicas}; whatever tests say")
    group.addoption("--trickles-loss", metavar="P", help=f"{loss}; whatever tests say")
    group.addoption("--trickles-seed", metavar="SEED", help=f"{seed}; whatever tests say")
    parser.addini("trickles_replicas", replicas, default="3")
    parser.addini("trickles_loss", loss, default="0.05")
    parser.addini("trickles_seed", f"{seed}; unless told, it follows from the name of the test")


def pytest_configure(config: pytest.Config) -> None:
    """Say what is wrong with an option once, not in each test."""
    for name in ("replicas", "loss", "seed"):
        for value in (config.getoption(f"trickles_{name}"), config.getini(f"trickles_{name}")):
            if value:
                try:
                    _number(name, value)
                except UsageError as error:
                    raise pytest.UsageError(str(error)) from None


def _number(name: str, value: Any) -> float:
    """The value of an option, or an argument. Raises UsageError."""
    try:
        number = float(value) if name == "loss" else int(value)
    except (TypeError, ValueError):
        number = -1 if (name, value) != ("seed", "random") else 0
    asked = f"trickles_{name}: {value!r} is not"
    if name == "replicas" and not 1 <= number <= MOST_REPLICAS:
        raise UsageError(f"{asked} a number of replicas from 1 to {MOST_REPLICAS}")
    if name == "loss" and not 0 <= number < 1:
        raise UsageError(f"{asked} a probability: at least 0 and less than 1")
    if name == "kill_every" and (number < 0 or number == 1):
        raise UsageError(
            f"{asked} 0 for never, or at least 2: who is always killed answers nothing"
        )
    if name == "seed" and number < 0:
        raise UsageError(f"{asked} a number of at least 0, or 'random'")
    return number


# -- fixtures -----------------------------------------------------------------------------------


@pytest.fixture
def trickles_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Makes an httpx.Client of an application: trickles_client(app, replicas=3, loss=0.05).

    With kill_every=5 every fifth call of the application is the last of its process. With
    private=True its flows are private, and the scheme is https.
    """
    for clients in _clients(request):
        yield clients.make


@pytest.fixture
def trickles_async_client(request: pytest.FixtureRequest) -> Iterator[MakeAsyncClient]:
    """The same for asyncio and Trio: async with trickles_async_client(app) as client."""
    for clients in _clients(request):
        yield clients.make_async


def _clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Those of one fixture, which are closed with it."""
    try:
        from trickles_web.testing.clients import Clients
    except ModuleNotFoundError as error:
        raise UsageError(
            f"trickles_client needs {error.name}: pip install 'trickles-web[pytest]'"
        ) from None
    item = request.node
    clients = Clients(lambda **asked: _settings(item, asked))
    item.stash.setdefault(_CLIENTS, []).append(clients)
    try:
        yield clients
    finally:
        clients.close()
        seconds = sum(simulation.seconds for simulation in clients.simulations)
        item.user_properties.append((MILLISECONDS, round(seconds * 1000, 1)))


def _settings(item: pytest.Item, asked: dict[str, Any]) -> Settings:
    """The command line counts most, then what the test asks for, then the ini file."""
    from trickles_web.testing.world import Settings

    config = item.config
    chosen = dict(asked)
    private = chosen.pop("private")
    for name in ("replicas", "loss", "seed"):
        told = config.getoption(f"trickles_{name}")
        if told is not None:
            chosen[name] = told
        elif asked[name] is None:
            chosen[name] = config.getini(f"trickles_{name}")
    chosen["kill_every"] = asked["kill_every"] or 0
    if chosen["seed"] in ("", "random"):
        chosen["seed"] = _seed(item, chosen["seed"])
    numbers = {name: _number(name, value) for name, value in chosen.items()}
    alone = item.stash.get(_ALONE, False)
    return Settings(
        replicas=1 if alone else int(numbers["replicas"]),
        loss=numbers["loss"],
        kill_every=0 if alone else int(numbers["kill_every"]),
        seed=int(numbers["seed"]),
        private=private,
    )


def _seed(item: pytest.Item, how: str) -> int:
    """The same in a second run; without "random" the same in every session."""
    drawn = random.SystemRandom().getrandbits(32) if how else zlib.crc32(item.nodeid.encode())
    return item.stash.setdefault(_SEED, drawn)


# -- runs and reports ---------------------------------------------------------------------------


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    call = next((report for report in reports if report.when == "call"), None)
    if call is not None:
        _explain(item, nextitem, call)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _explain(item: pytest.Item, nextitem: pytest.Item | None, report: pytest.TestReport) -> None:
    """Add to the report what the simulations tell."""
    simulations = [one for clients in item.stash[_CLIENTS] for one in clients.simulations]
    problems = [problem for one in simulations for problem in one.story.problems]
    if problems:
        report.sections.append(("trickles: errors of the application", "\n".join(problems)))
    if report.failed and simulations:
        from trickles_web.testing.verdict import verdict

        stories = [one.story for one in simulations]
        _blame(report, verdict(stories, _passes_alone(item, nextitem, simulations)), stories)


def _passes_alone(
    item: pytest.Item, nextitem: pytest.Item | None, simulations: list[Simulation]
) -> bool | None:
    """Run the test again, with fixtures of its own, and one replica. None: that is no other run."""
    many = any(one.settings.replicas > 1 or one.settings.kill_every for one in simulations)
    if not many or item.config.getoption("usepdb"):
        return None
    item.stash[_ALONE] = True
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    item.stash[_ALONE] = False
    return all(report.passed for report in reports)


def _blame(report: pytest.TestReport, found: Verdict, stories: list[Story]) -> None:
    from trickles_web.testing.verdict import account

    title = f"trickles: {found.title}" if found.title else "trickles"
    text = f"{found.text}\n\n{account(stories)}"
    shown: Any = report.longrepr
    if hasattr(shown, "addsection"):
        shown.addsection(title, text)
    else:
        report.longrepr = f"{shown}\n\n{title}\n{text}"
    crash = getattr(shown, "reprcrash", None)
    if crash is not None and found.title:
        crash.message = f"{found.title}: {crash.message}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the simulations cost."""
    took: list[float] = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, value in report.user_properties
        if name == MILLISECONDS and isinstance(value, float)
    ]
    if took:
        mean = sum(took) / len(took)
        terminalreporter.write_line(
            f"trickles: {mean:.0f} ms on average to start and end the replicas of a test "
            f"({len(took)} tests)"
        )
