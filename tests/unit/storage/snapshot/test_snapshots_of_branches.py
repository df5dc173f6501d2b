"""A writer whose disk went back in time meets a snapshot of its old log, which the others have pruned."""

from __future__ import annotations

import itertools

import pytest

from entgldb.messages.client import FieldOperation, Write
from entgldb.messages.errors import Reason
from entgldb.messages.model import Entry
from entgldb.storage.authorship import runs
from entgldb.storage.repair.copies import read_copy
from entgldb.storage.rules.comparing import chunks
from tests.support.merging import install_whole, left_by_a_merge
from tests.unit.storage.snapshot.snapshots import forget, in_steps, send, staged
from tests.unit.storage.snapshot.test_snapshot_histories import exact
from tests.unit.storage.snapshot.test_snapshots import NOW, Side

LATER = NOW + 100
RUNS = 5
pytestmark = pytest.mark.usefixtures("either_way")


@pytest.fixture
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of a log are known: more would tell no more, in as many transactions."""
    monkeypatch.setattr(runs, "RUNS_MAX", RUNS)
    monkeypatch.setattr(chunks, "RUNS_MAX", RUNS)


def branches(before: int, after: int, then: int = LATER) -> tuple[Side, Side]:
    """The writer after its roll-back, and who has what it had written before, pruned; ``then``: the time by
    the clock of the writer after it."""
    writer, again, giver = Side("x"), Side("x"), Side("giver")
    for side in (writer, again):
        side.put("common", "c")
    writer.put("both", "theirs", now=NOW + 1)
    for number in range(before):
        writer.put(f"old{number}", "theirs", now=NOW + 2)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    opened(again)
    again.put("both", "ours", now=then)
    for number in range(after):
        again.put(f"new{number}", "ours", now=then)
    return again, giver


def opened(side: Side) -> None:
    """Its file is closed and opened."""
    side.store.state.run = ""


@pytest.mark.parametrize("then", [LATER, NOW - 1_000], ids=["clock goes on", "clock goes back"])
@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 1), (2, 0)])
def test_a_branch_that_nobody_can_prove_any_more_is_kept_as_writes_that_lost(
    before: int, after: int, then: int, *, owner: bool
) -> None:
    taker, giver = branches(before, after, then)
    old = taker.store.origin
    if not owner:
        writer, taker = taker, Side("taker")
        writer.give(taker)
    done = send(giver.store, taker.store, LATER)
    assert (done.refused, done.reborn) == ("", owner)
    assert (taker.store.origin != old) is True
    assert taker.store.vector()[old] == giver.store.vector()[old]
    assert taker.shows() == {
        "common": "c",
        "both": "theirs",
        **{f"old{number}": "theirs" for number in range(before)},
        **{f"new{number}": "ours" for number in range(after)},
    }
    assert taker.rivals() == ["ours"]
    exact(taker.store)
    gained = {origin for origin in taker.store.vector() if origin not in giver.store.vector()}
    assert {origin for origin in done.changes if origin != old} == gained
    taker.give(giver)
    assert (giver.shows(), giver.rivals()) == (taker.shows(), taker.rivals())
    assert giver.store.vector() == taker.store.vector()
    # and the writer goes on
    taker.put("both", "settled", now=LATER + 1)
    taker.give(giver)
    assert (giver.shows(), giver.rivals()) == (taker.shows(), [])


def test_a_branch_that_no_run_and_no_stamp_tells_of_is_not_taken_for_the_end_of_our_log() -> None:
    """The memory of a machine and its clock have gone back with its disk."""
    again, giver = branches(2, 2, NOW - 1_000)
    with again.store.group():
        again.store.connection.execute("DELETE FROM _entgldb_runs WHERE seq > 1")
    before = (again.shows(), again.store.vector())
    assert send(giver.store, again.store, LATER).refused == Reason.QUARANTINED.value
    assert (again.shows(), again.store.vector()) == before


def test_a_branch_of_which_the_stamps_alone_tell_is_kept_as_writes_that_lost() -> None:
    """The memory of a machine has gone back with its disk, and its clock is right: the end of the shorter log
    is stamped later than that of the longer one."""
    again, giver = branches(5, 1)
    with again.store.group():
        again.store.connection.execute("DELETE FROM _entgldb_runs WHERE seq > 1")
    assert send(giver.store, again.store, LATER).refused == ""
    assert again.shows() == giver.shows() | {"new0": "ours"}
    assert again.rivals() == ["ours"]


def test_a_log_of_which_others_have_more_is_not_written_between_the_steps() -> None:
    writer, again, giver = Side("x"), Side("x"), Side("giver")
    for side in (writer, again):
        side.put("common", "c")
    for number in range(5):
        writer.put(f"old{number}", "theirs", now=NOW + 2)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    opened(again)
    old, times, written = again.store.origin, itertools.count(), dict[str, str]()

    def write() -> None:
        assert again.store.origin != old
        number = next(times)
        key = f"new{number % 5}"
        again.put(key, f"ours {number}", now=LATER + number)
        written[key] = f"ours {number}"

    assert send(giver.store, again.store, LATER, between=write).refused == ""
    assert again.shows() == giver.shows() | written
    assert (again.store.vector()[old], again.rivals()) == (giver.store.vector()[old], [])


@pytest.mark.parametrize("owner", [True, False])
def test_nothing_of_a_branch_goes_before_the_last_step_and_what_is_written_meanwhile_stays(
    *, owner: bool
) -> None:
    taker, giver = branches(5, 3)
    if not owner:
        writer, taker = taker, Side("taker")
        writer.give(taker)
    shown, number = taker.shows(), 0

    def write() -> None:
        nonlocal number
        assert taker.shows() == shown
        number += 1
        taker.put(f"own{number % 5}", f"later {number}", now=LATER + number)
        shown[f"own{number % 5}"] = f"later {number}"

    done = send(giver.store, taker.store, LATER, between=write)
    assert (done.refused, taker.rivals()) == ("", ["ours"])
    assert taker.shows() == shown | {"both": "theirs"} | {f"old{number}": "theirs" for number in range(5)}
    exact(taker.store)
    taker.give(giver)
    assert (giver.shows(), giver.rivals()) == (taker.shows(), taker.rivals())


def test_of_two_logs_that_part_in_their_first_entry_all_of_ours_is_the_branch() -> None:
    writer, again, giver = Side("x"), Side("x"), Side("giver")
    writer.put("k", "theirs", now=LATER)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    again.put("k", "ours")
    assert send(giver.store, again.store, LATER).refused == ""
    assert (again.shows(), again.rivals()) == ({"k": "theirs"}, ["ours"])


@pytest.mark.usefixtures("few_runs")
@pytest.mark.parametrize("theirs", [1, RUNS, RUNS + 3])
@pytest.mark.parametrize("ours", [RUNS - 1, RUNS, RUNS + 9])
def test_a_branch_that_parted_before_all_runs_that_are_known_is_all_that_is_not_pruned(
    ours: int, theirs: int
) -> None:
    writer, again, giver = Side("x"), Side("x"), Side("giver")
    for side, opens, name in ((writer, theirs, "theirs"), (again, ours, "ours")):
        side.put("common", "c")
        side.put("both", "b")
        for number in range(opens):
            opened(side)
            side.put(f"{name}{number}", name, now=NOW - 1_000)
            side.put("both", name, now=NOW - 1_000)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    assert send(giver.store, again.store, NOW).refused == ""
    wanted = {f"theirs{number}": "theirs" for number in range(theirs)}
    wanted |= {f"ours{number}": "ours" for number in range(ours)}
    assert again.shows() == {"common": "c", "both": "theirs", **wanted}
    assert again.rivals() == ["ours"]


@pytest.mark.usefixtures("few_runs")
def test_a_log_that_is_merely_behind_is_no_branch() -> None:
    """However often its writer has opened its file, and whatever its clock said."""
    writer, giver, taker = Side("x"), Side("giver"), Side("taker")
    for number in range(3 * RUNS):
        opened(writer)
        writer.put(f"k{number}", "n", now=NOW - number)
        if number % 4 == 2:
            writer.give(taker)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    assert send(giver.store, taker.store, NOW).refused == ""
    assert (taker.shows(), taker.rivals()) == (writer.shows(), [])
    rows = taker.store.connection.execute("SELECT count(*), min(seq) FROM _entgldb_runs")
    assert rows.fetchone() == (RUNS, 2 * RUNS + 1)


def test_a_deleted_key_of_the_branch_is_shown_by_who_has_forgotten_the_delete_and_by_who_has_not() -> None:
    taker, giver = branches(0, 1)
    other = Side("other")
    other.put("new0", "short-lived")
    other.give(giver)
    giver.delete("new0")
    giver.give(other)
    forget(giver.store, tombstones=True)
    assert other.store.known("users", "new0")
    send(giver.store, taker.store, LATER)
    assert not giver.store.known("users", "new0")
    send(giver.store, other.store, LATER)
    for side in (giver, other):
        taker.give(side)
        assert (side.shows(), side.rivals()) == (taker.shows(), taker.rivals())
    assert taker.shows()["new0"] == "ours"


def test_verification_takes_no_row_of_another_branch_though_our_vector_covers_its_number() -> None:
    again, member = branches(1, 1)
    member.put("new0", "older")
    shown = member.shows()
    copy = read_copy(again.store.connection, "users", "new0")
    assert copy is not None
    assert copy.seq <= member.store.vector()[copy.origin][0]
    member.store.state.clock = max(member.store.state.clock, copy.hlc)
    with member.store.group():
        told = member.store.repair([copy], [], again.store.vector() | member.store.vector(), write=True)
    assert told == ["wait"]
    assert member.shows() == shown


def increments(side: Side, amount: int, now: int) -> None:
    side.write(Write("users", "n", None, None, (FieldOperation("inc", ("n",), b"%d" % amount),)), now)


def test_of_a_counter_the_branch_that_stays_counts_though_it_is_healed_while_a_snapshot_is_staged() -> None:
    taker, again, giver, writer = Side("taker"), Side("x"), Side("giver"), Side("x")
    for side in (taker, again, giver, writer):
        side.store.state.merging.add("users")
    for side in (writer, again):
        side.write(Write("users", "n", b'{"n":1}'), NOW)
    increments(writer, 10, NOW + 1)
    writer.give(giver)
    increments(giver, 100, NOW + 2)
    increments(again, 5, LATER)
    again.give(taker)
    increments(taker, 1000, LATER)
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in writer.store.rows(1, 9)], NOW)
    forget(giver.store, tombstones=False)
    seq, kept = taker.store.incarnations.branch(writer.store.origin, "theirs") or (0, b"")
    with staged(giver.store, LATER) as name:
        assert (
            install_whole(taker.store, name, b"e" * 32, LATER, cloud=False).refused
            == Reason.QUARANTINED.value
        )
        with taker.store.group():
            taker.store.incarnations.heal(writer.store.origin, seq, kept, lambda: b"h" * 32, LATER)
        assert install_whole(taker.store, name, b"e" * 32, LATER, cloud=False).refused == ""
    taker.give(giver)
    for side in (taker, giver):
        assert side.store.get("users", "n") == b'{"n":1111}'
        exact(side.store)
    assert taker.rivals() == giver.rivals()


@pytest.mark.parametrize("keep", ["ours", "theirs"])
def test_a_fork_that_is_healed_while_a_snapshot_is_staged_is_seen_when_it_is_merged(keep: str) -> None:
    taker, again, giver = Side("taker"), Side("x"), Side("giver")
    writer = Side("x")
    for side in (writer, again):
        side.put("common", "c")
    writer.put("both", "theirs", now=NOW + 1)
    writer.put("old", "theirs", now=NOW + 2)
    writer.give(giver)
    giver.put("own", "y")
    again.put("both", "ours", now=LATER)
    again.put("new", "ours", now=LATER)
    again.give(taker)
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in writer.store.rows(1, 9)], NOW)
    assert taker.store.forked() == {writer.store.origin}
    seq, kept = taker.store.incarnations.branch(writer.store.origin, keep) or (0, b"")
    with staged(giver.store, LATER) as name:
        assert (
            install_whole(taker.store, name, b"e" * 32, LATER, cloud=False).refused
            == Reason.QUARANTINED.value
        )
        with taker.store.group():
            taker.store.incarnations.heal(writer.store.origin, seq, kept, lambda: b"h" * 32, LATER)
        done = install_whole(taker.store, name, b"e" * 32, LATER, cloud=False)
    if keep == "ours":
        # the giver has not pruned its branch: it hears of the decision, and takes it out
        assert (done.refused, taker.shows()) == (Reason.QUARANTINED.value, again.shows())
        return
    assert done.refused == ""
    assert taker.shows() == {"common": "c", "both": "theirs", "old": "theirs", "own": "y", "new": "ours"}
    assert taker.rivals() == ["ours"]
    exact(taker.store)


@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_branch_that_comes_between_two_steps_is_kept_as_writes_that_lost(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The merge had begun without it. No row of it goes meanwhile, as none that the snapshot covers does."""
    in_steps(monkeypatch)
    again, giver = branches(5, 1)
    taker, steps = Side("taker"), itertools.count()
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in again.store.rows(1, 1)], NOW)

    def come() -> None:
        if next(steps) == at:
            again.give(taker)

    assert send(giver.store, taker.store, LATER, between=come).refused == ""
    assert next(steps) > at
    assert taker.shows() == giver.shows() | {"new0": "ours"}
    assert taker.rivals() == ["ours"]
    assert left_by_a_merge(taker.store) == []
    exact(taker.store)
