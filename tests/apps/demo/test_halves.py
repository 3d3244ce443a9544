"""What the two halves are made of."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from apps.demo import halves
from apps.demo.halves import Ports

PORTS = Ports(20_000)


def test_ports_follow_each_other() -> None:
    named = [PORTS.page, PORTS.gateway, PORTS.nginx, PORTS.sprayer, *PORTS.replicas, *PORTS.uvicorn]
    assert named == list(range(20_000, 20_000 + halves.PORTS))


def test_replicas_share_a_secret_that_is_nobody_elses(tmp_path: Path) -> None:
    half = halves.trickles(PORTS, tmp_path)
    secret = tmp_path / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(bytes.fromhex(secret.read_text())) == 32
    assert len(half.replicas) == 3
    first = secret.read_text()
    halves.trickles(PORTS, tmp_path)
    assert secret.read_text() != first


def test_without_nginx_there_is_one_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert halves.uvicorn(PORTS, tmp_path, 1000) is None
    nginx = tmp_path / "nginx"
    nginx.touch(mode=0o700)
    half = halves.uvicorn(PORTS, tmp_path, 1000)
    assert half is not None and half.base == "http://127.0.0.1:20002"
    configuration = (tmp_path / "nginx.conf").read_text()
    for line in ("limit_rate 1000;", "listen 127.0.0.1:20002;", "server 127.0.0.1:20009 "):
        assert line in configuration
