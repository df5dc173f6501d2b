"""Range-based reconciliation: what differs is found, whatever the sets, and nothing else."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from entgldb.storage.rules.comparing import reconcile
from entgldb.storage.rules.header import digest

KEYS = st.dictionaries(st.sampled_from([f"k{n}" for n in range(300)]), st.integers(1, 3), max_size=300)


def table_of(versions: dict[str, int]) -> tuple[reconcile.Table, dict[bytes, bytes]]:
    table, items = reconcile.Table(), {}
    for key, seq in versions.items():
        place = reconcile.place_of("users", key)
        item = reconcile.item_of(place, "a/1", seq, digest(b"{}"))
        table.add(item)
        items[place] = item.value
    return table, items


def found(mine: dict[str, int], theirs: dict[str, int]) -> list[bytes]:
    """The places that two nodes find by the three steps."""
    (here, my_items), (there, their_items) = table_of(mine), table_of(theirs)
    tops = reconcile.differing_tops(there, reconcile.pack_sums(here.top()))
    sums = b"".join(reconcile.pack_sums(there.within(top)) for top in tops)
    buckets = set(reconcile.differing_buckets(here, tops, sums))
    mine_there = {p: v for p, v in my_items.items() if reconcile.bucket_of(p) in buckets}
    theirs_there = {p: v for p, v in their_items.items() if reconcile.bucket_of(p) in buckets}
    return reconcile.differing_places(theirs_there, reconcile.pack_items(mine_there))


@given(KEYS, KEYS)
def test_exactly_what_differs_is_found(mine: dict[str, int], theirs: dict[str, int]) -> None:
    wanted = {reconcile.place_of("users", key) for key in mine | theirs if mine.get(key) != theirs.get(key)}
    assert set(found(mine, theirs)) == wanted


def test_the_order_of_a_walk_plays_no_part_and_every_field_of_an_item_does() -> None:
    versions = {f"k{n}": 1 for n in range(100)}
    forth, back = table_of(versions)[0], table_of(dict(reversed(versions.items())))[0]
    assert forth.top() == back.top()
    place = reconcile.place_of("users", "u1")
    one = reconcile.item_of(place, "a/1", 1, digest(b"{}"))
    others = [
        reconcile.item_of(reconcile.place_of("users", "u2"), "a/1", 1, digest(b"{}")),
        reconcile.item_of(place, "b/1", 1, digest(b"{}")),
        reconcile.item_of(place, "a/1", 2, digest(b"{}")),
        reconcile.item_of(place, "a/1", 1, digest(b'{"a":1}')),
    ]
    assert len({one.value, *(other.value for other in others)}) == 5


def test_two_sets_are_the_sum_of_their_parts() -> None:
    left, right = {"a": 1, "b": 1}, {"c": 2}
    assert table_of(left)[0].joined(table_of(right)[0]).top() == table_of(left | right)[0].top()


def test_what_a_stranger_sends_is_taken_apart_without_harm() -> None:
    table = table_of({"a": 1})[0]
    assert reconcile.differing_buckets(table, b"\xff\x40", b"\0" * 41) == []
    assert list(reconcile.unpack_items(b"short")) == []
    assert reconcile.unpack_sums(b"x" * 19) == []


def test_a_pass_takes_what_fits_and_the_next_goes_on_behind_it() -> None:
    counts = [10] * reconcile.BUCKETS
    assert reconcile.chosen([1, 5, 9], counts, 20, 0) == [1, 5]
    assert reconcile.chosen([1, 5, 9], counts, 20, 6) == [9, 1]
    assert reconcile.chosen([1, 5, 9], counts, 5, 0) == [1]


def test_a_range_that_is_named_for_ever_is_compared_no_more_often_than_there_are_ranges() -> None:
    table = reconcile.Table()
    with patch.object(reconcile.Table, "within", autospec=True, side_effect=reconcile.Table.within) as within:
        assert reconcile.differing_buckets(table, bytes(10 * reconcile.FANOUT), b"") == []
    assert within.call_count == reconcile.FANOUT
