"""Static files from servers that forget everything, and replicas whose copies differ in time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from tests.http.apps import get
from tests.http.peer import Peer, body_of
from tests.http.tree import CHANGED, DATA, Got, ask, parsed, parts_of, site_of
from trickles_web.errors import ResponseGone
from trickles_web.http.digests import MOST_AT_ONCE
from trickles_web.http.files import FileResponse
from trickles_web.http.progress import Body, decode
from trickles_web.http.responses import Pending


@pytest.mark.parametrize("field", ["bytes=1000-250000", "bytes=-290000", "bytes=7-"])
def test_a_range_outlives_every_process(root: Path, field: str) -> None:
    """Each datagram to another server, all of which forget everything in between."""
    random = Random(3)

    async def main() -> Got:
        sites = [site_of(root, seed=seed) for seed in range(3)]
        peer = Peer(
            lambda: random.choice(sites), piece=lambda: random.choice((10, 500, 9_000, 60_000))
        )

        def wipe() -> None:
            for site in sites:
                site.wipe()

        response = await peer.exchange(get("/data.bin", f"Range: {field}"), between=wipe)
        for site in sites:
            await site.service.shutdown()
        return parsed(response, peer.progress)

    got = asyncio.run(main())
    start, stop = map(int, got.headers["content-range"][6:].partition("/")[0].split("-"))
    assert got.body == DATA[start : stop + 1]
    sealed = decode(got.progress)
    assert (sealed.kind, sealed.offset, sealed.head) == (Body.FILE, start, b"")
    assert len(got.progress) == 46 + 16 + 8 + len(sealed.path)


def test_several_ranges_are_made_again_the_same(root: Path) -> None:
    async def main() -> Got:
        sites = [site_of(root, seed=seed) for seed in range(2)]
        peer = Peer(lambda: sites[peer.answers % 2], piece=lambda: 30_000)

        def wipe() -> None:
            if peer.answers % 2:
                for site in sites:
                    site.wipe()
                    site.clock.ms += 5_000

        request = get("/data.bin", "Range: bytes=0-49999,100000-149999")
        response = await peer.exchange(request, between=wipe)
        for site in sites:
            await site.service.shutdown()
        return parsed(response, peer.progress)

    got = asyncio.run(main())
    assert [data for _, _, data in parts_of(got)] == [DATA[:50_000], DATA[100_000:150_000]]


def test_a_path_too_long_to_seal(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 200) / ("y" * 200)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(DATA)
    path = f"/{'x' * 200}/{'y' * 200}/file"
    assert ask(tmp_path, path).body == DATA
    assert ask(tmp_path, path, "Range: bytes=100-200000").body == DATA[100:200_001]


def replaced(path: Path, content: bytes, mtime: int) -> None:
    """As another machine has the file."""
    new = path.with_name("new")
    new.write_bytes(content)
    os.utime(new, (mtime, mtime))
    new.rename(path)


@pytest.mark.parametrize("size", [200_000, MOST_AT_ONCE + 300_000])
def test_replicas_whose_files_have_other_times(tmp_path: Path, size: int) -> None:
    content = Random(size).randbytes(size)
    path = tmp_path / "file"

    async def main() -> Got:
        sites = [site_of(tmp_path, identity="content", seed=seed) for seed in range(2)]
        peer = Peer(lambda: sites[peer.answers % 2], piece=lambda: 50_000)

        def elsewhere() -> None:
            """Files are not held open over this: the other replica has never seen this one."""
            replaced(path, content, CHANGED + peer.answers)
            for site in sites:
                site.wipe()
                site.service.runner.files.close()

        elsewhere()
        response = await peer.exchange(get("/file", "Range: bytes=5-"), between=elsewhere)
        assert peer.answers > 3
        for site in sites:
            await site.service.shutdown()
        return parsed(response, peer.progress)

    assert asyncio.run(main()).body == content[5:]


def test_a_file_merely_touched_goes_on(tmp_path: Path) -> None:
    """By content; and one replaced while it is held open goes on as it was."""
    path = tmp_path / "file"
    path.write_bytes(DATA)

    async def main(identity: str, times: list[int]) -> bytes:
        site = site_of(tmp_path, identity=identity)
        peer = Peer(lambda: site, piece=lambda: 50_000)

        def touch() -> None:
            time = times[peer.answers % len(times)]
            os.utime(path, (time, time))
            site.wipe()

        touch()
        try:
            return body_of(await peer.exchange(get("/file", "Range: bytes=1-"), between=touch))
        finally:
            await site.service.shutdown()

    assert asyncio.run(main("content", [CHANGED, CHANGED + 1])) == DATA[1:]
    assert asyncio.run(main("stat", [CHANGED])) == DATA[1:]
    with pytest.raises(ResponseGone, match="changed"):
        asyncio.run(main("stat", [CHANGED, CHANGED + 1]))


@pytest.mark.parametrize("identity", ["stat", "content"])
@pytest.mark.parametrize("size", [200_000, MOST_AT_ONCE + 300_000])
@pytest.mark.parametrize("how", ["replaced", "in place", "removed", "shorter", "a pipe"])
def test_bytes_of_two_versions_are_never_mixed(
    tmp_path: Path, identity: str, size: int, how: str
) -> None:
    content = Random(size).randbytes(size)
    path = tmp_path / "file"
    replaced(path, content, CHANGED)

    async def main() -> bytes:
        sites = [site_of(tmp_path, identity=identity, seed=seed) for seed in range(2)]
        peer = Peer(lambda: sites[peer.answers > 0], piece=lambda: 50_000)

        def change() -> None:
            if how == "replaced":
                replaced(path, content[:-1] + b"?", CHANGED + 1)
            elif how == "in place":
                with path.open("r+b") as file:
                    file.write(b"?")
                os.utime(path, (CHANGED + 1, CHANGED + 1))
            elif how == "shorter":
                os.truncate(path, 100_000)
            else:
                path.unlink(missing_ok=True)
            if how == "a pipe":
                os.mkfifo(path)

        try:
            with pytest.raises(ResponseGone):
                await peer.exchange(get("/file", "Range: bytes=10-"), between=change)
            return peer.got.partition(b"\r\n\r\n")[2]
        finally:
            for site in sites:
                await site.service.shutdown()

    got = asyncio.run(main())
    assert got and content[10:].startswith(got)


def test_equal_times_do_not_deceive_by_content(tmp_path: Path) -> None:
    """A replica with another version of the same size and time."""
    path = tmp_path / "file"
    replaced(path, DATA, CHANGED)

    async def main() -> None:
        sites = [site_of(tmp_path, identity="content", seed=seed) for seed in range(2)]
        peer = Peer(lambda: sites[peer.answers > 0], piece=lambda: 50_000)
        with pytest.raises(ResponseGone, match="changed"):
            await peer.exchange(
                get("/file"), between=lambda: replaced(path, bytes(len(DATA)), CHANGED)
            )
        for site in sites:
            await site.service.shutdown()

    asyncio.run(main())


def test_a_large_file_is_hashed_while_its_request_waits(tmp_path: Path) -> None:
    """Not on the event loop: until it is done there is no answer, and everybody is told then."""
    path = tmp_path / "file"
    replaced(path, DATA, CHANGED)

    async def main() -> None:
        first = site_of(tmp_path, identity="content")
        peer = Peer(lambda: first, piece=lambda: 50_000)
        peer.begin(get("/file"))
        answer = await first.ask(peer.redeemed(data=peer.stream, whole=True))
        assert isinstance(answer, FileResponse)
        peer.take(first, answer)
        replaced(path, DATA, CHANGED + 7)
        second = site_of(tmp_path, identity="content", seed=2)
        waiting = [peer.redeemed(incarnation=number) for number in (11, 12)]
        for redeemed in waiting:
            assert isinstance(second.service.answer(redeemed, second.clock()), Pending)
        for redeemed in waiting:
            await asyncio.wait_for(
                second.ready.setdefault(redeemed.incarnation, asyncio.Event()).wait(), 30
            )
            response = second.service.answer(redeemed, second.clock())
            assert isinstance(response, FileResponse)
            head = response.available - len(DATA)
            assert response.read(head + 50_000, head + 60_000) == DATA[50_000:60_000]
        await first.service.shutdown()
        await second.service.shutdown()

    asyncio.run(main())
