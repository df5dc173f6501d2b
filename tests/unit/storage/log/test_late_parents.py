"""Entries that come before their parents: nothing is invented, nothing comes back."""

from __future__ import annotations

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Entry, Version
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import append as batch
from entgldb.storage.rules.clock import from_ms
from entgldb.storage.rules.header import DELETE, Header, digest, encode
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


@pytest.mark.parametrize("settled", [False, True], ids=["stands", "is settled"])
def test_who_loses_before_its_parent_comes_is_a_conflict_until_somebody_settles_it(*, settled: bool) -> None:
    """Nothing that its parent has replaced matters for that."""
    fast, sane, slow, other = make("fast"), make("sane"), make("slow"), make("other")
    parent = put(fast, b'{"by":"parent"}', AHEAD)
    apply(sane, parent, AHEAD)
    child = put(sane, b'{"by":"child"}', AHEAD)
    apply(slow, parent, NOW)
    apply(slow, put(other, b'{"by":"other"}', AHEAD + 5), LATER)
    assert apply(slow, child, LATER) == {"parent-absent": 1}
    (conflict,) = Documents(slow.connection).conflicts()
    assert conflict.document == {"by": "child"}
    if settled:
        apply(slow, put(sane, None, AHEAD), LATER)
    with slow.group():
        slow.release_held(LATER)
    kept = [one.document for one in Documents(slow.connection).conflicts()]
    assert kept == ([] if settled else [{"by": "child"}])
    assert slow.get("c", "k") == b'{"by":"other"}'


@pytest.mark.parametrize("known", [False, True], ids=["a rival of it", "what it had replaced"])
def test_what_was_there_is_listed_until_a_late_parent_tells_what_it_replaced(*, known: bool) -> None:
    """A conflict that was not listed now would be nowhere once the parent has come."""
    fast, sane, slow, other = make("fast"), make("sane"), make("slow"), make("other")
    before = put(other, b'{"by":"other"}', NOW)
    if known:
        apply(fast, before, NOW)
        apply(sane, before, NOW)
    parent = put(fast, b'{"by":"parent"}', AHEAD)
    apply(sane, parent, AHEAD)
    apply(slow, before, NOW)
    apply(slow, parent, NOW)
    # slow takes it by its own clock, which is right by now; what it holds is looked at later
    assert apply(slow, put(sane, b'{"by":"child"}', AHEAD), LATER) == {"parent-absent": 1}
    assert [one.document for one in Documents(slow.connection).conflicts()] == [{"by": "other"}]
    with slow.group():
        slow.release_held(LATER)
    apply(sane, before, LATER)
    kept = [one.document for one in Documents(slow.connection).conflicts()]
    assert kept == [one.document for one in Documents(sane.connection).conflicts()]
    assert kept == ([] if known else [{"by": "other"}])


def naming(store: Store, seqs: range, *, rival: Store) -> list[Entry]:
    """Deletes by ``store``, each over a version of ``rival`` that nobody has."""
    found, before = [], b""
    for number, seq in enumerate(seqs, 1):
        raw = encode(
            Header(
                store.origin,
                number,
                from_ms(NOW) + number,
                "c",
                "k",
                DELETE,
                Version(rival.origin, seq),
                0,
                1,
                b"",
                before,
            )
        )
        before = digest(raw)
        found.append(Entry(raw, None))
    return found


def notes(store: Store) -> list[int]:
    rows = store.connection.execute("SELECT seq FROM _entgldb_successors ORDER BY id")
    return [seq for (seq,) in rows]


def test_only_so_many_absent_parents_are_remembered_and_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "SUCCESSORS_MAX", 3)
    one, writer, rival = make("one"), make("writer"), make("rival")
    with one.group():
        counts = one.apply(naming(writer, range(10, 60, 10), rival=rival), NOW).counts
    assert counts == {"parent-absent": 5, "parent-forgotten": 2}
    assert notes(one) == [30, 40, 50]


def test_notes_are_tidied_in_steps_and_all_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TIDY_ROWS", 2)
    one, writer, rival = make("one"), make("writer"), make("rival")
    with one.group():
        one.apply(naming(writer, range(1, 6), rival=rival), NOW)
    for _ in range(4):
        apply(one, put(rival, b"{}", NOW), NOW)
    assert notes(one) == [1, 2, 3, 4, 5]
    left = []
    one.live(0.0)
    for minute in (1, 2, 3, 4):
        one.live(61.0 * minute)
        with one.group():
            one.release_held(NOW)
        left.append(notes(one))
    assert left == [[3, 4, 5], [5], [5], [5]]


@pytest.mark.parametrize("before_the_end", [False, True])
def test_a_version_behind_the_end_of_a_log_counts_as_here(*, before_the_end: bool) -> None:
    """Its writer has ended the log and written it again, under a name that its successor does not know."""
    old, new, other, node = make("old"), make("new"), make("other"), make("node")
    first, last = (put(old, b'{"by":"%d"}' % seq, NOW + seq) for seq in range(2))
    for store in (new, other, node):
        apply(store, first, NOW)
    apply(other, last, NOW + 1)
    successor = put(other, b'{"by":"other"}', NOW + 2)
    again = put(new, b'{"by":"new"}', NOW + 3)

    def end() -> None:
        with node.group():
            node.state.end(node.connection, old.origin, 1)
            node.release_held(NOW)

    if before_the_end:
        apply(node, last, NOW + 3)
        apply(node, successor, NOW + 3)
        end()
    else:
        end()
        assert apply(node, last, NOW + 3) == {"ended": 1}
        assert apply(node, successor, NOW + 3) == {}
    apply(node, again, NOW + 3)
    assert node.vector()[old.origin][0] == 1
    assert node.get("c", "k") == b'{"by":"new"}'
    (conflict,) = Documents(node.connection).conflicts()
    assert conflict.document == {"by": "other"}
