"""A snapshot cuts a branch of a log here: entries in quarantine are of the branch, or were ended by it."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from entgldb.messages.client import Write
from entgldb.messages.model import Entry, Version
from entgldb.storage.file.state import State
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.unfit import list_unfit
from tests.contract.test_quarantine import chain, failing
from tests.unit.storage.snapshot.snapshots import send
from tests.unit.storage.snapshot.test_snapshot_histories import exact
from tests.unit.storage.snapshot.test_snapshots import Side
from tests.unit.storage.snapshot.test_snapshots_of_branches import LATER, branches

pytestmark = pytest.mark.usefixtures("either_way")


def same(side: Side) -> None:
    """The memory of the writer is what the file says."""
    exact(side.store)
    assert (
        State.load(side.store.connection).unfit
        == side.store.state.unfit
        == len(list_unfit(side.store.connection))
    )


@pytest.mark.parametrize("key", ["new0", "both"])
def test_an_entry_of_the_branch_that_could_not_be_applied_is_kept_like_the_others(key: str) -> None:
    writer, giver = branches(1, 1)
    taker = Side("taker")
    with patch.object(Applier, "merge", failing(key)):
        writer.give(taker)
    assert [one.key for one in list_unfit(taker.store.connection)] == [key]
    done = send(giver.store, taker.store, LATER)
    assert done.refused == ""
    same(taker)
    assert list_unfit(taker.store.connection) == []
    assert taker.shows() == {"common": "c", "both": "theirs", "old0": "theirs", "new0": "ours"}
    assert taker.rivals() == ["ours"]
    taker.give(giver)
    assert (giver.shows(), giver.rivals()) == (taker.shows(), taker.rivals())


def test_one_that_cannot_be_applied_still_is_set_aside_under_its_new_name() -> None:
    writer, giver = branches(1, 0)
    taker = Side("taker")
    with patch.object(Applier, "merge", failing("both")):
        writer.give(taker)
        assert send(giver.store, taker.store, LATER).refused == ""
    same(taker)
    (found,) = list_unfit(taker.store.connection)
    assert found.version.origin not in (writer.store.origin, taker.store.origin)
    with taker.store.group():
        taker.store.applying.retry(found.version, LATER)
    assert (taker.shows()["both"], taker.rivals()) == ("theirs", ["ours"])


@pytest.mark.parametrize("body", [b"[]", b"\xff"])
def test_what_is_no_document_is_not_kept_and_counted(body: bytes) -> None:
    writer, giver = branches(1, 1)
    taker, rows = Side("taker"), writer.store.rows(1, 9)
    sent = chain([Entry(row.header, row.body) for row in rows], {2: body})
    with taker.store.group():
        assert taker.store.apply(sent, LATER).counts == {"unfit": 1}
    done = send(giver.store, taker.store, LATER)
    assert (done.refused, done.lost) == ("", {"invalid": 1})
    same(taker)
    assert "new0" not in taker.shows()


def test_fields_that_could_not_be_merged_are_kept_as_a_document_of_their_own() -> None:
    writer, giver = branches(1, 0)
    taker = Side("taker")
    writer.store.state.merging.add("users")
    writer.write(Write("users", "m", b'{"v":"ours"}'), LATER)
    with patch.object(Applier, "merge", failing("m")):
        writer.give(taker)
    assert [one.key for one in list_unfit(taker.store.connection)] == ["m"]
    assert send(giver.store, taker.store, LATER).refused == ""
    same(taker)
    assert taker.shows()["m"] == "ours"


def test_what_an_entry_of_the_branch_had_ended_is_set_aside_again() -> None:
    writer, giver = branches(1, 0)
    other, taker = Side("other"), Side("taker")
    other.put("k", "unfit")
    other.give(writer)
    writer.put("k", "ours", now=LATER)
    with patch.object(Applier, "merge", failing("k")):
        other.give(taker)
    assert [one.key for one in list_unfit(taker.store.connection)] == ["k"]
    writer.give(taker)
    assert (taker.shows()["k"], list_unfit(taker.store.connection)) == ("ours", [])
    assert send(giver.store, taker.store, LATER).refused == ""
    same(taker)
    (found,) = list_unfit(taker.store.connection)
    assert found.version == Version(other.store.origin, 1)
    with taker.store.group():
        taker.store.applying.retry(found.version, LATER)
    assert (taker.shows()["k"], list_unfit(taker.store.connection)) == ("ours", [])
    assert taker.rivals() == ["ours", "unfit"]
