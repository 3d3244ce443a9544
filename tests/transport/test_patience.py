"""When a flow is given up, moment by moment."""

from __future__ import annotations

from trickles_web.config import ClientConfig
from trickles_web.errors import FlowTimeout
from trickles_web.transport.patience import MOST_LOST, Patience

SILENCE = ClientConfig().silence_timeout_s


def begun(at: float = 100.0) -> Patience:
    patience = Patience(ClientConfig(), at)
    patience.begin(at, 0)
    patience.hears(at, gained=False)
    return patience


def test_what_comes_no_further_ends_though_servers_are_heard() -> None:
    patience = begun()
    patience.hears(130.0, gained=True)
    for second in range(131, 400):
        patience.hears(second, gained=False)
    assert patience.limit == 160.0 + SILENCE
    assert "servers lose the request" in str(patience.error())


def test_silence_ends_it_sooner() -> None:
    patience = begun()
    patience.hears(130.0, gained=True)
    assert patience.limit == 130.0 + SILENCE
    assert "no server has gone on" in str(patience.error())


def test_only_what_was_never_reached_is_further() -> None:
    patience = begun()
    assert [patience.reaches(offset) for offset in (0, 5, 3, 5, 6)] == [
        *(False, True, False, False, True)
    ]
    patience.begin(200.0, 7)
    assert [patience.reaches(offset) for offset in (6, 7, 8)] == [False, False, True]


def test_who_works_on_it_is_not_hurried() -> None:
    patience = begun()
    for minute in range(1, 100):
        patience.works(100.0 + 60 * minute)
    assert patience.limit == 100.0 + 60 * 99 + SILENCE


def test_those_who_work_lose_it_so_often_and_no_more() -> None:
    patience = begun()
    for n in range(1, 2 + MOST_LOST):
        assert patience.limit >= 100.0 + 50 * (n - 1) + SILENCE
        patience.works(100.0 + 50 * n)
        patience.loses(100.0 + 50 * n)
        patience.loses(100.0 + 50 * n)  # said twice of the same
    assert patience.limit == 100.0 + SILENCE
    assert isinstance(patience.error(), FlowTimeout)
    patience.hears(400.0, gained=True)  # and then one byte
    patience.works(500.0)
    assert patience.limit == 500.0 + SILENCE


def test_a_reader_that_rests_is_not_counted() -> None:
    patience = begun()
    patience.rest(1000.0)
    assert patience.limit == 1000.0 + SILENCE
