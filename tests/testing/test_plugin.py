"""The plugin beside other plugins, its options, and what it reports."""

from __future__ import annotations

import pytest

from tests.documents import example
from trickles_web.testing.story import Asked, Story
from trickles_web.testing.verdict import verdict
from trickles_web.transport import wire

APPLICATION = """
import asyncio
import os

started = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        started.append("lifespan")
        scope["state"]["process"] = os.getpid()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with open("stopped", "a") as file:
            file.write(f"{os.getpid()}\\n")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/broken":
        raise ValueError("something is wrong")
    if scope["path"] == "/state":
        assert started == ["lifespan"]
        assert scope["state"]["process"] == os.getpid()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slow":
        for number in range(3):
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("COLUMNS", "200")  # summaries in full
    pytester.makeini("[pytest]\npythonpath = .\nfilterwarnings = error\naddopts = -p no:asyncio\n")
    pytester.makepyfile(simple=APPLICATION)
    return pytester


# -- beside others


def test_without_a_plugin_for_asyncio(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import asyncio
        import simple

        def test_it(trickles_async_client):
            async def main():
                async with trickles_async_client(simple.app, seed=3) as client:
                    responses = await asyncio.gather(*(client.get("/slow") for _ in range(9)))
                    assert {response.status_code for response in responses} == {200}
                    assert len({response.text for response in responses}) > 1

            asyncio.run(main())
        """
    )
    result = project.runpytest_subprocess("-p", "no:anyio")
    result.assert_outcomes(passed=1)


def test_beside_pytest_asyncio(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n")
    project.makepyfile(
        """
        import pytest
        import simple

        @pytest.mark.asyncio
        async def test_it(trickles_async_client):
            async with trickles_async_client(simple.app) as client:
                assert (await client.get("/state")).status_code == 200

        @pytest.mark.asyncio
        async def test_that_fails(trickles_async_client):
            async with trickles_async_client(simple.app) as client:
                pids = {(await client.get("/")).text for _ in range(9)}
                assert len(pids) == 1
        """
    )
    result = project.runpytest_subprocess("-p", "no:anyio")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_that_fails - state kept in one process: *"])


def test_beside_anyio(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        import simple

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.mark.anyio
        async def test_it(trickles_async_client):
            async with trickles_async_client(simple.app) as client:
                assert (await client.get("/state")).status_code == 200
                async with client.stream("GET", "/slow") as response:
                    text = "".join([piece async for piece in response.aiter_text()])
                assert text.startswith("012")
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=2)


MYAPP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    while scope["method"] == "POST" and (await receive())["more_body"]:
        pass
    headers = [(b"set-cookie", b"name=ada")] if scope["method"] == "POST" else []
    cookie = dict(scope["headers"]).get(b"cookie", b"")
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": cookie.removeprefix(b"name=")})
"""


def test_the_example_of_the_documentation(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\npythonpath = .\nasyncio_mode = auto\n")
    project.makepyfile(myapp=MYAPP, test_myapp=example("def test_login(trickles_client):"))
    project.runpytest_subprocess("-p", "no:anyio").assert_outcomes(passed=2)


# -- the application's processes


def test_lifespan_in_every_process(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import simple

        def test_it(trickles_client):
            client = trickles_client("simple:app", replicas=4, kill_every=5)
            served = set()
            for _ in range(20):
                response = client.get("/state")
                assert response.status_code == 200
                served.add(response.text)
            assert len(served) > 4  # some of them were killed, and others took their place
            assert not simple.started
            client.close()
            with open("stopped") as file:
                assert len(set(file)) == 4
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_what_the_application_raises_is_reported(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import simple

        def test_it(trickles_client):
            assert trickles_client(simple.app).get("/broken").status_code == 200
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *assert 500 == 200",
            "The test fails with one replica that is never killed, too*",
            "* trickles: errors of the application *",
            "replica ?: Traceback (most recent call last):",
            "*simple.py*, in app",
            "ValueError: something is wrong",
        ]
    )


def test_an_application_that_does_not_start(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from trickles_web.errors import AppImportError, LifespanFailed

        async def refusing(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        def test_it(trickles_client):
            with pytest.raises(LifespanFailed, match="no database"):
                trickles_client(refusing)
            with pytest.raises(AppImportError, match="nowhere"):
                trickles_client("nowhere:app")
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=1)


# -- options


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--trickles-replicas=0", "'0' is not a number of replicas from 1 to 64"),
        ("--trickles-loss=1.5", "'1.5' is not a probability"),
        ("--trickles-seed=often", "'often' is not a number of at least 0, or 'random'"),
    ],
)
def test_options_that_cannot_be(project: pytest.Pytester, option: str, told: str) -> None:
    result = project.runpytest_subprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: trickles_{option[11:].partition('=')[0]}: {told}*"])


def test_which_setting_counts(project: pytest.Pytester) -> None:
    """The command line before the test before the ini file before the default."""
    settings = "trickles_replicas = 1\ntrickles_loss = 0\n"
    project.makeini(f"[pytest]\npythonpath = .\naddopts = -p no:asyncio\n{settings}")
    project.makepyfile(
        """
        import simple

        def served(client):
            return len({client.get("/").text for _ in range(30)})

        def test_ini(trickles_client):
            assert served(trickles_client(simple.app)) == 1

        def test_argument(trickles_client):
            assert served(trickles_client(simple.app, replicas=2)) == 2
        """
    )
    plain = project.runpytest_subprocess()
    plain.assert_outcomes(passed=2)
    told = project.runpytest_subprocess("--trickles-replicas=1")
    told.assert_outcomes(passed=1, failed=1)
    told.stdout.fnmatch_lines(["This was one replica that is never killed*"])


def test_seeds_drawn_at_random_are_told(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import simple

        def test_it(trickles_client):
            trickles_client(simple.app).get("/")
            assert False
        """
    )
    seeds = set()
    for _ in range(2):
        result = project.runpytest_subprocess("--trickles-seed=random")
        seeds |= {line for line in result.outlines if "--trickles-seed" in line}
    assert len(seeds) == 2


def test_always_killed_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        import simple
        from trickles_web.errors import UsageError

        def test_it(trickles_client):
            with pytest.raises(UsageError, match="who is always killed answers nothing"):
                trickles_client(simple.app, kill_every=1)
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=1)


# -- verdicts


def paid_twice() -> Story:
    story = Story()
    first = story.ask("POST", "/pay", b"POST /pay")
    first.replicas, first.killed, first.status, first.unknown = [1], [1], 500, True
    story.ask("POST", "/pay", b"POST /pay")
    return story


@pytest.mark.parametrize(
    ("story", "passes_alone", "title"),
    [
        (Story(), True, "state kept in one process"),
        (paid_twice(), True, "unsafe request sent again"),
        (Story(), False, ""),
        (paid_twice(), False, ""),
        (Story(), None, ""),
    ],
)
def test_verdicts(story: Story, passes_alone: bool | None, title: str) -> None:
    assert verdict([story], passes_alone).title == title


def test_a_repeat_is_the_same_bytes_after_an_unknown_outcome() -> None:
    story = paid_twice()
    assert [asked.repeats for asked in story.requests] == [0, 1]
    assert story.ask("POST", "/pay", b"POST /pay with another key").repeats == 0
    safe = story.ask("GET", "/", b"GET /")
    safe.unknown = True
    assert story.ask("GET", "/", b"GET /").repeats == 0
    assert str(Asked(1, "GET", "/", b"")) == "  1  GET /: no replica: no response"


def test_only_the_last_packets_are_kept() -> None:
    story = Story()
    hello = wire.encode_hello(wire.Hello(bytes(8), 0, 1200, b"", b"GET /"), 1200)
    for number in range(100):
        story.packet(number / 1000, 0, True, number % 3, hello, True)
    story.packet(0.1, 0, True, 0, hello, True)
    lines = story.told().splitlines()
    assert lines[0] == "(and 70 before)"
    assert len(lines) == 31
    assert lines[-1] == (
        "     99.0 ms  flow 0 -> replica 0  HELLO 5 request bytes, datagrams of 1,200 bytes, "
        "and 1 like it, 2,400 bytes in all"
    )
