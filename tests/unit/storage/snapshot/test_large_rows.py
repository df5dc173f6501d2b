"""Documents that merge may be larger than what a writer may write: they travel, and are bounded."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from hashlib import sha256
from unittest.mock import patch

import pytest

from entgldb.messages.client import Base, Write, Written
from entgldb.messages.errors import ProtocolError, Reason, TooLargeError
from entgldb.messages.limits import (
    BODY_BYTES_MAX,
    CHUNK_BYTES_MAX,
    HISTORY_BYTES_MAX,
    MERGE_BYTES_MAX,
    MERGED_BYTES_MAX,
)
from entgldb.messages.model import Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import rows as merge_rows
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.snapshot import staging
from entgldb.storage.snapshot.freeze import read_chunk
from entgldb.storage.snapshot.staging import Staging
from tests.unit.storage.snapshot.snapshots import forget, frozen, memory, send
from tests.unit.storage.snapshot.test_snapshots import NOW, Side


class Merging(Side):
    """A store whose documents in ``users`` merge."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.store.state.merging.add("users")

    def fields(self, now: int = NOW, **fields: object) -> None:
        self.write(Write("users", "k", json.dumps(fields).encode()), now)

    def row(self) -> tuple[str | None, bytes | None]:
        found: tuple[str | None, bytes | None] = self.store.connection.execute(
            "SELECT body, stamps FROM _entgldb_documents WHERE key = 'k'"
        ).fetchone()
        return found

    def took(self, other: Side) -> Counter[str]:
        """The counts of this side when it took in all that the other has."""
        rows = [row for row in other.store.rows(1, 500) if row.origin == other.store.origin]
        with self.store.group():
            return self.store.apply([Entry(row.header, row.body) for row in rows], NOW).counts


def rivals(number: int, size: int = 900_000) -> list[Merging]:
    """So many writers who did not know of each other, each with a field of ``size`` bytes; all know all."""
    made = [Merging(f"n{n}") for n in range(number)]
    for n, one in enumerate(made):
        one.fields(**{f"f{n}": "x" * size})
    for one in made:
        for other in made:
            if one is not other:
                one.took(other)
    return made


def test_the_tombstone_of_a_large_document_that_merges_travels() -> None:
    one, two = Merging("one"), Merging("two")
    one.fields(text="x" * 600_000)
    one.delete("k")
    assert len(one.row()[1] or b"") > 600_000
    send(one.store, two.store, NOW)
    assert two.row() == one.row()


@pytest.mark.parametrize("writers", [2, 3, 5])
def test_what_several_writers_made_large_together_travels_in_small_chunks(writers: int) -> None:
    one, *others = rivals(writers)
    assert len(one.store.get("users", "k") or b"") > writers * 900_000
    assert {other.row() for other in others} == {one.row()}
    facts, made = frozen(one.store)
    sizes = [len((read_chunk(made, n) or (b"",))[0]) for n in range(facts.chunks)]
    assert max(sizes) <= 2 * CHUNK_BYTES_MAX
    new = Merging("new")
    send(one.store, new.store, NOW)
    assert new.row() == one.row()


def test_the_pieces_of_a_row_are_gone_on_with_after_a_restart() -> None:
    one, *_ = rivals(2)
    facts, made = frozen(one.store)
    found = [read_chunk(made, n) or (b"", b"") for n in range(facts.chunks)]
    _, connection = memory()
    for number, chunk in enumerate(found):
        Staging(connection).add_chunk(number, *chunk)
    Staging(connection).finish(facts.id, whole=True)
    assert connection.execute("SELECT count(*) FROM documents").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM pieces").fetchone() == (0,)


def staged(*payloads: bytes) -> None:
    """Take these after the head of an ordinary snapshot, to the end."""
    one = Side("one")
    one.put("k", "x")
    _, made = frozen(one.store)
    _, connection = memory()
    taking = Staging(connection)
    taking.add_chunk(0, *(read_chunk(made, 0) or (b"", b"")))
    for number, payload in enumerate(payloads, 1):
        taking.add_chunk(number, payload, sha256(payload).digest())
    taking.finish("", whole=False)


def piece(left: int, payload: bytes) -> bytes:
    return chunks._packed([chunks.PIECE, left, payload])


WHOLE = chunks.encode_rows(chunks.DOCUMENTS, 1, [["c", "k", b"{}", 0, 1, 1, None]])


def test_pieces_that_make_rows_are_taken() -> None:
    staged(piece(2, WHOLE[:5]), piece(1, WHOLE[5:9]), piece(0, WHOLE[9:]))


@pytest.mark.parametrize(
    "payloads",
    [
        [piece(2, WHOLE[:5]), piece(0, WHOLE[5:])],
        [piece(1, WHOLE[:5]), WHOLE],
        [piece(1, WHOLE[:5])],
        [piece(0, b"")],
        [piece(-1, WHOLE)],
        [piece(1, WHOLE), piece(0, WHOLE)],
    ],
)
def test_pieces_that_make_nothing_are_refused(payloads: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        staged(*payloads)


def test_pieces_without_an_end_are_refused_by_their_size() -> None:
    with patch.object(staging, "ROW_BYTES_MAX", 1000), pytest.raises(ProtocolError, match="too many"):
        staged(*(piece(n, b"x" * CHUNK_BYTES_MAX) for n in (9, 8)))


def with_long_history(one: Merging) -> None:
    """Fields that came and went."""
    for turn in range(2):
        one.fields(**{f"{turn}-{n}-{'x' * 90}": n for n in range(5_000)})
        one.fields(a=turn)


def test_a_document_with_a_long_history_is_written_whole_and_sheds_it() -> None:
    one, two = Merging("one"), Merging("two")
    with_long_history(one)
    assert len(one.row()[1] or b"") > HISTORY_BYTES_MAX
    one.fields(a=9)
    assert one.row() == ('{"a":9}', None)
    two.took(one)
    assert two.row() == one.row()


def test_a_tombstone_sheds_a_long_history_too() -> None:
    one = Merging("one")
    with_long_history(one)
    one.delete("k")
    assert len(one.row()[1] or b"") < 100


def test_a_writer_may_not_make_a_row_too_large_but_may_delete_it() -> None:
    one = Merging("one")
    one.fields(a="x" * 3000)
    with patch.object(merge_rows, "MERGED_BYTES_MAX", 2000):
        with pytest.raises(TooLargeError, match="users/k would take more than"):
            one.fields(a="x" * 3000, b=1)
        assert one.row()[0] == json.dumps({"a": "x" * 3000}, separators=(",", ":"))
        one.fields(a="x")
        one.fields(a="x" * 1500)
        one.delete("k")
    assert one.shows() == {}


def test_what_rivals_made_too_large_is_shown_and_counted_on_every_node_in_every_order() -> None:
    size = MERGED_BYTES_MAX // 5 - 1000
    made = [Merging(f"n{n}") for n in range(6)]
    for n, one in enumerate(made):
        one.fields(**{f"f{n}": "x" * size})
    shown = set()
    for order in (made[1:], made[:0:-1]):
        reader = Merging("reader")
        counted = Counter[str]()
        for one in (*order, made[0]):
            counted.update(reader.took(one))
        assert counted[Reason.TOO_LARGE.value] == 1
        assert counted[Reason.UNFIT.value] == 0
        shown.add(reader.row())
    assert len(shown) == 1


def test_beyond_what_can_be_carried_an_entry_is_set_aside() -> None:
    one, two = Merging("one"), Merging("two")
    one.fields(a="x" * 2000)
    two.fields(b="y" * 2000)
    with patch.object(merge_rows, "ROW_BYTES_MAX", 3000):
        counted = one.took(two)
    assert counted[Reason.UNFIT.value] == 1
    assert (
        "3000 allowed" in one.store.connection.execute("SELECT text FROM _entgldb_quarantine").fetchone()[0]
    )


def test_a_loser_that_grew_when_it_was_written_anew_travels() -> None:
    one, two, new = Merging("one"), Merging("two"), Merging("new")
    short = b'{"a":[' + b",".join([b"1e15"] * 200_000) + b"]}"
    assert len(short) < BODY_BYTES_MAX
    for side in (one, two):
        side.store.state.merging.discard("users")
    one.write(Write("users", "k", short), NOW)
    two.store.state.merging.add("users")
    # beside a field of another writer it is a tree, of which the texts are written anew
    two.fields(NOW + 4, b=1)
    one.took(two)
    two.fields(NOW + 5, a=1, b=1)
    one.took(two)
    (loser,) = one.store.connection.execute("SELECT body FROM _entgldb_conflicts").fetchall()
    assert len(loser[0]) > 2 * BODY_BYTES_MAX
    send(one.store, new.store, NOW + 5)
    assert new.store.connection.execute("SELECT body FROM _entgldb_conflicts").fetchall() == [loser]


def test_a_tail_is_written_again_with_few_documents_in_memory() -> None:
    here, away = Merging("here"), Merging("away")
    here.fields(a=1)
    here.fields(a=2)
    forget(here.store, tombstones=False)
    number, size = 100, 40_000
    for n in range(number):
        away.write(Write("users", f"k{n}", b'{"a":"%s"}' % (b"x" * size)), NOW)
    tracemalloc.start()
    try:
        assert send(here.store, away.store, NOW + 1).reissued >= number
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * size


def test_a_small_unsent_change_of_a_large_document_that_was_deleted_elsewhere_is_written_again() -> None:
    one, two, three = rivals(3)
    away = Merging("away")
    for other in (one, two, three):
        away.took(other)
    read = Documents(away.store.connection).read("users", "k")
    assert read is not None
    base = Base(tuple(Written(*version) for version in read.versions()), b'{"f0":1}')
    away.write(Write("users", "k", b'{"f0":2}', base), NOW + 1)
    before = json.loads(away.store.get("users", "k") or b"")
    assert len(away.store.get("users", "k") or b"") > MERGE_BYTES_MAX
    one.delete("k", now=NOW + 2)
    for other in (two, three):
        other.took(one)
    forget(one.store, tombstones=True)
    done = send(one.store, away.store, NOW + 3)
    assert (done.refused, done.reborn) == ("", True)
    assert json.loads(away.store.get("users", "k") or b"") == before
    counts = one.took(away)
    assert (counts[Reason.UNFIT.value], one.row()[0]) == (0, away.row()[0])


def test_a_branch_that_made_a_document_large_is_taken_out_without_an_entry_that_nobody_can_apply() -> None:
    first, again, rival = Merging("x"), Merging("x"), Merging("rival")
    first.fields(forked="x" * 900_000)
    rival.fields(mine="y" * 900_000)
    rival.took(first)
    assert len(rival.store.get("users", "k") or b"") > BODY_BYTES_MAX
    again.fields(other="z")
    rival.took(again)
    origin = first.store.origin
    seq, kept = rival.store.incarnations.branch(origin, "theirs") or (0, b"")
    with rival.store.group():
        assert rival.store.incarnations.heal(origin, seq, kept, lambda: b"e" * 32, NOW) == (1, {})
    assert rival.store.state.unfit == 0
    # the field that the branch alone had written is not gone
    assert sorted(json.loads(rival.store.get("users", "k") or b"")) == ["forked", "mine"]
    frozen(rival.store)
