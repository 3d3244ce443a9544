"""Seals of processes that share a key: by workers, restarts, and children forked from any."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.net.processes import serving
from tests.net.sealing import Sealer, by_keyring, in_a_private_flow, nonces_of_processes
from tests.net.test_serve import get
from trickles_web.transport.keys import SEAL_NONCE_BYTES

FORKING = "tests.net.forking:app"


@pytest.mark.parametrize("sealing", [by_keyring, in_a_private_flow])
def test_no_nonce_repeats_in_starts_and_forks(
    sealing: Callable[[], AbstractContextManager[Sealer]],
) -> None:
    nonces = nonces_of_processes(4, 3, 10_000, sealing)
    assert len(nonces) == 4 * (2 + 3) * 10_000
    assert len(set(nonces)) == len(nonces)


@pytest.mark.live
def test_a_worker_s_child_seals_with_nonces_of_its_own(tmp_path: Path) -> None:
    """The application forks, and its child goes on with all that the server has."""
    with serving(tmp_path, FORKING, "--port", "0") as server:
        told = json.loads(get(server.port()).rpartition(b"\r\n\r\n")[2])
    before, child, after = (bytes.fromhex(told[name]) for name in ("before", "child", "after"))
    for at in (0, SEAL_NONCE_BYTES):  # of the keyring, and of private flows
        prefix = slice(at, at + 8)
        assert before[prefix] == after[prefix]
        assert child[prefix] != before[prefix]
