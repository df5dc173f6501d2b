"""``clock --reset``: what others have stamped ahead is held, where it can be taken back at all."""

from __future__ import annotations

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import COLLECTIONS
from tests.contract.test_clock_reset import AHEAD, conflicts, everything, exchange, prune, reset
from tests.contract.test_quarantine import chain
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]


def test_a_change_of_fields_that_another_made_on_a_pruned_version_is_not_put_off(bench: Bench) -> None:
    """Nothing would be left of the other fields, and it would be let in on nothing."""
    a, b = bench.make("a"), bench.make("b")
    bench.put(b, Write(COLLECTIONS, "merging", b'{"Conflict":"merge"}'), system=True)
    bench.put(b, doc("k", b'{"x":1,"y":1}', "merging"), now=NOW + 1)
    exchange(bench, a, b)
    prune(a, b.origin)
    bench.put(b, doc("k", b'{"x":2,"y":1}', "merging"), now=AHEAD)
    bench.apply(a, entries(b), AHEAD)
    before = everything(a)
    with pytest.raises(InvalidError, match="merging/k was changed on a version that is pruned"):
        reset(bench, a)
    assert everything(a) == before
    assert a.get("merging", "k") == b'{"x":2,"y":1}'


@pytest.mark.parametrize("pruned", [False, True])
def test_what_was_overwritten_by_an_entry_before_the_one_it_names_comes_back(
    bench: Bench, pruned: bool
) -> None:
    """Found by seed 30342: nothing in the log names it, and it is not listed, as if a pruned one had settled
    it; what is pruned is older."""
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    if pruned:
        bench.put(c, doc("other"))
        exchange(bench, a, b, c)
        prune(a, c.origin)
    bench.put(a, doc("k", b'{"by":"a"}'), now=NOW + 2)
    bench.put(c, doc("k", b'{"by":"c"}'), now=NOW + 1)
    bench.apply(b, entries(c))
    bench.put(b, doc("k", b'{"by":"b"}'), now=AHEAD)
    assert bench.apply(a, entries(b)[-1:], AHEAD).counts["parent-absent"] == 1
    assert a.get("users", "k") == b'{"by":"b"}'
    assert reset(bench, a) == (a.origin, 0, 1)
    assert a.get("users", "k") == b'{"by":"a"}'


def test_what_an_unfit_version_named_is_no_conflict_when_a_later_one_is_put_off(bench: Bench) -> None:
    """Found by seed 30402: an entry that could not be applied was not asked for what it names."""
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    sent = chain([bench.put(a, doc("k", b'{"v":%d}' % v))[0] for v in range(3)], {1: b"[]"})
    bench.apply(b, sent)
    bench.apply(c, sent)
    bench.put(c, doc("k", b'{"v":"late"}'), now=AHEAD)
    bench.apply(b, entries(c)[-1:], AHEAD)
    assert (b.get("users", "k"), conflicts(b)) == (b'{"v":"late"}', [])
    assert reset(bench, b) == (b.origin, 0, 1)
    assert (b.get("users", "k"), conflicts(b)) == (b'{"v":2}', [])
