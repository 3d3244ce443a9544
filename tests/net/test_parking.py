"""Parked requests: bounds, WAITs and expiry, in virtual time."""

from __future__ import annotations

from trickles_web.net.parking import (
    FORGET_AFTER_S,
    LONGEST_WAIT_MS,
    SHORTEST_WAIT_MS,
    WAIT_AFTER_S,
    Parking,
)
from trickles_web.net.udp import Peer
from trickles_web.transport.server import Redeemed
from trickles_web.transport.wire import Kind


def request(incarnation: int, host: str = "127.0.0.1", wanted: int = 0) -> Redeemed:
    return Redeemed(
        kind=Kind.REQUEST,
        flow=bytes(8),
        incarnation=incarnation,
        address=(host, 4000),
        progress=b"",
        wants=((wanted, wanted + 1),),
    )


PEER = Peer(("127.0.0.1", 4000), [])


def test_the_newest_request_of_an_incarnation_wins() -> None:
    parking = Parking()
    assert parking.park(request(1, wanted=10), PEER, 0.0)
    assert parking.park(request(1, wanted=20), PEER, 0.001)
    assert len(parking) == 1
    entry = parking.get(1)
    assert entry is not None and entry.redeemed.wants == ((20, 21),)
    assert len(parking.take_waits(1.0, 100)) == 1
    assert parking.take_waits(1.0, 100) == []


def test_a_wait_is_due_after_its_delay_and_grows_with_the_time_parked() -> None:
    parking = Parking()
    now, waits = 100.0, []
    for _ in range(9):  # the client repeats its request each time the WAIT has passed
        parking.park(request(1), PEER, now)
        assert parking.take_waits(now + WAIT_AFTER_S / 2, 100) == []
        assert parking.next_due() == now + WAIT_AFTER_S
        now += WAIT_AFTER_S
        [entry] = parking.take_waits(now, 100)
        waits.append(entry.wait_ms(now))
        now += waits[-1] / 1000
    assert waits[0] == SHORTEST_WAIT_MS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_MS
    assert len(waits) - waits.index(LONGEST_WAIT_MS) >= 2


def test_no_wait_for_what_was_answered_in_time() -> None:
    parking = Parking()
    parking.park(request(1), PEER, 0.0)
    assert parking.remove(1) is not None
    assert parking.remove(1) is None
    assert parking.take_waits(1.0, 100) == []
    assert parking.next_due() is None


def test_waits_are_given_out_in_slices() -> None:
    parking = Parking()
    for incarnation in range(10):
        parking.park(request(incarnation), PEER, 0.0)
    assert len(parking.take_waits(1.0, 7)) == 7
    assert parking.next_due() == WAIT_AFTER_S
    assert len(parking.take_waits(1.0, 7)) == 3


def test_an_incomplete_request_waits_for_its_bytes_and_gets_no_wait() -> None:
    parking = Parking()
    parking.park(request(1), PEER, 0.0, incomplete=True)
    assert parking.take_waits(5.0, 100) == []
    entry = parking.get(1)
    assert entry is not None
    parking.completed(entry, 6.0)
    parking.completed(entry, 6.001)
    assert parking.next_due() == 6.0 + WAIT_AFTER_S
    [due] = parking.take_waits(7.0, 100)
    assert due is entry and due.wait_ms(7.0) == 1000


def test_what_nobody_repeats_is_forgotten() -> None:
    parking = Parking()
    parking.park(request(1), PEER, 0.0)
    parking.park(request(2), PEER, 5.0)
    parking.park(request(1), PEER, 10.0)
    assert parking.take_waits(10.0, 100)
    assert parking.next_due() == 10.0 + WAIT_AFTER_S
    parking.take_waits(5.0 + FORGET_AFTER_S, 100)
    assert parking.get(1) is not None and parking.get(2) is None
    parking.take_waits(10.0 + FORGET_AFTER_S, 100)
    assert len(parking) == 0 and parking.next_due() is None


def test_bounds_in_all_and_per_network() -> None:
    parking = Parking(most=10, most_per_prefix=4)
    taken = [parking.park(request(n, f"192.0.2.{n}"), PEER, 0.0) for n in range(6)]
    assert taken == [True] * 4 + [False] * 2
    assert parking.park(request(1, "192.0.2.1"), PEER, 0.0)  # a repeat needs no new room
    parking.remove(0)
    assert parking.park(request(7, "192.0.2.7"), PEER, 0.0)
    taken = [parking.park(request(100 + n), PEER, 0.0) for n in range(8)]
    assert taken == [True] * 6 + [False] * 2  # loopback has no cap of its own
    assert len(parking) == 10


def test_bounds_in_bytes() -> None:
    parking = Parking(most_bytes=50_000)
    assert all(parking.park(request(n % 7), PEER, 0.0) for n in range(1_000))
    taken = [parking.park(request(n), PEER, 0.0) for n in range(1_000)]
    assert taken.count(True) == len(parking) == 25
    for n in range(1_000):
        parking.remove(n)
    assert parking.park(request(1), PEER, 0.0)
