"""Found by the simulation: behind held entries a version may arrive before the one it replaces."""

from __future__ import annotations

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason
from entgldb.messages.model import Entry
from entgldb.storage.log import held
from entgldb.storage.store import Store

NOW = 1_800_000_000_000
AHEAD = NOW + 100_000
"""Beyond the drift bound of a node whose clock says NOW."""


def put(store: Store, number: int, body: bytes, now_ms: int) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, number), [Write("users", "u1", body)], now_ms)


def newest(store: Store) -> Entry:
    row = store.rows(store.last_lsn(), 1)[0]
    return Entry(row.header, row.body)


@pytest.fixture
def history() -> tuple[Entry, Entry]:
    """A version by one node, and the one by another node that replaced it."""
    one, two = Store.memory("one", b"1", AHEAD), Store.memory("two", b"2", AHEAD)
    put(one, 1, b'{"v": 1}', AHEAD)
    first = newest(one)
    with two.group():
        two.apply([first], AHEAD)
    put(two, 1, b'{"v": 2}', AHEAD)
    return first, newest(two)


def test_a_held_entry_is_no_conflict_once_its_successor_is_here(history: tuple[Entry, Entry]) -> None:
    first, second = history
    here = Store.memory("here", b"3", NOW)
    with here.group():
        assert here.apply([first], NOW).counts[Reason.HELD_CLOCK.value] == 1
    with here.group():
        # the clock was set right, and the successor is here before the next look at what is held
        outcome = here.apply([second], AHEAD)
    assert outcome.counts[Reason.PARENT_ABSENT.value] == 1
    with here.group():
        assert here.release_held(AHEAD).changes
    assert here.get("users", "u1") == b'{"v": 2}'
    assert here.status()["conflicts"] == 0
    assert here.status()["held"] == 0


@pytest.mark.parametrize("together", [None, 1])
def test_held_entries_are_released_with_causes_before_effects(
    monkeypatch: pytest.MonkeyPatch, together: int | None
) -> None:
    """The log of the effect was held before that of its cause."""
    if together is not None:
        monkeypatch.setattr(held, "RELEASED_TOGETHER", together)
    one, two = Store.memory("one", b"1", AHEAD), Store.memory("two", b"2", AHEAD)
    here = Store.memory("here", b"3", NOW)
    put(here, 1, b'{"v": "rival"}', NOW)
    with two.group():
        two.write(RequestId(b"c" * 16, 1), [Write("users", "other", b"{}")], AHEAD)
    before = newest(two)
    put(one, 1, b'{"v": 1}', AHEAD + 1)
    cause = newest(one)
    with two.group():
        two.apply([cause], AHEAD + 2)
    put(two, 2, b'{"v": 2}', AHEAD + 2)
    with here.group():
        assert here.apply([before, cause, newest(two)], NOW).counts[Reason.HELD_CLOCK.value] == 3
    absent = 0
    while here.status()["held"]:
        with here.group():
            done = here.release_held(AHEAD)
        assert done.changes
        absent += done.counts[Reason.PARENT_ABSENT.value]
    assert absent == 0
    assert here.get("users", "u1") == b'{"v": 2}'
    (rival,) = here.connection.execute("SELECT body FROM _entgldb_conflicts").fetchall()
    assert rival == ('{"v": "rival"}',)
