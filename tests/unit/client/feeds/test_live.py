"""A live query runs again only where a change can matter, and is right whatever becomes of the file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.client.feeds import live
from entgldb.client.feeds.live import LiveQuery
from entgldb.client.feeds.watching import Watched
from entgldb.client.writes import Document, document
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.store import Store
from tests.unit.storage.snapshot.snapshots import forget, send

NOW = 1_790_000_000_000
LARGE = {"n": {"$gte": 2}}


class Rig:
    """A file that a store writes and a live query reads."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder, "lan-1", NOW)
        self.documents = Documents.open(folder)
        self.runs = self.counter = 0
        self.begin("c")

    def begin(self, collection: str) -> None:
        """A live query of a collection."""
        self.collection = collection
        self.query = LiveQuery(lambda: self.documents, collection, self.find, parse_filter(LARGE).matches)

    def find(self) -> list[Document]:
        self.runs += 1
        found = self.documents.read_all(self.collection, LARGE, sort="-n", limit=2)
        return [document(self.collection, key, read) for key, read in found]

    def put(self, key: str, n: int | None, collection: str = "") -> None:
        self.counter += 1
        body = None if n is None else json.dumps({"n": n}).encode()
        with self.store.group():
            self.store.write(
                RequestId(b"c" * 16, self.counter), [Write(collection or self.collection, key, body)], NOW
            )

    def close(self) -> None:
        self.documents.close()
        self.store.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def keys(found: list[Document] | None) -> list[str] | None:
    return None if found is None else [one.key for one in found]


def test_it_gives_the_result_and_then_each_other_one(rig: Rig) -> None:
    assert keys(rig.query.step()) == []
    rig.put("a", 3)
    assert keys(rig.query.step()) == ["a"]
    rig.put("b", 5)
    assert keys(rig.query.step()) == ["b", "a"]
    rig.put("b", 1)
    assert keys(rig.query.step()) == ["a"]
    rig.put("a", None)
    assert keys(rig.query.step()) == []


def test_what_cannot_matter_runs_no_query(rig: Rig) -> None:
    rig.put("a", 9)
    rig.query.step()
    for key, n, collection in (("b", 1, ""), ("c", 5, "other"), ("b", None, "")):
        rig.put(key, n, collection)
        assert rig.query.step() is None
    assert rig.runs == 1


def test_a_result_that_stays_the_same_is_not_given_again(rig: Rig) -> None:
    for key, n in (("a", 9), ("b", 8), ("c", 7)):
        rig.put(key, n)
    assert keys(rig.query.step()) == ["a", "b"]
    rig.put("c", 6)
    assert rig.query.step() is None
    assert rig.runs == 2


def test_the_same_documents_in_another_order_are_another_result(rig: Rig) -> None:
    rig.put("a", 4)
    rig.put("b", 3)
    assert keys(rig.query.step()) == ["a", "b"]
    rig.put("b", 9)
    assert keys(rig.query.step()) == ["b", "a"]


def test_deletes_that_are_forgotten_do_not_stay_in_the_result(rig: Rig, tmp_path: Path) -> None:
    rig.put("a", 9)
    assert keys(rig.query.step()) == ["a"]
    other = tmp_path / "other"
    other.mkdir()
    replaced = Rig(other)
    replaced.put("z", 3)
    rig.documents.close()
    rig.documents = replaced.documents
    assert keys(rig.query.step()) == ["z"]
    replaced.close()


def test_watch_and_live_go_on_over_a_snapshot_and_a_pruned_log(rig: Rig) -> None:
    watched, token = Watched(parse_filter(LARGE).matches, ()), None

    def told() -> list[tuple[str, str]]:
        nonlocal token
        reading = rig.documents.changes(token, collection="c")
        events = [event for event in map(watched.event, reading) if event is not None]
        token = reading.token
        return [(event.kind, event.key) for event in events]

    rig.put("a", 5)
    rig.put("b", 4)
    assert (told(), keys(rig.query.step())) == ([("enter", "a"), ("enter", "b")], ["a", "b"])
    giver = Store.memory("lan-2", b"g" * 32, NOW + 1)
    with giver.group():
        writes = [Write("c", "a", b'{"n":1}'), Write("c", "d", b'{"n":9}')]
        giver.write(RequestId(b"g" * 16, 1), writes, NOW + 1)
    send(giver, rig.store, NOW + 2)
    assert sorted(told()) == [("enter", "d"), ("leave", "a")]
    assert keys(rig.query.step()) == ["d", "b"]
    forget(rig.store, tombstones=False)
    assert (told(), rig.query.step()) == ([], None)
    rig.put("b", None)
    rig.put("e", 7)
    assert sorted(told()) == [("enter", "e"), ("leave", "b")]
    assert keys(rig.query.step()) == ["d", "e"]
    giver.close()


def test_a_result_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LIVE_DOCUMENTS_MAX", 1)
    rig.put("a", 9)
    rig.query.step()
    rig.put("b", 8)
    with pytest.raises(InvalidError, match="more than 1 documents"):
        rig.query.step()


STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 4)), max_size=3), max_size=8
)


def test_after_every_step_it_is_what_the_query_gives(rig: Rig) -> None:
    numbers = itertools.count()

    @settings(max_examples=30, deadline=None)
    @given(STEPS)
    def follow(steps: list[list[tuple[str, int | None]]]) -> None:
        rig.begin(f"c{next(numbers)}")
        shown: list[str] | None = None
        for writes in [[], *steps]:
            for key, n in writes:
                rig.put(key, n)
            found = keys(rig.query.step())
            shown = shown if found is None else found
            assert shown == keys(rig.find())

    follow()
