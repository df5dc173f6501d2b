"""Stamps never go back: a board that wakes up in 1970, a clock set back, a full counter."""

from __future__ import annotations

from entgldb.messages.client import Write
from entgldb.storage.rules import clock
from entgldb.storage.rules.header import decode
from entgldb.storage.state import State
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]

MINUTE = 60_000


def restarted(store: Store) -> None:
    """All memory is gone."""
    store.state = State.load(store.connection)


def stamps(store: Store) -> list[int]:
    return [decode(entry.header).hlc for entry in entries(store)]


def test_without_a_real_time_clock_a_board_goes_on_from_its_stored_high_mark(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k", b'{"v":1}'))
    restarted(a)
    for now in (0, 1, MINUTE):
        bench.put(a, doc("k", b'{"v":%d}' % (now + 2)), now=now)
    assert stamps(a) == sorted(set(stamps(a)))
    assert a.high_mark_ms() == NOW
    assert bench.apply(b, entries(a)).refused == ""
    assert b.get("users", "k") == b'{"v":%d}' % (MINUTE + 2)
    assert b.status()["conflicts"] == 0
    bench.put(a, doc("k"), now=NOW + MINUTE)
    assert a.high_mark_ms() == NOW + MINUTE


def test_a_new_board_in_1970_writes_and_its_writes_arrive(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k"), now=0)
    assert bench.apply(b, entries(a)).changes == a.vector()
    assert stamps(a) == [1]


def test_what_was_promised_to_clients_is_not_forgotten_in_1970(bench: Bench) -> None:
    a = bench.make("a")
    request = bench.request()
    with a.group():
        done = a.write(request, [Write("users", "k", b"{}")], NOW)
    with a.group():
        a.release_held(0)
    assert a.answered(request, 0) == done


def test_a_full_counter_carries_into_the_milliseconds(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    full = clock.from_ms(NOW) | 0xFFFF
    a.state.clock = full - 1
    bench.put(a, *(doc(f"k{n}") for n in range(3)))
    assert stamps(a) == [full, full + 1, full + 2]
    assert [clock.ms_of(stamp) for stamp in stamps(a)] == [NOW, NOW + 1, NOW + 1]
    assert bench.apply(b, entries(a)).changes == a.vector()
    restarted(a)
    bench.put(a, doc("next"), now=NOW + 1)
    assert stamps(a)[-1] == full + 3
