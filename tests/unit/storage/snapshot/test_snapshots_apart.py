"""A snapshot between nodes of which one lacks a part: what is in quarantine, or only recorded."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.members import Prune
from entgldb.messages.model import COLLECTIONS, REMOTE_PEERS, Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.recorded import is_partial, vouches
from entgldb.storage.repair.copies import read_copy
from entgldb.storage.rules.comparing.chunks import decode_preface
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.snapshot.freeze import read_chunk
from tests.support.merging import install_whole
from tests.unit.storage.snapshot.snapshots import forget, frozen, send, staged
from tests.unit.storage.snapshot.test_snapshot_histories import exact
from tests.unit.storage.snapshot.test_snapshots import NOW, Side


def fork(*, merging: bool = False) -> tuple[Side, Side, Side, str]:
    """A writer whose log has two branches: its second life, who has the first branch, who has the other.

    The third is the one whose branch ends where the fork begins; it takes nothing more of that origin.
    """
    writer, again = Side("x"), Side("x")
    giver, taker = Side("giver"), Side("taker")
    for side in (writer, again, giver, taker):
        if merging:
            side.store.state.merging.add("users")
    writer.put("k1", "first")
    writer.give(giver)
    writer.give(taker)
    writer.put("k2", "beyond", now=NOW + 1)
    writer.give(giver)
    again.put("k1", "other")
    rows = again.store.rows(1, 9)
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in rows], NOW)
    assert taker.store.forked() == {writer.store.origin}
    return again, giver, taker, writer.store.origin


def healed(again: Side, giver: Side, taker: Side, origin: str, keep: str) -> None:
    """Keep one branch everywhere, and let everybody have everything."""
    seq, kept = taker.store.incarnations.branch(origin, keep) or (0, b"")
    for number, side in enumerate((giver, taker)):
        with side.store.group():
            side.store.incarnations.heal(origin, seq, kept, lambda number=number: b"%d" % number * 32, NOW)
    for _ in range(2):
        for side in (giver, taker):
            if keep == "theirs":
                again.give(side)
        giver.give(taker)
        taker.give(giver)


@pytest.mark.parametrize("keep", ["ours", "theirs"])
@pytest.mark.parametrize("merging", [False, True])
def test_a_snapshot_with_more_of_an_origin_in_quarantine_waits_for_a_decision(
    keep: str, *, merging: bool
) -> None:
    again, giver, taker, origin = fork(merging=merging)
    base = Side("base")
    base.put("k2", "older", now=NOW - 5)  # the branch beyond our head has overtaken it at the giver
    base.give(giver)
    giver.put("own", "y")
    before = (taker.shows(), taker.rivals(), taker.store.vector())
    assert send(giver.store, taker.store, NOW).refused == Reason.QUARANTINED.value
    assert (taker.shows(), taker.rivals(), taker.store.vector()) == before
    healed(again, giver, taker, origin, keep)
    assert taker.store.vector() == giver.store.vector()
    assert taker.shows() == giver.shows()
    assert taker.rivals() == giver.rivals()
    giver.put("more", "z", now=NOW + 9)
    assert send(giver.store, taker.store, NOW + 9).refused == ""
    assert taker.shows() == giver.shows()


@pytest.mark.parametrize("more", [1, 2, 3])
def test_a_snapshot_of_another_branch_of_an_origin_in_quarantine_takes_nothing_away(more: int) -> None:
    writer, again, giver, taker = Side("x"), Side("x"), Side("giver"), Side("taker")
    for side in (writer, again):
        side.put("k1", "first")
    writer.give(taker)
    for number in range(2):
        writer.put(f"ours{number}", "branch", now=NOW + 1)
    writer.give(taker)
    for number in range(more):
        again.put(f"theirs{number}", "branch", now=NOW + 2)
    again.give(giver)
    giver.put("own", "y")
    rows = [row for row in again.store.rows(1, 9) if row.seq > 1]
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in rows], NOW)
    assert taker.store.forked() == {writer.store.origin}
    shown = taker.shows()
    assert send(giver.store, taker.store, NOW).refused == Reason.QUARANTINED.value
    assert taker.shows() == shown


@pytest.mark.parametrize("more", [0, 1])
def test_a_snapshot_of_another_branch_is_refused_before_anybody_has_seen_the_fork(more: int) -> None:
    writer, again, giver, taker = Side("x"), Side("x"), Side("giver"), Side("taker")
    writer.put("k1", "ours")
    for number in range(more):
        writer.put(f"more{number}", "ours", now=NOW + 1)
    writer.give(taker)
    again.put("k1", "theirs")
    again.give(giver)
    giver.put("own", "y")
    before = (taker.shows(), taker.rivals(), taker.store.vector())
    assert send(giver.store, taker.store, NOW).refused == Reason.QUARANTINED.value
    assert (taker.shows(), taker.rivals(), taker.store.vector()) == before


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_snapshot_that_has_our_own_branch_of_an_origin_in_quarantine_is_taken(*, all_of_it: bool) -> None:
    writer, again, giver, taker = Side("x"), Side("x"), Side("giver"), Side("taker")
    writer.put("k1", "first")
    writer.give(giver)
    writer.put("k2", "second", now=NOW + 1)
    if all_of_it:
        writer.give(giver)
    writer.give(taker)
    again.put("k1", "other")
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in again.store.rows(1, 9)], NOW)
    assert taker.store.forked() == {writer.store.origin}
    giver.put("own", "y")
    assert send(giver.store, taker.store, NOW).refused == ""
    assert taker.shows() == {"k1": "first", "k2": "second", "own": "y"}


def test_a_delete_that_a_snapshot_has_forgotten_takes_no_change_that_its_giver_has_not_seen() -> None:
    writer, late, giver, taker = Side("w"), Side("late"), Side("giver"), Side("taker")
    for side in (writer, late, giver, taker):
        side.store.state.merging.add("users")
    late.write(Write("users", "k", b'{"y":1}'), NOW + 1)
    writer.write(Write("users", "k", b'{"x":1}'), NOW + 2)
    late.give(taker)
    writer.give(taker)
    assert taker.store.get("users", "k") == b'{"x":1,"y":1}'
    writer.delete("k", now=NOW + 3)
    writer.give(giver)
    forget(giver.store, tombstones=True)
    assert send(giver.store, taker.store, NOW + 4).refused == ""
    late.give(giver)
    assert taker.store.get("users", "k") == giver.store.get("users", "k") == b'{"y":1}'
    assert taker.store.vector() == giver.store.vector()
    exact(taker.store)


def recorded() -> tuple[Side, Side, Side]:
    """The writer of a peer, who has only recorded it, and who has it whole."""
    writer, header, whole = Side("writer"), Side("header"), Side("whole")
    writer.put("cloud-1", "p", collection=REMOTE_PEERS)
    rows = writer.store.rows(1, 9)
    with header.store.group():
        header.store.apply([Entry(row.header, None) for row in rows], NOW, cloud=True)
    writer.give(whole)
    return writer, header, whole


def prune_all(side: Side) -> None:
    """Retention, with nobody else to wait for."""
    bounds = {origin: seq for origin, (seq, _) in side.store.vector().items()}
    with side.store.group():
        side.store.prune(Prune(bounds, bounds, 0, NOW, 0))
    assert side.store.rows(1, 9) == []


@pytest.mark.parametrize("pruned", [False, True])
def test_who_has_only_recorded_a_peer_takes_it_away_from_nobody(*, pruned: bool) -> None:
    _, header, whole = recorded()
    if pruned:
        prune_all(header)
    header.put("user", "x")
    facts, made = frozen(header.store)
    assert facts.common == facts.chunks
    assert not decode_preface((read_chunk(made, 0) or (b"", b""))[0]).system
    assert send(header.store, whole.store, NOW).documents == 1
    assert whole.store.get(REMOTE_PEERS, "cloud-1") == b'{"v":"p"}'


@pytest.mark.parametrize("pruned", [False, True])
def test_who_has_something_newer_than_what_it_only_recorded_gives_its_configuration(*, pruned: bool) -> None:
    """The only copy of an entry may be gone with a disk, of which a cloud gives the header back."""
    _, header, whole = recorded()
    header.put("cloud-1", "q", collection=REMOTE_PEERS, now=NOW + 1)
    if pruned:
        prune_all(header)
    new = Side("new")
    for side in (new, whole):
        send(header.store, side.store, NOW + 2)
        assert side.store.get(REMOTE_PEERS, "cloud-1") == b'{"v":"q"}'
        assert not is_partial(side.store.connection)


def test_a_snapshot_brings_what_was_only_recorded_here() -> None:
    _, header, whole = recorded()
    prune_all(whole)
    send(whole.store, header.store, NOW)
    assert header.store.get(REMOTE_PEERS, "cloud-1") == b'{"v":"p"}'
    assert header.store.unapplied(9) == []
    assert not is_partial(header.store.connection)
    facts, _ = frozen(header.store)
    assert facts.common < facts.chunks


@pytest.mark.parametrize("further", [False, True])
def test_a_state_that_goes_as_far_as_the_one_of_a_cloud_makes_a_file_whole_whatever_came_meanwhile(
    *, further: bool
) -> None:
    member, away, other = Side("member"), Side("away"), Side("other")
    member.put("users", "r", collection="_system_collections")
    with staged(member.store, NOW) as early:
        if further:
            member.put("k", "v")
        send(member.store, away.store, NOW, cloud=True)
        assert is_partial(away.store.connection)
        other.put("k", "meanwhile", now=NOW + 1)
        other.give(away)
        install_whole(away.store, early, b"e" * 32, NOW, cloud=False)
    assert away.store.known("_system_collections", "users")
    assert is_partial(away.store.connection) is further


def test_a_state_brings_the_conflicts_of_configuration_that_a_clouds_snapshot_covers() -> None:
    """A node whose disk went back takes the snapshot of a cloud, and writes a peer that it does not know."""
    member, away = Side("member"), Side("away")
    member.put("cloud-1", "p", collection=REMOTE_PEERS)
    send(member.store, away.store, NOW, cloud=True)
    away.put("cloud-1", "q", collection=REMOTE_PEERS, now=NOW + 1)
    away.give(member)
    lists = [Documents(side.store.connection).conflicts(REMOTE_PEERS) for side in (member, away)]
    assert [len(found) for found in lists] == [1, 0]
    send(member.store, away.store, NOW + 2)
    assert [len(Documents(side.store.connection).conflicts(REMOTE_PEERS)) for side in (member, away)] == [
        1,
        1,
    ]
    assert not is_partial(away.store.connection)


def test_a_node_with_an_entry_in_quarantine_gives_no_snapshot() -> None:
    one = Side("one")
    one.put("k", "x")
    with one.store.group():
        one.store.connection.execute(
            "INSERT INTO _entgldb_quarantine (origin, seq, hlc, collection, key, header, reason, text, at_ms)"
            " VALUES (1, 1, 1, 'users', 'k', x'', 'invalid', '', 0)"
        )
    with pytest.raises(EntglError, match="in quarantine"):
        frozen(one.store)


def test_a_node_that_dropped_an_entry_gives_no_snapshot_until_something_newer_stands_there() -> None:
    one = Side("one")
    one.put("k", "x")
    one.put("other", "y")
    with one.store.group():
        one.store.connection.execute("UPDATE _entgldb_oplog SET applied = 2 WHERE key = 'k'")
        one.store.connection.execute("DELETE FROM _entgldb_documents WHERE key = 'k'")
    with pytest.raises(EntglError, match="was dropped here"):
        frozen(one.store)
    one.put("k", "z", now=NOW + 1)
    frozen(one.store)


def test_one_that_was_merged_before_changes_nothing_and_costs_nothing() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "x")
    assert send(one.store, two.store, NOW).documents == 1
    before = (two.store.last_lsn(), two.store.vector())
    two.store.connection.set_trace_callback(lambda text: seen.append(text))
    seen: list[str] = []
    done = send(one.store, two.store, NOW)
    assert (done.changes, done.refused, done.documents) == ({}, "", 0)
    assert (two.store.last_lsn(), two.store.vector()) == before
    assert not [text for text in seen if text.startswith("BEGIN")]


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("merging", [False, True])
def test_a_snapshot_brings_what_is_set_aside_here(*, beyond: bool, merging: bool) -> None:
    writer, giver, taker = Side("writer"), Side("giver"), Side("taker")
    for side in (writer, giver, taker):
        if merging:
            side.store.state.merging.add("users")
    writer.put("k", "base")
    writer.give(taker)
    writer.write(Write("users", "k", b'{"v":"base","w":"unfit"}'), NOW + 1)
    writer.put("new", "unfit", now=NOW + 2)

    def careless(self: Applier, header: Header, text: str | None, lsn: int) -> None:
        raise ValueError("this release cannot")

    with patch.object(Applier, "merge", careless):
        writer.give(taker)
    assert taker.store.state.unfit == 2
    if beyond:
        writer.put("more", "x", now=NOW + 3)
    writer.give(giver)
    giver.put("another", "y", now=NOW + 4)
    send(giver.store, taker.store, NOW + 5)
    assert taker.store.documents("users") == giver.store.documents("users")
    assert taker.store.state.unfit == 0
    exact(taker.store)
    frozen(taker.store)
    rows = taker.store.connection.execute("SELECT count(*) FROM _entgldb_oplog WHERE applied = 2")
    assert rows.fetchone() == (0,)


def test_a_change_that_is_set_aside_here_is_as_open_as_at_the_giver() -> None:
    writer, rival, giver, taker = (Side(name) for name in ("writer", "rival", "giver", "taker"))
    for side in (writer, rival, giver, taker):
        side.store.state.merging.add("users")
    writer.put("k", "base")
    for side in (rival, giver, taker):
        writer.give(side)
    rival.write(Write("users", "k", b'{"v":"base","w":"unfit"}'), NOW + 1)

    def careless(self: Applier, header: Header, text: str | None, lsn: int) -> None:
        raise ValueError("this release cannot")

    with patch.object(Applier, "merge", careless):
        rival.give(taker)
    giver.write(Write("users", "k", b'{"v":"base","x":1}'), NOW + 5)
    rival.give(giver)
    send(giver.store, taker.store, NOW + 6)
    row = "SELECT body, stamps FROM _entgldb_documents WHERE key = 'k'"
    assert taker.store.connection.execute(row).fetchone() == giver.store.connection.execute(row).fetchone()


def test_a_rule_that_a_snapshot_or_verification_brings_holds_at_once() -> None:
    one, two, three = Side("one"), Side("two"), Side("three")
    one.write(Write(COLLECTIONS, "users", rule_document("users", "merge")), NOW)
    one.give(three)
    send(one.store, two.store, NOW)
    assert "users" in two.store.state.merging
    copy = read_copy(one.store.connection, COLLECTIONS, "users")
    assert copy is not None
    with three.store.group():
        three.store.connection.execute("DELETE FROM _entgldb_documents")
        three.store.connection.execute("DELETE FROM _entgldb_oplog")
        three.store.state.merging.clear()
        assert three.store.repair([copy], [], one.store.vector(), write=True) == ["take"]
    assert "users" in three.store.state.merging


@pytest.mark.parametrize("lost_there", [False, True])
def test_a_version_that_was_named_here_before_it_came_is_no_conflict(*, lost_there: bool) -> None:
    first, second, giver, taker = Side("first"), Side("second"), Side("giver"), Side("taker")
    first.put("k", "replaced")
    first.give(second)
    first.give(giver)
    second.put("k", "stands", now=NOW + 2)
    rows = [row for row in second.store.rows(1, 9) if row.origin == second.store.origin]
    with taker.store.group():
        taker.store.apply([Entry(row.header, row.body) for row in rows], NOW)
    if lost_there:
        giver.put("k", "between", now=NOW + 1)
    send(giver.store, taker.store, NOW)
    second.give(giver)
    assert taker.store.vector() == giver.store.vector()
    assert taker.shows() == giver.shows() == {"k": "stands"}
    assert taker.rivals() == giver.rivals() == ["between"] * lost_there


def test_what_is_held_of_another_branch_than_a_snapshot_has_is_never_added_to_that() -> None:
    one, again, giver, taker = Side("x"), Side("x"), Side("giver"), Side("taker")
    later = NOW + 2 * DRIFT_MS_MAX
    for key in ("a", "b", "c"):
        one.put(key, "one", now=later)
    for key in ("a", "d"):
        again.put(key, "other", now=later)
    rows = {side: [Entry(row.header, row.body) for row in side.store.rows(1, 9)] for side in (one, again)}
    with taker.store.group():
        taker.store.apply(rows[one], NOW)
    assert taker.store.held() == {one.store.origin: 3}
    with giver.store.group():
        giver.store.apply(rows[again], later)
    with staged(giver.store, later) as name:
        assert install_whole(taker.store, name, b"e" * 32, later, cloud=False).refused == ""
    with taker.store.group():
        taker.store.release_held(later)
    assert taker.shows() == giver.shows() == {"a": "other", "d": "other"}
    with taker.store.group():
        taker.store.apply(rows[one], later)
    assert taker.store.forked() == {one.store.origin}


@pytest.mark.parametrize("recorded_only", [False, True])
def test_what_was_here_before_configuration_was_lacking_is_no_conflict(*, recorded_only: bool) -> None:
    """A node has replaced a version, and then lacks another entry; it is given a state from before that."""
    member, away = Side("member"), Side("away")
    member.put("cloud-1", "p", collection=REMOTE_PEERS)
    member.give(away)
    away.put("cloud-1", "q", collection=REMOTE_PEERS, now=NOW + 1)
    member.put("cloud-2", "r", collection=REMOTE_PEERS)
    if recorded_only:
        rows = member.store.rows(2, 9)
        with away.store.group():
            away.store.apply([Entry(row.header, None, row.signature) for row in rows], NOW, cloud=True)
    else:
        send(member.store, away.store, NOW, cloud=True)
    assert not vouches(away.store.connection)
    send(member.store, away.store, NOW + 2)
    assert vouches(away.store.connection)
    assert Documents(away.store.connection).conflicts(REMOTE_PEERS) == []
    assert away.store.get(REMOTE_PEERS, "cloud-1") == b'{"v":"q"}'
    assert away.store.get(REMOTE_PEERS, "cloud-2") == b'{"v":"r"}'
