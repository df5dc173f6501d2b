"""Stamps never go back: a board that wakes up in 1970, a clock set back, a full counter."""

from __future__ import annotations

from itertools import permutations

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.model import EXPELLED, Entry, Version
from entgldb.messages.wire import Member
from entgldb.storage.rules import clock
from entgldb.storage.rules.ended import any_log, ending
from entgldb.storage.rules.header import PUT, Header, decode, digest, encode
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries
from tests.unit.storage.snapshot.snapshots import send

__all__ = ["bench"]

MINUTE = 60_000


def restarted(store: Store) -> None:
    """All memory is gone."""
    vars(store).update(vars(store.reopen(store, NOW)))


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
    assert a.answered(request) == done


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


def test_at_the_end_of_the_clock_a_write_is_refused_by_name_and_its_neighbours_are_not(bench: Bench) -> None:
    a = bench.make("a")
    a.state.clock = clock.HLC_MAX - 1
    bench.put(a, doc("last"))
    with pytest.raises(EntglError, match="year 6429") as caught:
        bench.put(a, doc("beyond"))
    assert (caught.value.code, caught.value.definite) == (ErrorCode.CLOCK, True)
    assert stamps(a) == [clock.HLC_MAX]
    assert bench.apply(a, []).refused == ""


def chain(origin: str, *writes: tuple[int, str, Version | None], group: int = 1) -> list[Entry]:
    """Entries of one origin: stamp, key, parent of each, in groups of so many."""
    made, previous = [], b""
    for seq, (hlc, key, parent) in enumerate(writes, 1):
        body = b'{"v":"%s %d"}' % (origin.encode(), seq)
        index = (seq - 1) % group
        header = Header(origin, seq, hlc, "users", key, PUT, parent, index, group, digest(body), previous)
        raw = encode(header)
        previous = digest(raw)
        made.append(Entry(raw, body))
    return made


EVIL, ZED = "evil/" + "0" * 32, "zed/" + "1" * 32


@pytest.mark.parametrize("first", [clock.HLC_MAX - 1, clock.from_ms(NOW + MINUTE) + 1])
def test_a_group_is_held_by_its_greatest_stamp_and_refused_where_stamps_do_not_grow(
    bench: Bench, first: int
) -> None:
    b = bench.make("b")
    now = clock.from_ms(NOW)
    backwards = chain(EVIL, (first, "far", None), (now, "near", None), group=2)
    assert bench.apply(b, backwards).refused == "bad-entry"
    assert (b.vector(), b.held(), b.state.clock) == ({}, {}, 0)
    ahead = chain(EVIL, (now, "near", None), (first, "far", None), group=2)
    assert bench.apply(b, ahead).counts == {"held-clock": 2}
    assert (b.vector(), b.state.clock) == ({}, 0)


@pytest.mark.parametrize("where", ["known", "restarted", "held", "snapshot"])
def test_stamps_have_to_grow_along_a_chain_however_its_head_came_here(bench: Bench, where: str) -> None:
    a, b = bench.make("a"), bench.make("b")
    base = clock.from_ms(NOW + (2 * MINUTE if where == "held" else 0))
    log = chain(EVIL, (base + 100, "k", None), (base + 50, "k", Version(EVIL, 1)))
    bench.apply(a, log[:1])
    if where == "snapshot":
        assert send(a, b, NOW).changes == a.vector()
    else:
        b = a
    if where in ("restarted", "held"):
        restarted(b)
    assert bench.apply(b, log[1:]).refused == "bad-entry"
    assert max([*b.held().values(), *(seq for seq, _ in b.vector().values())]) == 1


@pytest.mark.parametrize("same_origin", [True, False])
def test_equal_vectors_have_equal_documents_in_every_order_though_a_writer_stamped_backwards(
    bench: Bench, same_origin: bool
) -> None:
    now = clock.from_ms(NOW)
    first = chain(EVIL, (now + 100, "k", None), (now + 50, "k", Version(EVIL, 1)))
    if same_origin:
        p, q = first
    else:
        (p,), (q,) = first[:1], chain("fool/" + "2" * 32, (now + 50, "k", Version(EVIL, 1)))
    (c,) = chain(ZED, (now + 70, "k", None))
    seen = {}
    for number, order in enumerate(permutations((p, q, c))):
        if order.index(q) < order.index(p):
            continue  # causes come first
        store = bench.make(f"n{number}")
        for one in order:
            bench.apply(store, [one])
        seen[str(number)] = (sorted(store.vector().items()), store.get("users", "k"))
    assert len(seen) == 3
    assert len({repr(found) for found in seen.values()}) == 1


MONTH = 31 * 24 * 3_600_000


def hear(store: Store, **shown: int) -> None:
    """Members say what their clocks have shown."""
    rows = [
        Member(f"{name}/{number:032x}", len(shown) + store.last_lsn(), NOW, {}, shown_ms)
        for number, (name, shown_ms) in enumerate(shown.items())
    ]
    with store.group():
        store.remember_members(rows, NOW, cloud=False)


def test_what_most_clocks_have_shown_is_no_lie_and_what_one_has_is(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    a.live(0.0, NOW + MONTH)
    log = bench.put(a, doc("k"), now=NOW + MONTH)
    b.live(0.0, NOW)
    hear(b, a=NOW + MONTH)
    assert bench.apply(b, log).counts == {"held-clock": 1}
    hear(b, a=NOW + MONTH, c=NOW)
    with b.group():
        assert b.release_held(NOW).changes == {}
    hear(b, a=NOW + MONTH, c=NOW + MONTH, b=NOW)
    with b.group():
        assert b.release_held(NOW).changes == a.vector()
    assert bench.apply(b, bench.put(a, doc("next"))).changes == a.vector()
    ahead = chain(EVIL, (clock.from_ms(NOW + MONTH + 2 * MINUTE), "far", None))
    assert bench.apply(b, ahead).counts == {"held-clock": 1}


def test_what_all_clocks_of_a_site_have_shown_is_remembered_when_they_are_right_again(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    for store in (a, b):
        store.live(0.0, NOW + MONTH)
        hear(store, a=NOW + MONTH, b=NOW + MONTH)
    bench.apply(b, bench.put(a, doc("k"), now=NOW + MONTH))
    for store in (a, b):
        restarted(store)
        store.live(60.0, NOW)
    assert bench.apply(b, bench.put(a, doc("k", b'{"v":2}'))).changes == a.vector()
    assert bench.apply(a, bench.put(b, doc("k", b'{"v":3}'))).changes == {b.origin: b.vector()[b.origin]}
    assert a.get("users", "k") == b'{"v":3}'
    assert a.status()["conflicts"] == 0


def test_nobody_drags_the_bound_by_stamps_at_its_edge(bench: Bench) -> None:
    b = bench.make("b")
    b.live(0.0, NOW)
    edge, writes = clock.from_ms(NOW + MINUTE), []
    for step in range(5):
        writes.append((edge + step * clock.from_ms(MINUTE // 2), "k", None))
    taken = [bench.apply(b, chain(EVIL, *writes)[n : n + 1]).counts.get("held-clock", 0) for n in range(5)]
    assert taken == [0, 1, 1, 1, 1]
    assert b.high_mark_ms() == NOW + MINUTE


def test_a_voice_that_was_not_heard_for_a_day_says_nothing_about_the_time(bench: Bench) -> None:
    b = bench.make("b")
    b.live(0.0, NOW)
    hear(b, a=NOW + MONTH, c=NOW + MONTH)
    assert b.known_ms(NOW) == NOW + MONTH
    b.live(24 * 3600.0 + 1, NOW)
    bench.apply(b, [])
    assert b.known_ms(NOW) == NOW


def test_what_an_operator_lets_in_is_a_voice_for_its_time(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    log = bench.put(a, doc("k"), now=NOW + MONTH)
    b.live(0.0, NOW)
    assert bench.apply(b, log).counts == {"held-clock": 1}
    with b.group():
        assert b.release_held(NOW, accepted=a.origin).changes == a.vector()
    assert b.shown_ms() == NOW + MONTH


@pytest.mark.parametrize("way", ["entries", "snapshot"])
def test_who_has_taken_what_most_clocks_have_shown_speaks_for_it_from_then_on(bench: Bench, way: str) -> None:
    a, b = bench.make("a"), bench.make("b")
    log = bench.put(a, doc("k"), now=NOW + MONTH)
    b.live(0.0, NOW)
    hear(b, a=NOW + MONTH, c=NOW + MONTH)
    if way == "entries":
        assert bench.apply(b, log).changes == a.vector()
    else:
        assert send(a, b, NOW).changes == a.vector()
    hear(b, a=NOW + MONTH, c=NOW + MONTH, cloud=NOW)
    more = bench.put(a, doc("k", b'{"v":2}'), now=NOW)
    assert bench.apply(b, more).changes == a.vector()
    assert b.shown_ms() == NOW + MONTH


def test_a_clock_that_has_shown_nothing_gets_no_voice_by_what_it_takes(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    log = bench.put(a, doc("k"), now=NOW + MONTH)
    hear(b, a=NOW + MONTH)
    assert bench.apply(b, log).changes == a.vector()
    assert b.shown_ms() == 0


def test_a_node_that_was_expelled_has_no_voice_about_the_time(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    b.live(0.0, NOW)
    hear(b, a=NOW + MONTH, c=NOW + MONTH)
    assert b.known_ms(NOW) == NOW + MONTH
    bench.put(b, Write(EXPELLED, ending(any_log("c"), 0), b"{}"), now=NOW, system=True)
    assert b.known_ms(NOW) == NOW
    assert bench.apply(b, bench.put(a, doc("k"), now=NOW + MONTH)).counts == {"held-clock": 1}
