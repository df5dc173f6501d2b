"""A snapshot merged into a file: what comes, what goes, and whose writes are written again."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from pathlib import Path

import msgpack
import pytest

from entgldb.messages.client import FieldOperation, RequestId, Write
from entgldb.messages.errors import EntglError, ProtocolError, Reason
from entgldb.messages.limits import CHUNK_BYTES_MAX
from entgldb.messages.model import REMOTE_PEERS, Entry
from entgldb.storage.repair.rewrite import TOGETHER
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.snapshot.freeze import read_chunk
from entgldb.storage.snapshot.staging import Staging
from entgldb.storage.store import Store
from tests.simulation.watch import oracle
from tests.support.merging import install_whole
from tests.unit.storage.snapshot.snapshots import forget, frozen, memory, send, staged
from tests.unit.storage.snapshot.test_snapshot_histories import exact

NOW = 1_790_000_000_000
pytestmark = pytest.mark.usefixtures("either_way")


class Side:
    """A store in memory, with writes that say what they are."""

    def __init__(self, name: str) -> None:
        self.store = Store.memory(name, name.encode() * 16, NOW)
        self.counter = 0

    def put(self, key: str, text: str, *, now: int = NOW, collection: str = "users") -> None:
        self.write(Write(collection, key, f'{{"v":"{text}"}}'.encode()), now)

    def delete(self, key: str, *, now: int = NOW) -> None:
        self.write(Write("users", key, None), now)

    def write(self, write: Write, now: int) -> None:
        self.counter += 1
        with self.store.group():
            self.store.write(RequestId(b"c" * 16, self.counter), [write], now, system=True)

    def give(self, other: Side) -> None:
        theirs = {o: seq for o, (seq, _) in other.store.vector().items()}
        rows = [row for row in self.store.rows(1, 500) if row.seq > theirs.get(row.origin, 0)]
        with other.store.group():
            assert other.store.apply([Entry(r.header, r.body) for r in rows], NOW).refused == ""

    def shows(self) -> dict[str, str]:
        rows = self.store.documents("users")
        return {key: body.decode()[6:-2] for key, body in rows}

    def rivals(self) -> list[str]:
        rows = self.store.connection.execute("SELECT body FROM _entgldb_conflicts ORDER BY hlc")
        return [body[6:-2] for (body,) in rows]


def test_an_empty_node_has_everything_and_needs_no_log() -> None:
    one, two = Side("one"), Side("two")
    for n in range(10):
        one.put(f"k{n}", f"v{n}")
    one.delete("k3")
    forget(one.store, tombstones=False)
    done = send(one.store, two.store, NOW)
    assert (done.documents, done.deleted, done.reissued, done.reborn) == (10, 0, 0, False)
    assert two.shows() == one.shows()
    assert two.store.vector() == one.store.vector() == done.changes
    assert two.store.rows(1, 10) == []
    assert {o: known.floor for o, known in two.store.state.origins.items()} == {
        one.store.origin: 11,
        two.store.origin: 0,
    }
    exact(two.store)
    view = two.store.connection.execute("SELECT count(*) FROM users").fetchone()
    assert view == (9,)
    # and the log goes on from there
    one.put("k3", "again")
    one.give(two)
    assert two.shows() == one.shows()


def test_what_was_deleted_elsewhere_and_collected_there_is_not_raised_from_the_dead() -> None:
    one, two = Side("one"), Side("two")
    one.put("old", "x")
    one.put("stays", "y")
    one.give(two)
    one.delete("old")
    forget(one.store, tombstones=True)
    before = two.store.last_lsn()
    done = send(one.store, two.store, NOW)
    assert done.deleted == 1
    assert two.shows() == {"stays": "y"}
    # a feed that reads documents by lsn sees the delete
    (lsn,) = two.store.connection.execute(
        "SELECT lsn FROM _entgldb_documents WHERE key = 'old' AND body IS NULL"
    ).fetchone()
    assert before < lsn <= two.store.state.pruned_lsn == two.store.last_lsn()
    exact(two.store)
    # the key can be written again, by anybody
    two.put("old", "new")
    assert two.store.rows(1, 10)[0].seq == 1
    two.give(one)
    assert one.shows() == two.shows() == {"stays": "y", "old": "new"}


def test_what_a_snapshot_has_deleted_is_not_brought_back_from_the_log_by_verification() -> None:
    one, two = Side("one"), Side("two")
    two.put("old", "x")
    two.give(one)
    one.delete("old")
    forget(one.store, tombstones=True)
    send(one.store, two.store, NOW)
    # the log of its writer still has the put
    assert [row.operation.op for row in oracle.read_log(two.store.connection)] == [0]
    with two.store.group():
        decided = two.store.repair([], [("users", "old")], one.store.vector(), write=True)
    assert list(decided) == ["equal"]
    assert two.shows() == one.shows() == {}
    exact(two.store)


def test_a_key_that_was_deleted_here_does_not_come_back_with_an_older_snapshot() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "x")
    one.give(two)
    two.delete("k")
    forget(two.store, tombstones=True)
    send(one.store, two.store, NOW)
    assert two.shows() == {}


def test_own_unsent_writes_are_issued_again_by_a_new_writer() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "base")
    one.give(two)
    two.put("mine", "1")
    two.put("mine", "2")
    two.put("k", "late", now=NOW + 5)
    old = two.store.origin
    one.put("k", "newer", now=NOW + 10)
    forget(one.store, tombstones=True)
    done = send(one.store, two.store, NOW + 20)
    assert done.reborn
    assert two.store.origin != old
    assert old not in two.store.vector()
    assert (done.reissued, done.own_last) == (4, two.store.last_lsn())
    assert (two.shows(), two.rivals()) == ({"k": "newer", "mine": "2"}, ["late"])
    exact(two.store)
    two.give(one)
    assert (one.shows(), one.rivals()) == (two.shows(), two.rivals())
    assert two.store.vector() == one.store.vector()


def test_a_later_write_comes_behind_all_that_is_issued_again() -> None:
    """So that is one transaction: a write made in between would go out before what it was made upon."""
    one, two, third = Side("one"), Side("two"), Side("third")
    one.put("k", "newer", now=NOW + 3)
    forget(one.store, tombstones=True)
    seen = {f"mine{number}" for number in range(2 * TOGETHER)}
    for key in sorted(seen):
        two.put(key, "1")
    assert send(one.store, two.store, NOW + 20).reborn
    send(one.store, third.store, NOW + 20)
    two.put("later", "its writer has seen all of them", now=NOW + 20)
    rows = [row for row in two.store.rows(1, 500) if row.origin == two.store.origin]
    for row in rows:
        with third.store.group():
            assert third.store.apply([Entry(row.header, row.body)], NOW + 20).refused == ""
        assert "later" not in third.shows() or seen <= third.shows().keys()
    assert third.shows() == two.shows()
    assert "later" in third.shows()


def test_a_put_that_others_have_not_comes_out_as_it_was_whatever_it_was_made_upon() -> None:
    """Each is renamed where it stands, or merged anew: a delete, a key written twice, one that expires."""
    one, two = Side("one"), Side("two")
    one.put("base", "1")
    one.put("gone", "1")
    one.give(two)
    two.put("base", "2")
    two.put("twice", "1")
    two.delete("gone")
    two.write(Write("users", "short", b'{"v":"short"}', expire_after=50_000), NOW)
    two.put("twice", "2")
    one.put("k", "newer", now=NOW + 3)
    forget(one.store, tombstones=False)
    done = send(one.store, two.store, NOW + 20)
    assert (done.reborn, done.reissued) == (True, 5)
    assert two.shows() == {"base": "2", "twice": "2", "short": "short", "k": "newer"}
    exact(two.store)
    two.give(one)
    assert (one.shows(), one.rivals()) == (two.shows(), two.rivals()) == (two.shows(), [])
    moments = "SELECT key, origin > 0, seq, hlc, expires, body, sha256 FROM _entgldb_documents ORDER BY key"
    assert (
        two.store.connection.execute(moments).fetchall() == one.store.connection.execute(moments).fetchall()
    )


def test_who_has_a_part_of_what_is_issued_again_hears_that_the_log_has_ended_and_shows_all_once() -> None:
    one, two, third = Side("one"), Side("two"), Side("cloud")
    for side in (one, two, third):
        side.store.state.merging.add("users")
    one.write(Write("users", "n", None, None, (FieldOperation("inc", ("n",), b"1"),)), NOW)
    one.give(two)
    one.give(third)
    two.put("mine", "1", now=NOW + 1)
    two.write(Write("users", "n", None, None, (FieldOperation("inc", ("n",), b"10"),)), NOW + 2)
    two.give(third)
    one.put("k", "newer", now=NOW + 3)
    forget(one.store, tombstones=True)
    old = two.store.origin
    assert send(one.store, two.store, NOW + 20).reborn
    two.give(third)
    with third.store.group():
        third.store.release_held(NOW + 20)
    two.give(one)
    for side in (one, two, third):
        assert side.store.get("users", "n") == b'{"n":11}'
        assert (side.store.get("users", "mine"), side.rivals()) == (b'{"v":"1"}', [])
        assert old not in side.store.vector() or not side.store.vector()[old][0]
        exact(side.store)


@pytest.mark.parametrize(("ends", "shown"), [(False, b'{"n":11}'), (True, b'{"n":21}')])
def test_a_snapshot_tells_a_cloud_of_the_end_of_a_log_and_a_cloud_tells_no_node_of_one(
    *, ends: bool, shown: bytes
) -> None:
    one, two, third = Side("one"), Side("two"), Side("cloud")
    for side in (one, two, third):
        side.store.state.merging.add("users")
    one.write(Write("users", "n", None, None, (FieldOperation("inc", ("n",), b"1"),)), NOW)
    one.give(two)
    two.write(Write("users", "n", None, None, (FieldOperation("inc", ("n",), b"10"),)), NOW + 2)
    two.give(third)
    one.put("k", "newer", now=NOW + 3)
    forget(one.store, tombstones=True)
    assert send(one.store, two.store, NOW + 20).reborn
    two.give(one)
    forget(one.store, tombstones=True)
    with staged(one.store, NOW + 20, cloud=True) as name:
        assert install_whole(third.store, name, b"e" * 32, NOW + 20, cloud=True, ends=ends).refused == ""
    assert third.store.get("users", "n") == shown
    assert bool(third.store.state.ended) is not ends
    exact(third.store)


def test_a_cloud_node_that_issues_writes_again_says_nothing_in_a_system_collection() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "base")
    two.put("mine", "1")
    forget(one.store, tombstones=True)
    with staged(one.store, NOW) as name:
        done = install_whole(two.store, name, b"e" * 32, NOW, cloud=True, ends=False)
    assert (done.reborn, done.reissued) == (True, 1)
    assert [row.collection for row in two.store.rows(1, 9)] == ["users"]


@pytest.mark.parametrize("later", [False, True])
def test_of_two_that_pruned_what_the_other_lacks_both_take_a_snapshot(*, later: bool) -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "base")
    one.give(two)
    two.put("mine", "1")
    two.put("k", "late", now=NOW + 5)
    one.put("k", "newer", now=NOW + 10)
    for side in (one, two):
        forget(side.store, tombstones=False)
    if later:
        two.put("mine", "2", now=NOW + 15)
    done = send(one.store, two.store, NOW + 20)
    assert (done.reissued, done.reborn) == (0, False), "the entries are no more: it goes on as their writer"
    send(two.store, one.store, NOW + 20)
    assert two.shows() == one.shows() == {"k": "newer", "mine": "2" if later else "1"}
    assert two.rivals() == one.rivals() == ["late"]
    assert two.store.vector() == one.store.vector()
    two.put("mine", "3", now=NOW + 30)
    two.give(one)
    assert one.shows()["mine"] == "3"
    exact(one.store)
    exact(two.store)


def test_without_a_pruned_log_the_tail_stays_as_it_is() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "x")
    two.put("mine", "1")
    done = send(one.store, two.store, NOW)
    assert (done.reissued, done.reborn) == (0, False)
    two.give(one)
    assert one.shows() == two.shows() == {"k": "x", "mine": "1"}


def test_a_snapshot_that_knows_more_of_our_log_than_we_do_makes_us_a_new_writer() -> None:
    one, two = Side("one"), Side("two")
    two.put("k", "x")
    two.give(one)
    rolled_back = Side("two")
    done = send(one.store, rolled_back.store, NOW)
    assert done.reborn
    rolled_back.put("other", "y")
    rolled_back.give(one)
    assert one.shows() == {"k": "x", "other": "y"}


def test_a_cloud_neither_gets_nor_gives_the_configuration() -> None:
    one, two = Side("one"), Side("two")
    one.put("peer", "secret", collection=REMOTE_PEERS)
    one.put("k", "x")
    facts, made = frozen(one.store)
    public = b"".join(read_chunk(made, n)[0] for n in range(facts.common))  # type: ignore[index]  # all there
    assert b"secret" not in public
    assert facts.common < facts.chunks
    two.put("peer", "ours", collection=REMOTE_PEERS)
    send(one.store, two.store, NOW, cloud=True)
    assert two.store.get(REMOTE_PEERS, "peer") == b'{"v":"ours"}'
    # a node that has it that way can vouch for no configuration, and takes nobody's away
    three = Side("three")
    three.put("peer", "theirs", collection=REMOTE_PEERS)
    send(two.store, three.store, NOW)
    assert three.store.get(REMOTE_PEERS, "peer") == b'{"v":"theirs"}'
    send(one.store, two.store, NOW)
    assert frozen(two.store)[0].common < frozen(two.store)[0].chunks


def test_a_snapshot_from_the_future_is_put_off() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "x", now=NOW + 120_000)
    assert send(one.store, two.store, NOW).refused == Reason.HELD_CLOCK.value
    assert two.shows() == {}
    assert send(one.store, two.store, NOW + 61_000).refused == ""


def test_held_entries_that_the_snapshot_covers_are_let_go() -> None:
    one, two = Side("one"), Side("two")
    one.put("k", "x", now=NOW + 120_000)
    one.put("k", "y", now=NOW + 130_000)
    rows = one.store.rows(1, 1)
    with two.store.group():
        two.store.apply([Entry(r.header, r.body) for r in rows], NOW)
    assert two.store.held() == {one.store.origin: 1}
    send(one.store, two.store, NOW + 100_000)
    assert (two.store.held(), two.shows()) == ({}, {"k": "y"})


def test_chunks_are_bounded_checked_and_taken_in_order() -> None:
    one = Side("one")
    for n in range(30):
        one.put(f"k{n:02}", "x" * 50_000)
    facts, made = frozen(one.store)
    found = [read_chunk(made, n) for n in range(facts.chunks)]
    payloads = [chunk[0] for chunk in found if chunk is not None]
    assert len(payloads) == facts.chunks > 5
    assert max(map(len, payloads)) < CHUNK_BYTES_MAX + 60_000
    _, staged = memory()
    staging = Staging(staged)
    with pytest.raises(ProtocolError, match="0 is next"):
        staging.add_chunk(1, *found[1])  # type: ignore[misc]  # none is None, as seen above
    staging.add_chunk(0, *found[0])  # type: ignore[misc]  # as above
    with pytest.raises(ProtocolError, match="digest"):
        staging.add_chunk(1, payloads[1][:-1] + b"?", found[1][1])  # type: ignore[index]  # as above
    staging.add_chunk(1, *found[1])  # type: ignore[misc]  # as above
    # another process goes on behind the last whole chunk
    again = Staging(staged)
    assert again.next == 2
    for n in range(2, facts.chunks):
        again.add_chunk(n, *found[n])  # type: ignore[misc]  # as above
    with pytest.raises(ProtocolError, match="not those"):
        again.finish("0" * 32, whole=True)
    again.finish(facts.id, whole=True)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        chunks.encode_rows(7, 1, [["c", "k", None, 0, 1, 1, None]]),
        chunks.encode_rows(0, 0, [["c", "k", None, 0, 1, 1, None]]),
        chunks.encode_rows(0, 1, []),
        chunks.encode_rows(0, 1, [["c", "k", None, 1, 1, 1, None]]),
        chunks.encode_rows(0, 1, [["_c", "k", None, 0, 1, 1, None]]),
        chunks.encode_rows(0, 1, [["c", "k", b"[]", 0, 1, 1, None]]),
        chunks.encode_rows(0, 1, [["c", "k", b"{}", 0, 1, 1]]),
        chunks.encode_rows(1, 1, [["c", "k", None, 0, 1, 1, None]]),
    ],
)
def test_a_malformed_chunk_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        chunks.decode_rows(payload, HEAD)


HEAD = chunks.Preface((chunks.Mark("one/1", 1, b"h" * 32, 0, 5),), 5, system=True)


def fields(*parts: object) -> list[object]:
    """A row with field versions."""
    return ["c", "k", b'{"v":1}', 0, 1, 5, msgpack.packb([1, ["one/1"], *parts])]


@pytest.mark.parametrize(
    "row",
    [
        ["c", "k", b"{}", 0, 1, 6, None],
        fields([0, 5], [], []),
        fields([0, "x"], {}, []),
        fields([0, 6], {}, []),
        fields([0, 5], {".v": [0, None]}, []),
        fields([0, 5], {".v": [0, -1]}, []),
        fields([0, 5], {}, [[0, 2**63, 5]]),
        fields([0, 5], {}, [[0, 1, 6]]),
        fields([0, 5], {}, [[[], 1, 5]]),
        ["c", "k", b'{"v":1}', 0, 1, 5, msgpack.packb([1, ["else/1"], [0, 5], {}, [[0, 1, 4]]])],
    ],
)
def test_a_row_of_versions_that_the_giver_cannot_have_is_refused(row: list[object]) -> None:
    chunks.decode_rows(chunks.encode_rows(0, 1, [fields([0, 5], {".w": [0, 4]}, [[0, 1, 4]])]), HEAD)
    with pytest.raises(ProtocolError):
        chunks.decode_rows(chunks.encode_rows(0, 1, [row]), HEAD)


@pytest.mark.parametrize(
    "mark",
    [
        ("one/1", 1, b"h" * 32, 0, 6),
        ("one/1", 1, b"h" * 32, 0, 0),
        ("one/1", 1, b"", 0, 5),
        ("o", 0, b"h" * 32, 0, 0),
    ],
)
def test_a_head_that_no_log_can_have_is_refused(mark: tuple[str, int, bytes, int, int]) -> None:
    with pytest.raises(ProtocolError):
        chunks.decode_preface(chunks.encode_preface(HEAD._replace(marks=(chunks.Mark(*mark),))))


@pytest.mark.parametrize("first", [2, 2**62, 2**64 - 1])
def test_rows_are_numbered_without_a_gap_so_that_no_number_comes_to_its_end(first: int) -> None:
    staging = Staging(memory()[1])
    row = ["c", "k", b"{}", 0, 1, 5, None]
    payloads = [chunks.encode_preface(HEAD), chunks.encode_rows(0, first, [row])]
    staging.add_chunk(0, payloads[0], sha256(payloads[0]).digest())
    with pytest.raises(ProtocolError, match="1 is next"):
        staging.add_chunk(1, payloads[1], sha256(payloads[1]).digest())


def test_a_failed_merge_changes_nothing(tmp_path: Path) -> None:
    one = Side("one")
    one.put("k", "x")
    two = Store.open(tmp_path, "two", NOW)
    staged = tmp_path / "staged.db"
    connection = sqlite3.connect(staged, isolation_level=None)
    staging = Staging(connection)
    facts, made = frozen(one.store)
    for n in range(facts.chunks):
        staging.add_chunk(n, *read_chunk(made, n))  # type: ignore[misc]  # all are there
    connection.execute("DROP TABLE conflicts")
    connection.close()
    with pytest.raises(EntglError):
        install_whole(two, f"file:{staged}?mode=ro", b"e" * 32, NOW, cloud=False)
    assert (two.vector(), two.documents("users"), two.last_lsn()) == ({}, [], 0)
    with two.group():
        two.write(RequestId(b"c" * 16, 1), [Write("users", "k", b"{}")], NOW)
    two.close()
