"""Entries that come before their parents: nothing is invented, nothing comes back."""

from __future__ import annotations

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Entry
from entgldb.storage.documents import Documents
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
AHEAD = NOW + DRIFT_MS_MAX + 1_000
LATER = AHEAD + 120_000


def make(name: str) -> Store:
    return Store.memory(name, name.encode(), NOW)


def put(store: Store, body: bytes | None, now: int) -> Entry:
    counter = store.last_lsn() + 1
    with store.group():
        store.write(RequestId(b"c" * 16, counter), [Write("c", "k", body)], now)
    (row,) = store.rows(counter, 1)
    return Entry(row.header, row.body)


def apply(store: Store, entry: Entry, now: int) -> dict[str, int]:
    with store.group():
        return dict(store.apply([entry], now).counts)


@pytest.mark.parametrize("body", [b'{"by":"child"}', None])
def test_a_parent_released_after_its_child_is_no_conflict(body: bytes | None) -> None:
    fast, sane, slow = make("fast"), make("sane"), make("slow")
    parent = put(fast, b'{"by":"parent"}', AHEAD)
    apply(sane, parent, AHEAD)
    child = put(sane, body, AHEAD)
    assert apply(slow, parent, NOW) == {"held-clock": 1}
    # the child's own writer is ahead as well; its entry meets a node whose clock is right by now
    assert apply(slow, child, AHEAD) == {"parent-absent": 1}
    with slow.group():
        assert slow.release_held(AHEAD).changes == fast.vector()
    assert slow.get("c", "k") == sane.get("c", "k") == body
    assert Documents(slow.connection).conflicts() == []
    assert slow.vector() == sane.vector()


def test_the_note_about_a_successor_goes_when_the_parent_is_here() -> None:
    fast, sane, slow = make("fast"), make("sane"), make("slow")
    parent = put(fast, b"{}", AHEAD)
    apply(sane, parent, AHEAD)
    apply(slow, parent, NOW)
    apply(slow, put(sane, b"{}", AHEAD), AHEAD)
    notes = "SELECT origin, seq FROM _entgldb_successors"
    assert slow.connection.execute(notes).fetchall() == [(fast.origin, 1)]
    slow.live(0.0)
    slow.live(61.0)
    with slow.group():
        slow.release_held(NOW + 61_000)
    assert slow.connection.execute(notes).fetchall() == []


def test_a_true_rival_of_a_late_parent_is_still_kept() -> None:
    fast, other, slow = make("fast"), make("other"), make("slow")
    late = put(fast, b'{"by":"fast"}', AHEAD)
    rival = put(other, b'{"by":"rival"}', AHEAD + 5)
    apply(slow, late, NOW)
    assert apply(slow, rival, LATER) == {}
    with slow.group():
        slow.release_held(LATER)
    (conflict,) = Documents(slow.connection).conflicts()
    assert conflict.document == {"by": "fast"}
    assert slow.get("c", "k") == b'{"by":"rival"}'
