"""The command line of trickles-get without a network: what is asked, of whom, and where it goes."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from trickles_web.cli.get.command import _InOrder, _options, command
from trickles_web.cli.get.failures import Came, Exit, Failure, explain
from trickles_web.cli.get.options import Job, Options
from trickles_web.cli.get.requests import build_request, redirected, resumed
from trickles_web.cli.get.run import PROGRAM
from trickles_web.cli.get.stats import VARIABLES, Stats, write_out
from trickles_web.cli.trusting import Trusting
from trickles_web.client.fetch import EmptyReply, Head, Request
from trickles_web.client.striped import content_range
from trickles_web.client.url import Url, parse_url
from trickles_web.errors import ConnectError, FlowTimeout, OutcomeUnknown, VersionsDiffer

URL = "trickles://h:9/dir/name?q=1"


def options(*words: str) -> Options:
    """What the command line means."""
    assert isinstance(command, _InOrder)
    context = command.make_context(PROGRAM, list(words))
    return _options({"trusting": Trusting(), **context.params}, context.meta[PROGRAM])


def request(*words: str) -> Request:
    parsed = options(*words)
    return build_request(parsed.asking, parsed.jobs[0])


def sent(made: Request) -> bytes:
    async def collect() -> bytes:
        assert made.body is not None
        return b"".join([piece async for piece in made.body.pieces()])

    return asyncio.run(collect())


def head(status: int, *headers: tuple[bytes, bytes]) -> Head:
    return Head(status, b"", b"1.1", headers, None)


def refused(code: Exit, *words: str) -> str:
    with pytest.raises(Failure) as caught:
        options(*words)
    assert caught.value.code is code
    return str(caught.value)


def test_outputs_belong_to_urls_in_order() -> None:
    jobs = options("-O", "h/a", "-o", "x", "h/b", "h/c", "--output-dir", "d").jobs
    assert [job.output for job in jobs] == ["d/a", "d/x", "-"]
    assert options("-OO", "h/a", "h/b/c?d/e").jobs[1].output == "c"
    assert "3 of -o and -O, but 2 URLs" in refused(Exit.USAGE, "-OOO", "h/a", "h/b")
    assert "no file name" in refused(Exit.WRITE, "-O", "h/a/")
    assert "no URL" in refused(Exit.USAGE)


def test_uploads_belong_to_urls_in_order(tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.write_bytes(b"12345")
    jobs = options("-T", str(file), "h/a/", "h/b").jobs
    assert [(job.url.target, job.upload) for job in jobs] == [("/a/up", str(file)), ("/b", "")]
    made = request("-T", str(file), "h/a/")
    assert (made.method, sent(made)) == ("PUT", b"12345")
    assert (b"Content-Length", b"5") in made.headers
    assert request("-T", str(file), "-X", "POST", "h/a/").method == "POST"
    with pytest.raises(Failure, match="No such file"):
        request("-T", str(tmp_path / "none"), "h/")
    with pytest.raises(Failure, match="directory"):
        request("-T", str(tmp_path), "h/x")


def test_a_file_that_shrinks_is_not_sent_as_if_it_were_whole(tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.write_bytes(b"12345")
    made = request("-T", str(file), "h/a")
    file.write_bytes(b"123")
    with pytest.raises(Failure, match="became shorter"):
        sent(made)


def test_data_is_a_form_in_the_order_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x=1\r\ny")
    words = ("-d", "a=1", "--data-binary", f"@{file}", "-d", f"@{file}", "--data-raw", "@b", "h/")
    made = request(*words)
    assert (made.method, sent(made)) == ("POST", b"a=1&x=1\r\ny&x=1y&@b")
    assert (b"Content-Type", b"application/x-www-form-urlencoded") in made.headers
    with pytest.raises(Failure, match="cannot read"):
        options("-d", f"@{tmp_path}/none", "h/")


def test_json_says_so_both_ways() -> None:
    made = request("--json", '{"a":', "--json", "1}", "h/")
    assert (made.method, sent(made)) == ("POST", b'{"a":1}')
    assert (b"Content-Type", b"application/json") in made.headers
    assert (b"Accept", b"application/json") in made.headers
    assert request("--json", "1", "-X", "PATCH", "h/").method == "PATCH"


def test_a_range_is_asked_for_as_it_is() -> None:
    assert (b"Range", b"bytes=0-9,-5") in request("-r", "0-9,-5", "h/").headers


@pytest.mark.parametrize(
    "words",
    [
        ("-I", "-d", "x"),
        ("-T", "f", "-d", "x"),
        ("-C", "many"),
        ("-C", "-5"),
        ("-C", "-", "-r", "0-1"),
        ("-C", "-", "-i"),
        ("-C", "-", "--remove-on-error"),
        ("--replica", "nowhere"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(words: tuple[str, ...]) -> None:
    refused(Exit.USAGE, *words, "h/")


URL_9 = parse_url(URL)
POST = Request(
    "POST",
    "/form",
    [(b"Host", b"h:9"), (b"Cookie", b"c"), (b"Content-Type", b"t"), (b"Content-Length", b"1")],
    build_request(options("-d", "x", "h/").asking, Job(URL_9)).body,
)


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_redirects_change_the_method_as_browsers_do(status: int, method: str) -> None:
    following = redirected(POST, URL_9, head(status, (b"Location", b"../x")))
    assert following is not None
    request, url = following
    assert (request.method, request.target, url.authority) == (method, "/x", "h:9")
    assert (request.body is None) == (method == "GET")
    names = {name for name, _ in request.headers}
    assert (b"Content-Type" in names) == (method == "POST")
    assert b"Cookie" in names


def test_another_server_does_not_get_what_is_for_this_one() -> None:
    following = redirected(POST, URL_9, head(302, (b"location", b"trickles://other:7/y")))
    assert following is not None
    assert following[0].headers == [(b"Host", b"other:7")]
    same = redirected(POST, URL_9, head(302, (b"location", b"http://h:9/y")))
    assert same is not None and same[1].authority == "h:9"


def test_what_is_private_is_redirected_privately_and_with_its_key() -> None:
    pinned = parse_url(f"trickless://sha256:{'a' * 43}@h:9/x")
    for place in (b"/y", b"https://h:9/y", b"http://h:9/y", b"trickles://h:9/y"):
        following = redirected(POST, pinned, head(302, (b"location", place)))
        assert following is not None
        assert following[1] == dataclasses.replace(pinned, target="/y")
    elsewhere = redirected(POST, pinned, head(302, (b"location", b"trickles://other:9/y")))
    assert elsewhere is not None
    assert elsewhere[1] == Url("other", 9, "/y", private=True)
    upgraded = redirected(POST, URL_9, head(302, (b"location", b"https://h:9/y")))
    assert upgraded is not None and str(upgraded[1]) == "trickless://h:9/y"


def test_redirects_that_lead_nowhere() -> None:
    assert redirected(POST, URL_9, head(302)) is None
    assert redirected(POST, URL_9, head(200, (b"location", b"/x"))) is None
    for place, code in (
        (b"https://h/", Exit.PROTOCOL),
        (b"trickles://h:0/", Exit.BAD_URL),
        (b"trickless://sha256:" + b"a" * 43 + b"@h:9/", Exit.BAD_URL),
    ):
        with pytest.raises(Failure) as caught:
            redirected(POST, URL_9, head(302, (b"location", place)))
        assert caught.value.code is code


def test_the_rest_is_asked_for_once_and_of_one_version() -> None:
    again = resumed(resumed(request("h/"), 5, b'"a"'), 7, b'"b"')
    ours = [header for header in again.headers if b"ange" in header[0]]
    assert ours == [(b"Range", b"bytes=7-"), (b"If-Range", b'"b"')]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"bytes 0-9/10", (0, 10, 10)),
        (b"bytes 5-5/10", (5, 6, 10)),
        (b"bytes 0-10/10", None),
        (b"bytes 9-5/10", None),
        (b"bytes 0-9/*", None),
        (b"bytes */10", None),
        (b"", None),
    ],
)
def test_content_ranges(text: bytes, expected: tuple[int, int, int] | None) -> None:
    assert content_range(head(206, (b"Content-Range", text))) == expected


@pytest.mark.parametrize(
    ("tag", "strong"), [(b'"a"', b'"a"'), (b'W/"a"', b""), (b"a", b""), (b'"', b""), (b"", b"")]
)
def test_only_strong_tags_name_versions(tag: bytes, strong: bytes) -> None:
    assert head(200, (b"ETag", tag)).etag == strong


@pytest.mark.parametrize(
    ("error", "code", "unexecuted"),
    [
        (ConnectError("none"), Exit.UNCONNECTED, True),
        (FlowTimeout("silence"), Exit.TIMEOUT, False),
        (OutcomeUnknown("who knows"), Exit.RECEIVE, False),
        (TimeoutError(), Exit.TIMEOUT, False),
        (VersionsDiffer("a, b"), Exit.RECEIVE, False),
        (EmptyReply("nothing"), Exit.EMPTY, False),
    ],
)
def test_errors_say_whether_the_request_was_executed(
    error: Exception, code: Exit, unexecuted: bool
) -> None:
    failure = explain(error, Came(0, None, 1.0))
    assert (failure.code, failure.unexecuted) == (code, unexecuted)
    lasting = (VersionsDiffer, EmptyReply)
    assert failure.transient is not isinstance(error, lasting)


def written(template: str, stats: Stats, capsys: pytest.CaptureFixture[str]) -> Any:
    write_out(template, stats)
    return capsys.readouterr()


def test_write_out(capsys: pytest.CaptureFixture[str]) -> None:
    stats = Stats(URL_9, "file")
    stats.headed(head(206, (b"Content-Type", b"text/plain")))
    stats.downloaded, stats.retries = 7, 2
    text = r"%{http_code} %{size_download}\t%{content_type}%%{x}\n%{filename_effective}"
    assert written(text, stats, capsys).out == "206 7\ttext/plain%{x}\nfile"
    both = written("a%{stderr}b%{stdout}c%{none}", stats, capsys)
    assert both.out == "ac" and both.err.startswith("b") and "'none'" in both.err
    assert written("%{exitcode}%{onerror}never", stats, capsys).out == "0"
    stats.failure = Failure(Exit.TIMEOUT, "late")
    assert written("%{exitcode}%{onerror} %{errormsg}", stats, capsys).out == "28 late"
    for name in VARIABLES:
        assert written(f"%{{{name}}}", Stats(URL_9, ""), capsys).err == ""
