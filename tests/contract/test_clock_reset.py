"""``clock --reset``: a new writer stamps anew the entries that a clock far ahead has stamped and nobody else
has."""

from __future__ import annotations

import json

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.local.members import Prune
from entgldb.messages.model import COLLECTIONS, ENDED, SYSTEM_PREFIX, Entry, node_of
from entgldb.messages.wire import Member
from entgldb.storage.file.state import State
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.contract.test_quarantine import chain
from tests.contract.test_store import NOW, Bench, bench, doc, entries
from tests.unit.storage.snapshot.snapshots import send

__all__ = ["bench"]

DAYS = 10 * 24 * 3_600_000
AHEAD, LATER = NOW + DAYS, NOW + 2 * DAYS


def reset(bench: Bench, store: Store, now: int = NOW) -> tuple[str, int, int]:
    with store.group():
        return store.reset_clock(bench.request(), b"e" * 32, now)


def exchange(bench: Bench, *stores: Store, now: int = NOW) -> None:
    """Everybody gives everybody else all that it has, until nobody learns anything."""
    moved = True
    while moved:
        moved = False
        for giver in stores:
            for taker in stores:
                if giver is not taker:
                    moved |= bool(bench.apply(taker, entries(giver), now).changes)


def tidy(*stores: Store, now: int = NOW) -> None:
    for store in stores:
        with store.group():
            store.release_held(now)


def shown(store: Store) -> list[tuple[object, ...]]:
    rows = store.connection.execute(
        "SELECT d.collection, d.key, d.body, o.name, d.seq, d.hlc, d.stamps FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin ORDER BY 1, 2"
    ).fetchall()
    lost = store.connection.execute(
        "SELECT c.collection, c.key, c.body, o.name, c.seq, c.hlc FROM _entgldb_conflicts c"
        " JOIN _entgldb_origins o ON o.id = c.origin ORDER BY 1, 2, 4, 5"
    ).fetchall()
    return [*rows, *lost]


def conflicts(store: Store) -> list[tuple[str, int]]:
    """The versions that are listed."""
    return store.connection.execute(
        "SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
    ).fetchall()


def for_a_cloud(store: Store) -> list[Entry]:
    """All that is in a log, as it travels on a cloud link."""
    system = SYSTEM_PREFIX.encode()
    return [Entry(one.header, None if system in one.header else one.body) for one in entries(store)]


def two(bench: Bench, collection: str = "users") -> tuple[Store, Store]:
    """b holds what a has written with its clock ten days ahead; both have written since."""
    a, b = bench.make("a"), bench.make("b")
    if collection != "users":
        bench.put(a, Write(COLLECTIONS, collection, b'{"Conflict":"merge"}'), system=True)
    bench.put(a, doc("kept", b'{"x":1,"y":1}', collection), doc("gone", b'{"x":1}', collection))
    exchange(bench, a, b)
    bench.put(a, doc("kept", b'{"x":2,"y":1}', collection), now=AHEAD)
    bench.put(a, doc("gone", None, collection), doc("new", b'{"n":1}', collection), now=AHEAD)
    bench.put(a, doc("kept", b'{"x":3,"y":1}', collection))
    bench.put(b, doc("kept", b'{"x":1,"y":9}', collection), now=NOW + 5)
    bench.apply(a, entries(b))
    assert bench.apply(b, entries(a)).counts["held-clock"] == 4
    return a, b


@pytest.mark.parametrize("collection", ["users", "merging"])
def test_unseen_writes_go_along_with_right_stamps_and_what_is_held_of_the_old_log_goes(
    bench: Bench, collection: str
) -> None:
    a, b = two(bench, collection)
    old, before = a.origin, {key: a.get(collection, key) for key in ("kept", "gone", "new")}
    new, written, put_off = reset(bench, a)
    assert (new, written, put_off) == (a.origin, 4, 0)
    assert new != old
    assert {key: a.get(collection, key) for key in before} == before
    assert a.high_mark_ms() <= NOW + 60_000
    exchange(bench, a, b)
    assert b.held() == {}
    assert a.vector() == b.vector()
    assert shown(a) == shown(b)
    assert {key: b.get(collection, key) for key in before} == before
    bench.put(b, doc("kept", b'{"x":4}', collection), now=NOW + 60_000)
    exchange(bench, a, b, now=NOW + 60_000)
    tidy(a, b, now=LATER)
    assert shown(a) == shown(b)
    assert json.loads(a.get(collection, "kept") or b"")["x"] == 4
    assert max(ms_of(decode(entry.header).hlc) for entry in entries(a)) < AHEAD


def test_who_still_has_the_end_of_the_old_log_gives_it_to_nobody(bench: Bench) -> None:
    a, b = two(bench)
    held = entries(a)
    reset(bench, a)
    exchange(bench, a, b)
    for store in (a, b):
        state = State.load(store.connection)
        assert (state.ended, state.held) == (store.state.ended, store.state.held)
        assert bench.apply(store, held, LATER).counts["ended"] == 4
    assert a.vector() == b.vector()


def test_a_cloud_learns_of_the_end_by_the_header_alone(bench: Bench) -> None:
    a, _ = two(bench)
    cloud = bench.make("cloud")
    assert bench.apply(cloud, for_a_cloud(a), cloud=True).counts["held-clock"] == 4
    reset(bench, a)
    bench.apply(cloud, for_a_cloud(a), cloud=True)
    assert cloud.held() == {}
    assert {**cloud.vector(), **a.vector()} == cloud.vector()
    assert cloud.get("users", "new") == b'{"n":1}'


def test_who_had_let_the_end_of_the_old_log_in_takes_it_out_again(bench: Bench) -> None:
    a, b = two(bench)
    with b.group():
        b.release_held(NOW, accepted=a.origin)
    reset(bench, a)
    exchange(bench, a, b)
    tidy(a, b)
    exchange(bench, a, b)
    assert a.vector() == b.vector()
    assert shown(a) == shown(b)


def test_what_another_member_says_it_has_stays_as_it_is(bench: Bench) -> None:
    a, b = two(bench)
    with b.group():
        b.release_held(NOW, accepted=a.origin)
    row = Member(b.origin, 1, NOW, {origin: seq for origin, (seq, _) in b.vector().items()})
    with a.group():
        a.remember_members([row], NOW, cloud=False)
    before = a.origin
    with pytest.raises(InvalidError, match="others have taken"):
        reset(bench, a)
    assert a.origin == before
    assert bench.apply(b, entries(a)).changes == {}


def test_what_a_node_stamped_ahead_before_it_began_anew_waits_as_it_does_elsewhere(bench: Bench) -> None:
    """That log gets no end: others may hold more of it than a disk that went back has."""
    a, b = two(bench)
    former, before = a.origin, {key: a.get("users", key) for key in ("kept", "gone", "new")}
    with a.group():
        a.incarnations.reincarnate(b"n" * 32, Why.ROLLED_BACK, NOW)
    bench.put(a, doc("late"), now=AHEAD)
    assert reset(bench, a)[1:] == (1, 4)
    assert former not in a.state.ended
    assert State.load(a.connection) == a.state
    assert a.held() == b.held() == {former: 6}
    exchange(bench, a, b)
    assert (a.vector(), documents(a)) == (b.vector(), documents(b))
    assert b.get("users", "late") == doc("late").body
    assert bench.apply(b, bench.put(a, doc("next"))).changes == {a.origin: a.vector()[a.origin]}
    tidy(a, b, now=LATER)
    assert a.held() == b.held() == {}
    assert {key: a.get("users", key) for key in before} == before
    assert (a.vector(), documents(a)) == (b.vector(), documents(b))


def test_what_a_writer_that_never_returns_has_stamped_ahead_is_not_lost(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(b, doc("kept", b'{"x":1}'), Write(COLLECTIONS, "users", b'{"Conflict":"lww"}'), system=True)
    exchange(bench, a, b)
    bench.put(b, doc("kept", b'{"x":2}'), doc("only here"), now=AHEAD)
    bench.put(b, doc("later"), now=AHEAD + 1)
    bench.put(b, doc("held"), now=LATER)
    bench.apply(a, entries(b), AHEAD)
    assert a.held() == {b.origin: 6}
    assert reset(bench, a) == (a.origin, 0, 3)
    assert State.load(a.connection) == a.state
    assert (a.get("users", "kept"), a.get("users", "later")) == (b'{"x":1}', None)
    assert a.held() == {b.origin: 6}
    assert (a.vector()[b.origin][0], a.high_mark_ms()) == (2, NOW)
    assert bench.apply(a, entries(b)).changes == {}
    tidy(a, now=LATER)
    assert (a.vector(), documents(a), a.held()) == (b.vector(), documents(b), {})


def test_what_is_behind_the_end_of_a_log_is_not_held(bench: Bench) -> None:
    """The end is known, and the next look would have taken out what is behind it."""
    a, b = two(bench)
    bench.apply(b, entries(a), AHEAD)
    bench.put(b, doc("own"), now=AHEAD)
    with b.group():
        b.release_held(AHEAD)
    assert reset(bench, a)[1] == 4
    bench.apply(b, entries(a))
    assert reset(bench, b)[1:] == (1, 0)
    assert b.held() == {}


def test_what_is_in_quarantine_and_what_was_recorded_alone_wait_too(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    log = bench.put(b, doc("fine"), doc("k"), now=AHEAD)
    log += bench.put(b, Write(COLLECTIONS, "users", b'{"Conflict":"merge"}'), now=AHEAD, system=True)
    log = chain(log, {1: b"\xff"})
    bench.apply(a, log, AHEAD, cloud=True)
    assert (a.status()["unfit"], len(a.unapplied(1))) == (1, 1)
    assert reset(bench, a)[2] == 3
    assert (a.status()["unfit"], a.state.unfit_logged) == (0, True)
    tidy(a, now=LATER)
    assert (a.status()["unfit"], len(a.unapplied(1))) == (1, 1)
    assert "users" not in a.state.merging
    assert [(row.header, row.body) for row in a.rows(1, 10)][:2] == [
        (one.header, one.body) for one in log[:2]
    ]


def test_a_cloud_node_goes_on_with_right_stamps_and_its_own_writes_wait_as_they_do_elsewhere(
    bench: Bench,
) -> None:
    cloud, b = two(bench)
    bench.put(b, doc("by b"), now=AHEAD)
    bench.apply(cloud, entries(b), AHEAD)
    old = cloud.origin
    with cloud.group():
        new, written, put_off = cloud.reset_clock(bench.request(), b"e" * 32, NOW, ends=False)
    assert (new != old, written, put_off) == (True, 0, 5)
    assert (cloud.state.ended, cloud.held()) == ({}, {old: 6, b.origin: 2})
    assert State.load(cloud.connection) == cloud.state
    made = bench.put(cloud, doc("next"), now=NOW + 9)
    assert bench.apply(b, made, NOW + 9).changes == {new: cloud.vector()[new]}
    tidy(cloud, b, now=LATER)
    exchange(bench, cloud, b, now=LATER)
    assert (cloud.vector(), documents(cloud)) == (b.vector(), documents(b))
    assert cloud.get("users", "new") == b'{"n":1}'


def test_a_cloud_node_that_took_what_others_stamped_ahead_needs_no_new_log(bench: Bench) -> None:
    cloud, b = bench.make("cloud"), bench.make("b")
    bench.apply(cloud, bench.put(b, doc("by b"), now=AHEAD), AHEAD)
    before = cloud.origin
    with cloud.group():
        assert cloud.reset_clock(bench.request(), b"e" * 32, NOW, ends=False) == (before, 0, 1)
    assert cloud.high_mark_ms() == 0
    assert bench.apply(b, bench.put(cloud, doc("next"))).changes == cloud.vector()


def test_however_many_writers_ran_ahead_the_logs_are_walked_once(bench: Bench) -> None:
    walks = []  # in steps of SQLite's machine, a hundred at a time
    for writers in (1, 12):
        a = bench.make(f"a{writers}")
        for number in range(3):
            bench.put(a, *(doc(f"{number} {key}") for key in range(400)))
        for number in range(writers):
            other = bench.make(f"w{writers}-{number}")
            bench.apply(a, bench.put(other, doc(other.origin[:5]), now=AHEAD), AHEAD)
        steps = [0]
        count = getattr(a.connection, "set_progress_handler", None) or pytest.skip("only SQLite tells")
        count(lambda steps=steps: steps.__setitem__(0, steps[0] + 1), 100)
        reset(bench, a)
        count(None, 0)
        walks.append(steps[0])
    assert walks[1] < 2 * walks[0]


def test_a_new_node_learns_of_the_end_by_a_snapshot(bench: Bench) -> None:
    a, b = two(bench)
    held = entries(a)
    reset(bench, a)
    exchange(bench, a, b)
    fresh = bench.make("c")
    send(b, fresh, NOW)
    assert bench.apply(fresh, held, LATER).counts["ended"] == 4
    assert fresh.vector() == b.vector()


def test_nobody_ends_the_log_of_another_node(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k"))
    bench.apply(b, entries(a))
    bench.put(b, Write(ENDED, f"{a.origin}/0", b"{}"), system=True)
    bench.apply(a, entries(b))
    assert (a.state.ended, b.state.ended) == ({}, {})
    assert not a.disowned


def test_where_stamps_are_right_there_is_nothing_to_reset(bench: Bench) -> None:
    a = bench.make("a")
    bench.put(a, doc("k"), now=NOW + 59_000)
    with pytest.raises(InvalidError, match="nothing to reset"):
        reset(bench, a)


def prune(store: Store, *origins: str) -> None:
    """Forget all that the log has of ``origins`` up to now, but the own writes that nobody else has."""
    bounds = {origin: store.vector()[origin][0] for origin in origins}
    with store.group():
        store.prune(Prune(bounds, bounds, 1 << 30, 1, 0))


def everything(store: Store) -> tuple[object, ...]:
    state = store.state
    log = [(row.lsn, row.header, row.body) for row in store.rows(1, 1000)]
    return store.origin, state.clock, state.ended, state.entries, store.vector(), log, shown(store)


@pytest.mark.parametrize("op", ["put", "delete"])
def test_a_change_of_fields_on_a_pruned_version_refuses_the_reset_and_leaves_all_as_it_was(
    bench: Bench, op: str
) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, Write(COLLECTIONS, "merging", b'{"Conflict":"merge"}'), system=True)
    exchange(bench, a, b)
    bench.put(b, doc("k", b'{"x":1,"y":1}', "merging"), now=NOW + 1)
    exchange(bench, a, b)
    bench.put(a, doc("k", b'{"x":2,"y":1}' if op == "put" else None, "merging"), now=AHEAD)
    prune(a, b.origin)
    before = everything(a)
    with pytest.raises(InvalidError, match="merging/k was changed on a version that is pruned") as refused:
        reset(bench, a)
    assert "held --release" in (refused.value.hint or "")
    assert everything(a) == before
    assert State.load(a.connection) == a.state
    # as the hint says: others let it in
    bench.apply(b, entries(a))
    with b.group():
        b.release_held(NOW, accepted=a.origin)
    assert (a.vector(), shown(a)) == (b.vector(), shown(b))


def test_a_whole_write_on_a_pruned_version_does_not_refuse_the_reset(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(b, doc("k", b'{"x":1,"y":1}'), doc("gone"))
    exchange(bench, a, b)
    bench.put(a, doc("k", b'{"x":2,"y":1}'), doc("gone", None), now=AHEAD)
    prune(a, b.origin)
    assert reset(bench, a)[1] == 2
    exchange(bench, a, b)
    assert a.vector() == b.vector()
    assert documents(a) == documents(b)
    assert a.get("users", "k") == b'{"x":2,"y":1}'


@pytest.mark.parametrize("last", [b'{"x":9}', None])
def test_what_was_settled_by_a_version_that_is_pruned_stays_settled(bench: Bench, last: bytes | None) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    bench.put(b, doc("k", b'{"x":1}'), doc("rival", b'{"x":1}'), now=NOW + 1)
    bench.put(c, doc("rival", b'{"x":2}'), now=NOW + 2)
    exchange(bench, a, b, c)
    bench.put(c, doc("k", b'{"x":3}'), doc("rival", b'{"x":3}'), now=NOW + 3)
    exchange(bench, a, b, c)
    bench.put(a, doc("k", last), doc("rival", last), now=AHEAD)
    for store in (a, b):
        prune(store, c.origin)
    assert [conflicts(store) for store in (a, b)] == [[], []]
    bench.apply(b, entries(a))
    assert reset(bench, a)[1] == 2
    exchange(bench, a, b)
    assert [conflicts(store) for store in (a, b)] == [[], []]
    assert a.get("users", "k") == b.get("users", "k") == last
    assert shown(a) == shown(b)


def test_fields_that_were_settled_by_a_version_that_is_pruned_stay_settled_where_a_log_is_cut(
    bench: Bench,
) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    bench.put(a, Write(COLLECTIONS, "merging", b'{"Conflict":"merge"}'), system=True)
    exchange(bench, a, b, c)
    bench.put(b, doc("k", b'{"x":1,"y":1}', "merging"), now=NOW + 1)
    exchange(bench, a, b, c)
    bench.put(c, doc("k", b'{"x":3,"y":1}', "merging"), now=NOW + 3)
    exchange(bench, a, b, c)
    bench.put(b, doc("k", b'{"x":3,"y":4}', "merging"), now=NOW + 4)
    exchange(bench, a, b, c)
    bench.put(a, doc("k", b'{"x":3,"y":9}', "merging"), now=AHEAD)
    prune(b, c.origin)
    bench.apply(b, entries(a))
    with b.group():
        b.release_held(NOW, accepted=a.origin)
    assert (shown(a), conflicts(b)) == (shown(b), [])
    assert reset(bench, a)[1] == 1
    exchange(bench, a, b)
    tidy(a, b)
    exchange(bench, a, b)
    assert (shown(a), conflicts(b)) == (shown(b), [])


def test_a_rule_that_the_end_of_a_log_had_set_goes_with_it_from_memory_too(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k"))
    exchange(bench, a, b)
    bench.put(a, Write(COLLECTIONS, "users", b'{"Conflict":"merge"}'), now=AHEAD, system=True)
    bench.apply(b, entries(a))
    with b.group():
        b.release_held(NOW, accepted=a.origin)
    assert "users" in b.state.merging
    reset(bench, a)
    bench.apply(b, [one for one in entries(a) if decode(one.header).collection != COLLECTIONS])
    tidy(b)
    assert State.load(b.connection) == b.state
    assert "users" not in b.state.merging


def test_changes_of_fields_on_versions_that_the_reset_writes_again_do_not_refuse_it(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, Write(COLLECTIONS, "merging", b'{"Conflict":"merge"}'), system=True)
    exchange(bench, a, b)
    prune(a, a.origin)
    bench.put(a, doc("k", b'{"x":1,"y":1}', "merging"), now=AHEAD)
    bench.put(a, doc("k", b'{"x":2,"y":1}', "merging"), now=AHEAD)
    assert reset(bench, a)[1] == 2
    exchange(bench, a, b)
    assert (a.vector(), shown(a)) == (b.vector(), shown(b))
    assert json.loads(b.get("merging", "k") or b"") == {"x": 2, "y": 1}


def test_two_that_ran_ahead_together_go_on_one_after_the_other(bench: Bench) -> None:
    a, b = two(bench)
    c, d = bench.make("c"), bench.make("d")
    exchange(bench, a, c, d)
    bench.apply(c, entries(a), AHEAD)
    bench.put(c, doc("kept", b'{"x":5}'), doc("from c", b'{"c":1}'), now=AHEAD)
    bench.apply(a, entries(c), AHEAD)
    clocks = {"a": AHEAD, "b": NOW, "c": AHEAD, "d": NOW}
    for store in (a, b, c, d):
        store.live(0.0, clocks[node_of(store.origin)])
        rows = [Member(f"{name}/{7:032x}", 1, NOW, {}, clocks[name]) for name in clocks]
        with store.group():
            store.remember_members(rows, NOW, cloud=False)
    for store in (c, a):
        assert reset(bench, store)[1] > 0
        assert store.high_mark_ms() <= NOW + 60_000
    exchange(bench, a, b, c, d)
    tidy(a, b, c, d)
    exchange(bench, a, b, c, d)
    assert [store.held() for store in (a, b, c, d)] == [{}, {}, {}, {}]
    assert len({repr(sorted(store.vector().items())) for store in (a, b, c, d)}) == 1
    assert len({repr(documents(store)) for store in (a, b, c, d)}) == 1
    assert a.get("users", "from c") == b'{"c":1}'


def test_who_goes_back_first_keeps_no_other_from_going_back(bench: Bench) -> None:
    """c had written on what a has stamped ahead, and has put that off: it names that no more."""
    a, _ = two(bench)
    c = bench.make("c")
    bench.apply(c, entries(a), AHEAD)
    bench.put(c, doc("kept", b'{"x":5}'), doc("new", b'{"n":2}'), doc("new", b'{"n":3}'), now=AHEAD)
    assert reset(bench, c)[1] == 3
    named = [decode(one.header).named for one in entries(c)]
    assert any(one.origin == a.origin for names in named for one in names)
    assert all(c.vector()[one.origin][0] >= one.seq for names in named for one in names)
    bench.apply(a, entries(c))
    assert reset(bench, a)[1] > 0
    exchange(bench, a, c)
    tidy(a, c)
    exchange(bench, a, c)
    assert (a.vector(), shown(a)) == (c.vector(), shown(c))


@pytest.mark.parametrize("collection", ["users", "merging"])
def test_what_was_put_off_may_come_before_and_after_what_is_written_again(
    bench: Bench, collection: str
) -> None:
    a, _ = two(bench, collection)
    c, d, e, f = (bench.make(name) for name in "cdef")
    bench.apply(c, entries(a), AHEAD)
    bench.put(c, *(doc(key, b'{"z":5}', collection) for key in ("kept", "gone", "new")), now=AHEAD)
    bench.put(d, *(doc(key, b'{"x":7}', collection) for key in ("kept", "gone", "new")), now=AHEAD + 9)
    before = c.get(collection, "gone")
    assert reset(bench, c)[1] == 3
    assert c.get(collection, "gone") == before
    for taker, givers in ((e, (a, c, d)), (f, (c, d, a))):
        for giver in givers:
            assert "unfit" not in bench.apply(taker, entries(giver), LATER).counts
    assert e.vector() == f.vector()
    assert shown(e) == shown(f)


def documents(store: Store) -> list[tuple[object, ...]]:
    """The documents that show; a key that a log had alone and that is gone is as good as absent."""
    return [row for row in shown(store) if row[2] is not None]
