"""What a watch tells of each change, and what it makes of keys that it does not know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entgldb.client.feeds.selecting import Selection
from entgldb.client.feeds.watching import WATCHED_KEYS_MAX, Event, Watched
from entgldb.messages.errors import InvalidError, UnsupportedError
from entgldb.messages.model import Version
from entgldb.storage.documents.feed import Change

KEYS = st.sampled_from("abcde")
WRITES = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 3)), max_size=40)


def change(key: str, n: int | None, collection: str = "c") -> Change:
    document = None if n is None else {"n": n}
    return Change(f"t{key}{n}", collection, key, document, Version("o", 1), 0)


def is_large(document: Any) -> bool:
    return bool(document["n"] >= 2)


def applied(events: Iterable[Event | None], inside: Iterable[str] = ()) -> set[str]:
    """The set of keys that somebody has who does what the events say."""
    found = set(inside)
    for event in events:
        if event is not None:
            (found.discard if event.kind == "leave" else found.add)(event.key)
    return found


def truly(writes: Iterable[tuple[str, int | None]], inside: Iterable[str] = ()) -> set[str]:
    found = set(inside)
    for key, n in writes:
        (found.add if n is not None and n >= 2 else found.discard)(key)
    return found


@given(WRITES)
def test_from_the_beginning_each_event_tells_exactly_what_happened(
    writes: list[tuple[str, int | None]],
) -> None:
    watched, inside = Watched(is_large, ()), set[str]()
    for key, n in writes:
        event = watched.event(change(key, n))
        before = key in inside
        inside = truly([(key, n)], inside)
        wanted = {(False, True): "enter", (True, True): "change", (True, False): "leave"}.get(
            (before, key in inside)
        )
        assert (event and event.kind) == wanted


@given(WRITES, st.sets(KEYS), st.integers(1, 4))
def test_who_does_as_told_has_what_matches(
    writes: list[tuple[str, int | None]], inside: set[str], keys_max: int
) -> None:
    """Also where it is not known what matched before, and where only a few keys are remembered."""
    for watched in (Watched(is_large, keys_max=keys_max), Watched(is_large, inside, keys_max=keys_max)):
        events = [watched.event(change(key, n)) for key, n in writes]
        assert applied(events, inside) == truly(writes, inside)


def test_a_key_that_is_unsure_is_told_both_ways() -> None:
    watched = Watched(is_large, ["a"], unsure=["b", "c"])
    kinds = [
        event and event.kind for event in map(watched.event, (change("a", 3), change("b", 3), change("c", 1)))
    ]
    assert kinds == ["change", "enter", "leave"]
    assert watched.event(change("d", 1)) is None


def test_a_watch_remembers_a_bounded_number_of_keys() -> None:
    watched = Watched(is_large, ())
    for number in range(WATCHED_KEYS_MAX + 1):
        watched.event(change(str(number), 3))
    again = [watched.event(change(key, 3)) for key in ("0", str(WATCHED_KEYS_MAX))]
    assert [event and event.kind for event in again] == ["enter", "change"]


def test_a_selection_takes_collections_and_what_matches() -> None:
    takes = Selection.of(None, ["c", "d"], {"n": {"$gte": 2}}).takes()
    wanted = [change("a", 2), change("a", None), change("a", 3, "d")]
    assert all(map(takes, wanted))
    assert not any(map(takes, [change("a", 1), change("a", 2, "e"), change("a", None, "e")]))
    assert Selection.of(None, ["c"], None) == Selection("c")
    assert Selection.of("c", None, {}).is_plain


@pytest.mark.parametrize("names", ["cd", ["_system_nodes"], ["bad name"]])
def test_names_that_are_none_are_refused(names: Any) -> None:
    with pytest.raises(InvalidError):
        Selection.of(None, names, None)


def test_a_collection_beside_collections_is_refused_and_so_is_an_unknown_operator() -> None:
    with pytest.raises(InvalidError):
        Selection.of("c", ["d"], None)
    with pytest.raises(UnsupportedError):
        Selection.of(None, None, {"n": {"$near": 1}}).takes()
