"""``clock --reset`` where a log is pruned: its stamps are known still."""

from __future__ import annotations

from entgldb.storage.file.state import State
from tests.contract.test_clock_reset import AHEAD, NOW, exchange, prune, reset, shown, tidy
from tests.contract.test_store import Bench, bench, doc, entries

__all__ = ["bench"]


def test_what_is_written_again_is_stamped_behind_what_it_replaces_where_that_is_pruned(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k", b'{"x":1}'), now=NOW + 50_000)
    exchange(bench, a, b, now=NOW + 50_000)
    prune(a, a.origin)
    bench.put(a, doc("k", b'{"x":2}'), now=AHEAD)
    assert reset(bench, a)[1] == 1
    exchange(bench, a, b)
    assert a.get("users", "k") == b.get("users", "k") == b'{"x":2}'
    assert shown(a) == shown(b)


def test_who_takes_the_end_of_a_log_out_knows_the_stamp_of_what_is_pruned_before_it(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k", b'{"x":1}'))
    exchange(bench, a, b)
    whole = b.state.origins[a.origin].head
    bench.put(a, doc("k", b'{"x":2}'), now=AHEAD)
    prune(b, a.origin)
    bench.apply(b, entries(a))
    old = a.origin
    with b.group():
        b.release_held(NOW, accepted=old)
    reset(bench, a)
    exchange(bench, a, b)
    tidy(b)
    assert b.state.origins[old].head == whole
    assert State.load(b.connection) == b.state
