"""Pools of httpx, httpx2, requests and urllib3 over flows: reuse, limits, and whose errors come."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest
import requests
import urllib3

import trickles_web.client.httpx as over_httpx
import trickles_web.client.httpx2 as over_httpx2
from tests.client import application
from tests.client.application import pattern
from tests.client.conftest import PATIENCE_S
from trickles_web.client import background
from trickles_web.client.backends import AsyncBackend
from trickles_web.client.requests import TricklesAdapter
from trickles_web.client.urllib3 import TricklesPoolManager
from trickles_web.config import ClientConfig

HOST = "127.0.0.1"
PARALLEL = 50
FEW = ClientConfig(refused_patience_s=0.2)

BOTH = pytest.mark.parametrize(
    ("library", "ours"), [(httpx, over_httpx), (httpx2, over_httpx2)], ids=["httpx", "httpx2"]
)


def client(library: Any, ours: Any, timeout: Any = PATIENCE_S, **settings: Any) -> Any:
    transport = ours.TricklesTransport(**settings)
    return library.Client(mounts={"trickles://": transport}, timeout=timeout)


def async_client(library: Any, ours: Any, timeout: Any = PATIENCE_S, **settings: Any) -> Any:
    transport = ours.AsyncTricklesTransport(**settings)
    return library.AsyncClient(mounts={"trickles://": transport}, timeout=timeout)


def local_port(response: Any) -> int:
    """Another one is another connection."""
    port: int = response.extensions["network_stream"].get_extra_info("client_addr")[1]
    return port


def end_all_flows() -> None:
    """As if the servers had ended them, of all sockets."""
    assert background._current is not None
    relay, done = background._current._relay, threading.Event()

    def end() -> None:
        for connection in relay.connections:
            connection.finish()
        done.set()

    background._current._loop.call_soon_threadsafe(end)
    assert done.wait(PATIENCE_S)


# Reuse and limits


@BOTH
@pytest.mark.live
def test_a_kept_connection_is_used_again(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}"
    with client(library, ours) as asking:
        ports = {local_port(asking.get(f"{url}/bytes/{size}")) for size in (0, 10, 100_000)}
        assert len(ports) == 1

    async def main() -> None:
        async with async_client(library, ours) as asking:
            ports = {
                local_port(await asking.get(f"{url}/bytes/{size}")) for size in (0, 10, 100_000)
            }
            assert len(ports) == 1

    asyncio.run(main())


@BOTH
@pytest.mark.live
def test_a_connection_that_the_server_has_closed_is_not(
    library: Any, ours: Any, server_port: int
) -> None:
    """It said nothing of the kind in its response: only that there is an end to read tells."""
    url = f"trickles://{HOST}:{server_port}/bytes/10"
    with client(library, ours) as asking:
        first = asking.get(url)
        stream = first.extensions["network_stream"]
        before = local_port(first)
        assert not stream.get_extra_info("is_readable")
        assert stream.get_extra_info("server_addr") == (HOST, server_port)
        end_all_flows()
        assert stream.get_extra_info("is_readable")
        assert local_port(asking.get(url)) != before


@BOTH
@pytest.mark.live
def test_nor_is_one_in_asyncio(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}/bytes/10"

    async def main() -> None:
        async with async_client(library, ours) as asking:
            first = await asking.get(url)
            stream = first.extensions["network_stream"]
            before = local_port(first)
            assert not stream.get_extra_info("is_readable")
            assert stream.get_extra_info("server_addr") == (HOST, server_port)
            assert stream.get_extra_info("socket").type == socket.SOCK_DGRAM
            stream._transport.abort()
            async with asyncio.timeout(PATIENCE_S):
                while not stream.get_extra_info("is_readable"):
                    await asyncio.sleep(0)
            assert local_port(await asking.get(url)) != before

    asyncio.run(main())


@BOTH
@pytest.mark.live
def test_many_at_once(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}/bytes"
    sizes = [number * 2000 for number in range(PARALLEL)]
    with client(library, ours) as asking, ThreadPoolExecutor(PARALLEL) as threads:
        answers = threads.map(lambda size: asking.get(f"{url}/{size}").content, sizes)
        assert list(answers) == [pattern(size) for size in sizes]

    async def main() -> None:
        async with async_client(library, ours) as asking:
            answers = await asyncio.gather(*(asking.get(f"{url}/{size}") for size in sizes))
            assert [answer.content for answer in answers] == [pattern(size) for size in sizes]

    asyncio.run(main())


@BOTH
@pytest.mark.live
def test_a_pool_that_is_used_up(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}"
    limits = library.Limits(max_connections=1)
    timeout = library.Timeout(PATIENCE_S, pool=0.1)
    with (
        client(library, ours, timeout, limits=limits) as asking,
        asking.stream("GET", f"{url}/endless"),
        pytest.raises(library.PoolTimeout),
    ):
        asking.get(f"{url}/bytes/1")

    async def main() -> None:
        async with (
            async_client(library, ours, timeout, limits=limits) as asking,
            asking.stream("GET", f"{url}/endless"),
        ):
            with pytest.raises(library.PoolTimeout):
                await asking.get(f"{url}/bytes/1")

    asyncio.run(main())


# Streams


@BOTH
@pytest.mark.live
def test_bodies_as_they_come_both_ways(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}"
    size, chunk = 6_000_000, 100_000

    def pieces() -> Iterator[bytes]:
        body = pattern(size)
        yield from (body[at : at + chunk] for at in range(0, size, chunk))

    async def pieces_later() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    application.posted.clear()
    with client(library, ours) as asking:
        asking.post(f"{url}/post", content=pieces())
        with asking.stream("GET", f"{url}/bytes/{size}") as response:
            assert b"".join(response.iter_bytes()) == pattern(size)

    async def main() -> None:
        async with async_client(library, ours) as asking:
            await asking.post(f"{url}/post", content=pieces_later())
            async with asking.stream("GET", f"{url}/bytes/{size}") as response:
                assert b"".join([piece async for piece in response.aiter_bytes()]) == pattern(size)

    asyncio.run(main())
    assert application.posted == [pattern(size)] * 2


@BOTH
@pytest.mark.live
def test_an_unread_response_is_cancelled(library: Any, ours: Any, server_port: int) -> None:
    url = f"trickles://{HOST}:{server_port}/endless"
    application.disconnected.clear()
    with client(library, ours) as asking:
        with asking.stream("GET", url) as response:
            assert response.status_code == 200
        assert application.disconnected.wait(PATIENCE_S)

    async def main() -> None:
        async with async_client(library, ours) as asking:
            async with asking.stream("GET", url) as response:
                assert response.status_code == 200
            assert await asyncio.to_thread(application.disconnected.wait, PATIENCE_S)

    application.disconnected.clear()
    asyncio.run(main())


@BOTH
@pytest.mark.live
def test_a_request_that_is_cancelled(library: Any, ours: Any, server_port: int) -> None:
    application.disconnected.clear()
    limits = library.Limits(max_connections=1)

    async def main() -> None:
        url = f"trickles://{HOST}:{server_port}"
        async with async_client(library, ours, limits=limits) as asking:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asking.get(f"{url}/endless")
            assert await asyncio.to_thread(application.disconnected.wait, PATIENCE_S)
            assert (await asking.get(f"{url}/bytes/7")).content == pattern(7)

    asyncio.run(main())


# Errors


@BOTH
@pytest.mark.live
def test_errors_of_reading(library: Any, ours: Any, server_port: int) -> None:
    """Nothing comes for too long; and: no more can come."""
    url = f"trickles://{HOST}:{server_port}"
    application.disconnected.clear()
    timeout = library.Timeout(PATIENCE_S, read=0.5)
    with client(library, ours, timeout) as asking:
        with pytest.raises(library.ReadTimeout, match="timed out"):
            asking.get(f"{url}/endless")
        assert application.disconnected.wait(PATIENCE_S)
    with client(library, ours) as asking, pytest.raises(library.ReadError, match="failed after"):
        asking.get(f"{url}/broken")

    async def main() -> None:
        async with async_client(library, ours, timeout) as asking:
            with pytest.raises(library.ReadTimeout, match="timed out"):
                await asking.get(f"{url}/endless")
            assert await asyncio.to_thread(application.disconnected.wait, PATIENCE_S)
        async with async_client(library, ours) as asking:
            with pytest.raises(library.ReadError, match="failed after"):
                await asking.get(f"{url}/broken")

    application.disconnected.clear()
    asyncio.run(main())


@BOTH
def test_errors_of_connecting(
    library: Any, ours: Any, absent_port: int, mute: socket.socket
) -> None:
    """A flow connects with its request; these are no errors of reading all the same."""
    silent = f"trickles://{HOST}:{mute.getsockname()[1]}/"
    absent = f"trickles://{HOST}:{absent_port}/"
    nowhere = "trickles://no-such-host.invalid/"
    timeout = library.Timeout(PATIENCE_S, connect=0.3)
    with client(library, ours, timeout, config=FEW) as asking:
        with pytest.raises(library.ConnectTimeout, match="silence"):
            asking.get(silent)
        with pytest.raises(library.ConnectError, match="refused"):
            asking.get(absent)
        with pytest.raises(library.ConnectError):
            asking.get(nowhere)

    async def main() -> None:
        async with async_client(library, ours, timeout, config=FEW) as asking:
            with pytest.raises(library.ConnectTimeout, match="silence"):
                await asking.get(silent)
            with pytest.raises(library.ConnectError, match="refused"):
                await asking.get(absent)
            with pytest.raises(library.ConnectError):
                await asking.get(nowhere)

    asyncio.run(main())


@BOTH
def test_a_request_that_is_not_taken(library: Any, ours: Any, mute: socket.socket) -> None:
    url = f"trickles://{HOST}:{mute.getsockname()[1]}/"
    timeout = library.Timeout(PATIENCE_S, write=0.2)
    with client(library, ours, timeout) as asking, pytest.raises(library.WriteTimeout):
        asking.post(url, content=bytes(30_000_000))

    async def main() -> None:
        async with async_client(library, ours, timeout) as asking:
            with pytest.raises(library.WriteTimeout):
                await asking.post(url, content=bytes(1_000_000))

    asyncio.run(main())


@BOTH
def test_what_cannot_go_over_trickles(library: Any, ours: Any) -> None:
    with (
        library.Client(transport=ours.TricklesTransport()) as asking,
        pytest.raises(library.UnsupportedProtocol, match="does not go over Trickles"),
    ):
        asking.get("ftp://127.0.0.1/")


@BOTH
def test_without_a_loop_of_asyncio(library: Any, ours: Any) -> None:
    backend: Any = AsyncBackend(ours.AsyncTricklesTransport.core, ClientConfig(), None)
    with pytest.raises(RuntimeError, match="use TricklesTransport in a thread"):
        backend.connect_tcp(HOST, 8000).send(None)


@BOTH
@pytest.mark.live
def test_mounted_at_an_ordinary_url(library: Any, ours: Any, server_port: int) -> None:
    place = f"http://{HOST}:{server_port}"
    with library.Client(mounts={place: ours.TricklesTransport()}) as asking:
        answer = asking.get(f"{place}/redirect/path/bytes/20", follow_redirects=True)
        assert answer.content == pattern(20)


# requests and urllib3


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("trickles://", TricklesAdapter())
        yield session


@pytest.mark.live
def test_errors_of_requests(
    session: requests.Session, server_port: int, absent_port: int, mute: socket.socket
) -> None:
    with pytest.raises(requests.ReadTimeout):
        session.get(f"trickles://{HOST}:{mute.getsockname()[1]}/", timeout=(PATIENCE_S, 0.2))
    with pytest.raises(requests.ConnectionError, match="connection refused"):
        session.get(f"trickles://{HOST}:{absent_port}/", timeout=PATIENCE_S)
    with pytest.raises(requests.ConnectionError, match="NameResolutionError"):
        session.get("trickles://no-such-host.invalid/", timeout=PATIENCE_S)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="failed after"):
        session.get(f"trickles://{HOST}:{server_port}/broken", timeout=PATIENCE_S)


@pytest.mark.live
def test_requests_knows_an_ordinary_url(server_port: int) -> None:
    place = f"http://{HOST}:{server_port}"
    adapter = pickle.loads(pickle.dumps(TricklesAdapter()))  # as sessions are
    with requests.Session() as session:
        session.mount(place, adapter)
        answer = session.get(f"{place}/bytes/20", params={"a": "ü"}, timeout=PATIENCE_S)
        assert answer.url == f"{place}/bytes/20?a=%C3%BC"
        assert answer.content == pattern(20)


@pytest.mark.live
def test_requests_finds_a_replica(server_port: int, absent_port: int) -> None:
    config = ClientConfig(replicas=((HOST, server_port),), refused_patience_s=0.0)
    adapter = pickle.loads(pickle.dumps(TricklesAdapter(config=config)))
    with requests.Session() as session:
        session.mount("trickles://", adapter)
        for _ in range(4):
            url = f"trickles://{HOST}:{absent_port}/bytes/20"
            headers = {"Connection": "close"}
            assert session.get(url, headers=headers, timeout=PATIENCE_S).content == pattern(20)


@pytest.mark.live
def test_urllib3_does_not_use_a_closed_connection(
    server_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"trickles://{HOST}:{server_port}/bytes/20"
    caplog.set_level(logging.DEBUG, "urllib3")
    with TricklesPoolManager(retries=False) as pools:

        def ask() -> None:
            assert pools.request("GET", url).data == pattern(20)

        ask()
        ask()
        assert "Resetting dropped connection" not in caplog.text
        end_all_flows()
        ask()
        assert "Resetting dropped connection" in caplog.text


def test_the_port_of_an_url_without_one() -> None:
    with TricklesPoolManager() as pools:
        assert pools.connection_from_url("trickles://localhost/").port == 8000
        assert pools.connection_from_url("http://localhost/").port == 80
        with pytest.raises(urllib3.exceptions.URLSchemeUnknown):
            pools.connection_from_url("gopher://localhost/")
