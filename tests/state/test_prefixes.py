from __future__ import annotations

from trickles_web.state.prefixes import PerPrefix, prefix_of


def test_prefixes() -> None:
    assert prefix_of("192.0.2.1") == prefix_of("192.0.2.200") != prefix_of("192.0.3.1")
    assert prefix_of("2001:db8:0:ff::1") == prefix_of("2001:db8:0:1::9")
    assert prefix_of("2001:db8:0:100::1") != prefix_of("2001:db8:0:ff::1")
    assert prefix_of("fe80::1%eth0") == prefix_of("fe80::2")
    assert prefix_of("127.0.0.1") is prefix_of("::1") is None


def test_no_prefix_has_more_than_its_own_but_loopback() -> None:
    counts = PerPrefix(2)
    for _ in range(2):
        assert not counts.full("192.0.2")
        counts.add("192.0.2")
        counts.add(None)
    assert counts.full("192.0.2")
    assert not counts.full("192.0.3")
    assert not counts.full(None)
    counts.remove("192.0.2")
    counts.remove(None)
    assert not counts.full("192.0.2")
