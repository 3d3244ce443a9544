"""URLs, rates and listening addresses as users type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickles_web.client.url import (
    Url,
    followed,
    names_key,
    parse_listen,
    parse_pin,
    parse_rate,
    parse_url,
)
from trickles_web.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("trickles://127.0.0.1:8000/", "127.0.0.1", 8000, "/"),
        ("trickles://example.org", "example.org", 8000, "/"),
        ("TRICKLES://Example.org:1/a?b=c", "example.org", 1, "/a?b=c"),
        ("example.org/a", "example.org", 8000, "/a"),
        ("localhost:9/x", "localhost", 9, "/x"),
        ("trickles://[::1]:9/x", "::1", 9, "/x"),
        ("trickles://[::1]", "::1", 8000, "/"),
        ("trickles://h/a%20b;c?d=%2F#part", "h", 8000, "/a%20b;c?d=%2F"),
        ("trickles://h?q=1", "h", 8000, "/?q=1"),
        ("trickles://h/später", "h", 8000, "/sp%C3%A4ter"),
        ("trickles://h//double", "h", 8000, "//double"),
    ],
)
def test_urls(text: str, host: str, port: int, target: str) -> None:
    assert parse_url(text) == Url(host, port, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://example.org/",
        "trickles://",
        "trickles:///path",
        "trickles://:8000/",
        "trickles://h:0/",
        "trickles://h:65536/",
        "trickles://h:port/",
        "trickles://user@h/",
        "trickles://user:password@h/",
        "trickles://[::1/",
        "trickles://h/a b",
        "trickles://h/\r\nX: y",
        "trickles://h/\x00",
    ],
)
def test_bad_urls_are_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    try:
        url = parse_url(f"trickles://h/{text}")
    except UsageError:
        return
    assert url.target.isascii()
    assert url.target.startswith("/")
    assert not any(c <= " " for c in url.target)


def test_authority_brackets_ipv6() -> None:
    assert parse_url("trickles://[::1]:9/").authority == "[::1]:9"
    assert parse_url("trickles://h").authority == "h:8000"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0.0),
        ("100", 100.0),
        ("500k", 500 * 1024.0),
        ("10M", 10 * 1024.0**2),
        ("1G", 1024.0**3),
        ("1.5m", 1.5 * 1024**2),
        (".5K", 512.0),
        ("2MB", 2 * 1024.0**2),
    ],
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "k", "10X", "-1", "1e3", "ten", "1 M", "٣"])
def test_bad_rates(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":8080", ("", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", "8080", "h:", "h:port", "h:65536", "::1:8080", "h /:1", "h:-1", "http://h:1"]
)
def test_bad_listen_addresses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("http://h:8000/x?y#z", "trickles://h:8000/x?y#z"),
        ("http://H:8000", "trickles://H:8000"),
        ("/x", "trickles://h:8000/x"),
        ("x?y", "trickles://h:8000/a/x?y"),
        ("//h:8000/x", "trickles://h:8000/x"),
        ("trickles://other/x", "trickles://other/x"),
        ("http://h/x", "http://h/x"),
        ("https://h:8000/x", "trickless://h:8000/x"),
        ("https://h/x", "https://h/x"),
        ("http://[/x", "http://[/x"),
    ],
)
def test_redirects_to_the_same_server_keep_the_scheme(location: str, there: str) -> None:
    assert followed(location, "trickles://h:8000/a/b?c") == there


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("https://h:8000/x?y#z", "trickless://h:8000/x?y#z"),
        ("/x", "trickless://h:8000/x"),
        ("//H:8000/x", "trickless://H:8000/x"),
        ("http://h:8000/x", "trickless://h:8000/x"),
        ("trickles://h:8000/x", "trickless://h:8000/x"),
        ("TRICKLES://other/x", "trickless://other/x"),
        ("trickless://other/x", "trickless://other/x"),
        ("https://other/x", "https://other/x"),
    ],
)
def test_what_was_private_stays_private(location: str, there: str) -> None:
    assert followed(location, "trickless://h:8000/a/b?c") == there


@given(st.text(alphabet="trickles:/h@.8000?#%htps\\ x"))
def test_no_redirect_leads_from_private_to_clear(location: str) -> None:
    there = followed(location, "trickless://h:8000/")
    assert not there.lower().startswith("trickles:")


PIN = "sha256//" + "+/" * 21 + "8="


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("trickless://h", Url("h", 8000, "/", private=True)),
        ("TRICKLESS://H:1/a", Url("h", 1, "/a", private=True)),
        (
            f"trickless://sha256:{'-_' * 21}8@h:9/x?y",
            Url("h", 9, "/x?y", private=True, pin=PIN),
        ),
        (f"trickless://sha256:{'-_' * 21}8@[::1]", Url("::1", 8000, "/", True, PIN)),
    ],
)
def test_private_urls(text: str, url: Url) -> None:
    assert parse_url(text) == url
    assert PIN not in str(url) and parse_url(str(url)).private


@pytest.mark.parametrize(
    "user",
    ["sha256", "sha256:", "sha256:short", f"sha256:{'+.' * 21}8", f"sha1:{'a' * 43}", "a:b"],
)
@pytest.mark.parametrize("scheme", ["trickles", "trickless"])
def test_bad_keys_in_urls(scheme: str, user: str) -> None:
    with pytest.raises(UsageError, match="only the server's key") as caught:
        parse_url(f"{scheme}://{user}@h/")
    assert "\n" not in str(caught.value)


def test_a_key_in_a_url_is_for_private_flows() -> None:
    with pytest.raises(UsageError, match="only the server's key"):
        parse_url(f"trickles://sha256:{'a' * 43}@h/")
    assert names_key(f"trickless://sha256:{'a' * 43}@h/")
    assert not names_key("trickless://h/sha256:") and not names_key("trickless://[/")


def test_one_key_has_one_name() -> None:
    """The last digit has two bits that mean nothing."""
    assert {parse_pin(f"sha256//{'A' * 42}{last}=") for last in "ABCD"} == {f"sha256//{'A' * 43}="}
    assert parse_pin(PIN) == PIN


@pytest.mark.parametrize(
    "text", ["", "sha256//", "A" * 43 + "=", f"sha1//{'A' * 43}=", f"sha256//{'A' * 43}=\n"]
)
def test_bad_pins(text: str) -> None:
    with pytest.raises(UsageError, match="bad pin") as caught:
        parse_pin(text)
    assert "\n" not in str(caught.value)
