"""Servers that are, and that are not, who they are taken for; with real certificates, programs and
datagrams.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from tests.authority import DAY, Authority, Certified
from tests.live.impostor import Impostor
from tests.live.stage import TRANSFER_S, Stage
from tests.net.processes import PATIENCE_S, ROOT, Running, serving
from trickles_web.client import create_connection, open_connection, routed
from trickles_web.client.httpx import AsyncTricklesTransport, TricklesTransport
from trickles_web.client.requests import TricklesAdapter
from trickles_web.client.urllib3 import TricklesPoolManager
from trickles_web.config import ClientConfig, Trust
from trickles_web.credentials import Identity
from trickles_web.errors import FlowRefused, IdentityError
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.exchange import Exchange

pytestmark = pytest.mark.live

REQUEST = b"GET /secret HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2VjcmV0\r\n\r\n"
APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    scheme, path = scope["scheme"], scope["path"]
    host = dict(scope["headers"])[b"host"]
    headers = []
    if path == "/redirect":
        headers = [(b"location", scheme.encode() + b"://" + host + b"/there")]
    start = {"type": "http.response.start", "status": 302 if headers else 200, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": f"{scheme} {path}".encode()})
"""


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "error", "-m", f"trickles_web.cli.{name}", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TRANSFER_S)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def cafile(authority: Authority, tmp_path: Path) -> str:
    return authority.write(tmp_path)


# ---- not to be trusted: an error of its own, and nothing was sent


def key() -> Certified:
    """Without a certificate."""
    return Certified(Ed25519PrivateKey.generate(), ())


class _Swapped(Identity):
    """Shows the certificate of another key than it signs with."""

    def __init__(self, shown: x509.Certificate) -> None:
        super().__init__(Ed25519PrivateKey.generate())
        self._chain = [shown.public_bytes(Encoding.DER)]


@dataclass(frozen=True)
class Fault:
    made: Callable[[Authority], Identity]
    trust: Callable[[str, Path], tuple[str, str]]
    """An option and its value, of the authority's file and a folder."""
    reason: str
    code: int
    said: str


def by_authority(cafile: str, folder: Path) -> tuple[str, str]:
    return "--cacert", cafile


def by_another_authority(cafile: str, folder: Path) -> tuple[str, str]:
    return "--cacert", Authority().write(folder)


def by_pin(cafile: str, folder: Path) -> tuple[str, str]:
    return "--pin", key().identity.pin


def by_what_was_known(cafile: str, folder: Path) -> tuple[str, str]:
    return "--known-hosts", str(folder / "known")


def certified(*hosts: str, **more: Any) -> Callable[[Authority], Identity]:
    return lambda authority: authority.certify(*hosts, **more).identity


HERE = certified("127.0.0.1")
FAULTS = {
    "another key": Fault(
        lambda authority: _Swapped(authority.certify("127.0.0.1").chain[0]),
        *(by_authority, "signature", 35, "does not prove that its key is its own"),
    ),
    "expired": Fault(
        certified("127.0.0.1", since=-3 * DAY, until=-DAY),
        *(by_authority, "expired", 60, "expired on "),
    ),
    "not yet valid": Fault(
        certified("127.0.0.1", since=DAY), by_authority, "not yet valid", 60, "is valid from "
    ),
    "other host": Fault(
        certified("other.test"),
        *(by_authority, "other host", 60, "is not for 127.0.0.1, but for other.test"),
    ),
    "untrusted": Fault(
        HERE, by_another_authority, "untrusted", 60, "nobody who is trusted vouches"
    ),
    "no certificate": Fault(
        lambda authority: key().identity, by_authority, "no certificate", 60, "has no certificate"
    ),
    "changed pin": Fault(HERE, by_pin, "pin", 90, "has another key than is pinned"),
    "changed known host": Fault(HERE, by_what_was_known, "changed", 60, "HAS CHANGED"),
}
TRUSTS: dict[str, Callable[[str], Trust]] = {
    "--cacert": lambda value: Trust(cafile=value),
    "--pin": lambda value: Trust(pin=value),
    "--known-hosts": lambda value: Trust(known_hosts=value),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    return FAULTS[request.param]


@pytest.fixture
def impostor(fault: Fault, authority: Authority) -> Iterator[Impostor]:
    with Impostor(fault.made(authority).credentials) as found:
        yield found


@pytest.fixture
def believing(fault: Fault, cafile: str, impostor: Impostor, tmp_path: Path) -> tuple[str, str]:
    known = tmp_path / "known"
    known.write_text(f"127.0.0.1:{impostor.port} {key().identity.pin}\n")
    folder = tmp_path / "other"
    folder.mkdir()
    option, value = fault.trust(cafile, folder)
    return option, str(known) if option == "--known-hosts" else value


def test_trickles_get_sends_it_nothing(
    fault: Fault, impostor: Impostor, believing: tuple[str, str]
) -> None:
    url = f"trickless://127.0.0.1:{impostor.port}/secret"
    done = program("get", *believing, "--retry", "3", "--retry-all-errors", "-d", "secret", url)
    assert (done.returncode, done.stdout) == (fault.code, "")
    assert done.stderr.startswith(f"trickles-get: ({fault.code}) ")
    assert fault.said in done.stderr and done.stderr.count("\n") == 1
    assert impostor.was_only_asked_who()


def test_a_flow_ends_and_is_silent(
    fault: Fault, impostor: Impostor, believing: tuple[str, str]
) -> None:
    option, value = believing
    config = ClientConfig(private=TRUSTS[option](value))

    async def main() -> None:
        reader, writer = await open_connection("127.0.0.1", impostor.port, config=config)
        sock = writer.get_extra_info("socket")
        writer.write(REQUEST)
        with pytest.raises(IdentityError) as caught:
            await reader.read()
        assert caught.value.reason == fault.reason
        assert fault.said in str(caught.value)
        heard = len(impostor.heard)
        writer.write(REQUEST)
        writer.close()
        with contextlib.suppress(IdentityError):
            await writer.wait_closed()
        assert sock.fileno() == -1  # so nothing can be sent any more
        assert len(impostor.heard) == heard

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert impostor.was_only_asked_who()


def test_libraries_say_it(fault: Fault, impostor: Impostor, believing: tuple[str, str]) -> None:
    option, value = believing
    config = ClientConfig(private=TRUSTS[option](value))
    url = f"trickless://127.0.0.1:{impostor.port}/secret"
    with (
        httpx.Client(mounts={"trickless://": TricklesTransport(config=config)}) as asking,
        pytest.raises(httpx.ConnectError, match=fault.said),
    ):
        asking.post(url, content=b"secret")
    with requests.Session() as session:
        session.mount("trickless://", TricklesAdapter(config=config))
        with pytest.raises(requests.ConnectionError, match=fault.said):
            session.post(url, data=b"secret", verify=False)
    with (
        create_connection(("127.0.0.1", impostor.port), PATIENCE_S, config=config) as sock,
        pytest.raises(IdentityError, match=fault.said),
    ):
        sock.sendall(REQUEST)
        sock.recv(100)
    assert impostor.was_only_asked_who()


@pytest.mark.parametrize("fault", [FAULTS["untrusted"]], ids=["untrusted"])
def test_the_gateway_says_it_and_resets(
    stage: Stage, fault: Fault, impostor: Impostor, believing: tuple[str, str]
) -> None:
    with gateway(stage, *believing, f"trickless://127.0.0.1:{impostor.port}") as (port, running):
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/secret", timeout=PATIENCE_S)
        running.says(fault.said)
        assert impostor.was_only_asked_who()
        assert running.end() == 0


def test_it_is_not_asked_again_without_a_post_quantum_key(
    authority: Authority, cafile: str
) -> None:
    """Never less than was asked for."""
    with Impostor(HERE(authority).credentials) as impostor:
        url = f"trickless://127.0.0.1:{impostor.port}/"
        done = program("get", "--cacert", cafile, "--post-quantum", url)
        assert done.returncode == 35
        assert "offers no key for MLKEM768_X25519" in done.stderr
        assert impostor.was_only_asked_who()


def test_credentials_too_long_to_be_believed(cafile: str) -> None:
    """Whoever answers with that has not answered."""

    def endless(keyring: Keyring, exchanges: Sequence[Exchange], now: int) -> bytes:
        return bytes(20_000)

    with Impostor(endless) as impostor:
        url = f"trickless://127.0.0.1:{impostor.port}/"
        done = program("get", "--cacert", cafile, "--connect-timeout", "1", url)
        assert done.returncode == 28
        assert impostor.was_only_asked_who()


# ---- to be trusted: from end to end


@contextlib.contextmanager
def gateway(stage: Stage, *arguments: str) -> Iterator[tuple[int, Running]]:
    """`trickles-gateway ARGUMENTS`: its TCP port."""
    module = ("-m", "trickles_web.cli.gateway", "--listen", "127.0.0.1:0")
    environment = {"TRICKLES_TOKENS": "off"}
    with serving(stage.folder(), *arguments, module=module, environment=environment) as running:
        yield int(running.says(r"http://127\.0\.0\.1:(\d+)")[1]), running


@dataclass(frozen=True)
class Served:
    port: int
    cafile: str
    pin: str

    def url(self, path: str = "/x", user: str = "") -> str:
        return f"trickless://{user}localhost:{self.port}{path}"

    @property
    def config(self) -> ClientConfig:
        return ClientConfig(private=Trust(cafile=self.cafile))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Served]:
    """`trickles-serve` with a certificate by an authority below the test's own, and a key that a
    password opens."""
    folder = tmp_path_factory.mktemp("identity")
    own = Authority("Lower", authority).certify("localhost", "127.0.0.1")
    certificates, keyfile = own.write(folder, b"open sesame")
    stage = Stage(folder, folder)
    (folder / "shows.py").write_text(APPLICATION)
    options = ("--ssl-certfile", certificates, "--ssl-keyfile", keyfile)
    password = ("--ssl-keyfile-password", "open sesame")
    with stage.serving("shows:app", "--port", "0", *options, *password) as running:
        port = int(running.says(r"running on trickless://127\.0\.0\.1:(\d+) ")[1])
        pin = running.says(r"Its key for private flows is (\S+)")[1]
        assert pin == own.identity.pin
        yield Served(port, authority.write(folder), pin)
        assert running.end() == 0
        assert "open sesame" not in running.stderr
        assert "Traceback" not in running.stderr


def test_trickles_get_by_a_certificate(served: Served) -> None:
    done = program("get", "-v", "-L", "--cacert", served.cafile, served.url("/redirect"))
    assert (done.returncode, done.stdout) == (0, "https /there"), done.stderr
    told = re.search(r"^\* server: localhost:\d+ is (\S+): (.*)$", done.stderr, re.MULTILINE)
    assert told is not None and told[1] == served.pin
    assert told[2].startswith("its certificate is for localhost, 127.0.0.1, by CN=Lower, until 2")
    untrusting = program("get", served.url())
    assert untrusting.returncode == 60
    assert "nobody who is trusted vouches" in untrusting.stderr


def test_trickles_get_by_a_pin(served: Served) -> None:
    digits = served.pin.removeprefix("sha256//").rstrip("=").translate(str.maketrans("+/", "-_"))
    for arguments in (
        ("--pin", served.pin, served.url()),
        ("-k", "--pinnedpubkey", served.pin, served.url()),
        ("-L", served.url("/redirect", f"sha256:{digits}@")),
    ):
        done = program("get", "-v", *arguments)
        assert done.returncode == 0 and done.stdout.startswith("https /"), done.stderr
        assert ": its key is the pinned one\n" in done.stderr
        assert digits not in done.stderr and "uthorization" not in done.stderr
    wrong = program("get", served.url("/x", f"sha256:{'A' * 43}@"))
    assert wrong.returncode == 90


def test_trickles_get_by_what_it_knew(served: Served, tmp_path: Path) -> None:
    known = tmp_path / "known"
    told = []
    for _ in range(2):
        done = program("get", "--known-hosts", str(known), served.url())
        assert (done.returncode, done.stdout) == (0, "https /x"), done.stderr
        told.append(done.stderr)
    assert f"localhost:{served.port} is new: its key is {served.pin}" in told[0]
    assert told[1] == ""
    assert known.read_text() == f"localhost:{served.port} {served.pin}\n"


def test_trickles_get_of_replicas_that_are_one_service(served: Served) -> None:
    """Each of them has to be the service, not itself."""
    replica = f"127.0.0.1:{served.port}"
    done = program(
        "get", "-v", "--cacert", served.cafile, "--replica", replica, served.url("/replicas")
    )
    assert (done.returncode, done.stdout) == (0, "https /replicas"), done.stderr


def test_curl_through_the_gateway(stage: Stage, served: Served) -> None:
    options = ("--cacert", served.cafile, f"trickless://localhost:{served.port}")
    with gateway(stage, *options) as (port, running):
        assert f" -> trickless://localhost:{served.port}\n" in running.stderr
        words = ["curl", "-sS", f"http://127.0.0.1:{port}/x"]
        done = subprocess.run(words, capture_output=True, timeout=TRANSFER_S)
        assert (done.stdout, done.stderr) == (b"https /x", b"")
        assert running.end() == 0


def test_curl_under_trickles_run(served: Served) -> None:
    url = f"http://localhost:{served.port}/x"
    done = program("run", "--cacert", served.cafile, "curl", "-sS", url)
    assert (done.stdout, done.stderr) == ("https /x", "")
    failed = program("run", "--private", "curl", "-sS", "-f", url)
    assert failed.returncode == 22 and "nobody who is trusted vouches" in failed.stderr


def test_a_trace_of_it(served: Served, tmp_path: Path) -> None:
    body = tmp_path / "body"
    done = program("trace", "--cacert", served.cafile, "-o", str(body), served.url())
    assert done.returncode == 0, done.stderr
    assert body.read_text() == "https /x"
    for row in (
        r"-> +IDENTIFY +who are you\? from byte 0 of the answer on",
        r"<- +IDENTITY +bytes \[0, [\d,]+\) of [\d,]+",
        r"-> +HELLO +1 sealed, 1,200 bytes",
        r"<- +DATA +\d+ sealed, [\d,]+ bytes",
    ):
        assert re.search(row, done.stdout), done.stdout
    assert "https" not in done.stdout


def test_libraries(served: Served) -> None:
    place = f"https://localhost:{served.port}"
    transport = TricklesTransport(config=served.config)
    with httpx.Client(mounts={"trickless://": transport, place: transport}) as asking:
        for url in (served.url("/redirect"), f"{place}/redirect"):
            answer = asking.get(url, follow_redirects=True)
            assert answer.text == "https /there"
        with pytest.raises(httpx.UnsupportedProtocol, match="a key in a URL is for command lines"):
            asking.get(served.url(user=f"sha256:{'A' * 43}@"))
    with requests.Session() as session:
        session.mount("trickless://", TricklesAdapter(config=served.config))
        session.mount(place, TricklesAdapter(config=served.config))
        for url in (served.url("/redirect"), f"{place}/redirect"):
            assert session.get(url, timeout=PATIENCE_S).text == "https /there"
        with pytest.raises(requests.exceptions.InvalidURL, match="a key in a URL"):
            session.get(served.url(user=f"sha256:{'A' * 43}@"))
    manager = TricklesPoolManager(config=served.config)
    for url in (served.url("/redirect"), f"{place}/redirect"):
        assert manager.request("GET", url).data == b"https /there"
    manager.clear()


def test_an_asynchronous_library(served: Served) -> None:
    async def main() -> str:
        mounts = {"trickless://": AsyncTricklesTransport(config=served.config)}
        async with httpx.AsyncClient(mounts=mounts) as asking:
            return (await asking.get(served.url("/redirect"), follow_redirects=True)).text

    assert asyncio.run(main()) == "https /there"


def test_what_connects_by_itself(served: Served) -> None:
    head = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    place = f"localhost:{served.port}"
    with (
        routed({place}, config=served.config),
        socket.create_connection(("localhost", served.port), PATIENCE_S) as sock,
    ):
        sock.sendall(head)
        assert b"200 OK" in sock.recv(1000)


# ---- flows in clear, where only private ones are served


@pytest.mark.parametrize("client", ["get", "socket"])
def test_it_is_said_at_once_that_flows_are_private_here(served: Served, client: str) -> None:
    said = "this server takes private flows only: use trickless://"
    began = time.monotonic()
    if client == "get":
        done = program("get", f"trickles://127.0.0.1:{served.port}/")
        assert done.returncode == 56 and said in done.stderr
    else:
        with (
            create_connection(("127.0.0.1", served.port), PATIENCE_S) as sock,
            pytest.raises(FlowRefused, match=said),
        ):
            sock.sendall(REQUEST)
            sock.recv(100)
    assert time.monotonic() - began < PATIENCE_S / 2


@pytest.mark.parametrize("allowed", [False, True])
def test_beyond_the_loopback_flows_are_private_unless_allowed(stage: Stage, allowed: bool) -> None:
    (stage.directory / "shows.py").write_text(APPLICATION)
    more = ("--allow-cleartext",) if allowed else ()
    with stage.serving("shows:app", "--host", "0.0.0.0", "--port", "0", *more) as running:
        scheme = "trickles" if allowed else "trickless"
        port = running.says(rf"running on {scheme}://\S+:(\d+) ")[1]
        clear = program("get", f"trickles://127.0.0.1:{port}/")
        private = program("get", "-k", f"trickless://127.0.0.1:{port}/")
        assert (private.returncode, private.stdout) == (0, "https /")
        if allowed:
            assert (clear.returncode, clear.stdout) == (0, "http /")
        else:
            assert clear.returncode == 56
            assert "this server takes private flows only: use trickless://" in clear.stderr
        assert running.end() == 0


# ---- values that are wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cacert", "/no/such/file"), "--cacert '/no/such/file': No such file"),
        (("--cacert", os.devnull), "no certificates in PEM form"),
        (("--pin", "sha256//short"), "bad pin 'sha256//short'"),
        (("--known-hosts", "/"), "--known-hosts '/': Is a directory"),
        (("--known-hosts", "/a", "--cacert", "/b"), "--known-hosts and --cacert: give one"),
    ],
)
@pytest.mark.parametrize("name", ["get", "gateway", "run", "trace"])
def test_a_wrong_value_is_one_line_and_code_2(
    name: str, arguments: tuple[str, ...], said: str
) -> None:
    what = ("true",) if name == "run" else ("trickless://127.0.0.1:9/",)
    done = program(name, *arguments, *what)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["gateway", "trace"])
def test_whom_to_believe_is_no_question_in_clear(name: str) -> None:
    done = program(name, "--insecure", "trickles://127.0.0.1:9/")
    assert done.returncode == 2
    assert "trickless://127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1
