"""The watch itself: it lets a log go back where ``clock --reset`` takes it back, and misses no commit."""

from __future__ import annotations

import math

import pytest

from entgldb.launch.testing.host import CrashNow
from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import REMOTE_PEERS, Entry
from entgldb.storage.log.append import Batch
from entgldb.storage.repair import healing
from tests.contract.test_store import entries
from tests.simulation.events.times import MONTH_MS
from tests.simulation.run import Run
from tests.simulation.test_calm import quiet
from tests.simulation.watch.oracle import State
from tests.simulation.watch.patience import HEAL_SECONDS_MAX, Patience
from tests.simulation.world.node import SimulatedNode


def two(*, ahead_ms: int) -> tuple[Run, SimulatedNode, SimulatedNode]:
    """Two nodes, not started: the first has all that the second wrote, the end of it stamped ahead."""
    run = Run(1, options=quiet(2))
    one, other = run.lan
    write(run, other, 1)
    other.clock.offset_ms = ahead_ms
    write(run, other, 2)
    write(run, other, 3)
    take(run, one, other)
    run.watch.look(one)
    assert run.world.violations == []
    return run, one, other


def write(run: Run, node: SimulatedNode, number: int, place: tuple[str, str] | None = None) -> None:
    collection, key = place or ("users", f"k{number}")
    with node.store.group():
        node.store.write(
            RequestId(b"c" * 16, number),
            [Write(collection, key, b'{"n":%d}' % number)],
            node.clock.now_ms(),
            system=True,
        )
    run.watch.look(node)


def take(run: Run, node: SimulatedNode, giver: SimulatedNode) -> None:
    """Take all, as it is when somebody accepts what would be held."""
    now = node.clock.now_ms()
    with node.store.group():
        node.store.apply(entries(giver.store), now)
        node.store.release_held(now, accepted=giver.origin)


def reset(node: SimulatedNode) -> None:
    with node.store.group():
        node.store.reset_clock(RequestId(b"r" * 16, 1), b"e" * 32, node.clock.now_ms())


@pytest.mark.parametrize("looks", [True, False], ids=["commit by commit", "all at one look"])
def test_a_reset_may_put_off_what_others_stamped_ahead_though_no_log_ends(looks: bool) -> None:
    run, one, other = two(ahead_ms=MONTH_MS)
    before = one.origin
    reset(one)
    assert (one.origin, one.store.state.ended) == (before, {})
    assert one.store.vector()[other.origin][0] == 1
    if looks:
        run.watch.look(one)
        # its clock has gone back as well
        write(run, one, 4)
    take(run, one, other)
    run.watch.look(one)
    assert run.world.violations == []
    assert run.world.reached["entries of others put off"] == 1
    assert one.store.vector()[other.origin][0] == 3


def test_what_is_stamped_right_never_goes() -> None:
    run, one, other = two(ahead_ms=0)
    with one.store.group():
        healing.take_out(Batch(one.store.connection, one.store.state), {other.origin: 2})
    run.watch.look(one)
    assert [text.split(": ", 1)[1] for text in run.world.violations] == [
        f"{one.name}: its log of {other.origin} went back from 3 to 1"
    ]


@pytest.mark.parametrize("supplied", ["before", "after"])
def test_no_conflict_is_asked_for_where_what_is_replaced_was_only_recorded(supplied: str) -> None:
    """A cloud gave a header alone, and the entry that replaces it may come before its body."""
    run = Run(1, options=quiet(3))
    one, two, three = run.lan
    place = (REMOTE_PEERS, "k")
    for number, node in enumerate((one, two), 1):
        write(run, node, number, place)
    take(run, three, two)
    write(run, three, 3, place)
    now = one.clock.now_ms()
    with one.store.group():
        one.store.apply([Entry(entry.header, None) for entry in entries(two.store)], now, cloud=True)
    run.watch.look(one)
    for given in (two, three) if supplied == "before" else (three, two):
        with one.store.group():
            one.store.apply(entries(given.store), now)
        run.watch.look(one)
    due = run.watch.promised(one, State({}, {(place, (one.origin, 1))})).conflicts
    assert len(due) == (1 if supplied == "before" else 0)
    assert run.world.violations == []


def test_what_is_committed_right_before_a_crash_is_looked_at() -> None:
    """Of two entries that are held the later one is let in first: no row is due of what both overwrite."""
    run = Run(1, options=quiet(3))
    one, two, three = run.lan
    place = ("users", "k")
    one.start()
    run.world.run(1.0)
    write(run, one, 1, place)
    for node in (two, three):
        node.clock.offset_ms = MONTH_MS
    write(run, two, 2, place)
    take(run, three, two)
    write(run, three, 3, place)
    one.store.trap = "after"
    with pytest.raises(CrashNow):
        take(run, one, three)
    one.crash()
    assert one.log.vector()[three.origin][0] == 1
    run.watch.restarted(one)
    assert run.world.violations == []


def test_a_write_is_lost_only_where_nobody_but_a_cloud_has_it() -> None:
    """Of the configuration a cloud has the header alone; of documents it has all."""
    run = Run(1, options=quiet(2))
    one, two = run.lan
    write(run, one, 1, (REMOTE_PEERS, "k"))
    write(run, one, 2)
    with two.store.group():
        headers = [Entry(entry.header, None) for entry in entries(one.store)]
        two.store.apply(headers, one.clock.now_ms(), cloud=True)
    run.watch.look(two)
    both = {(one.origin, 1), (one.origin, 2)}
    run.watch.excused = set(both)
    assert run.watch.lost([]) == both
    assert run.watch.lost([two]) == {(one.origin, 1)}
    assert run.watch.lost([one, two]) == set()


def test_patience_is_as_long_as_what_is_to_be_carried_takes_and_no_longer() -> None:
    run = Run(1, options=quiet(2))
    one, other = run.lan
    write(run, one, 1)
    size = sum(len(entry.header) + len(entry.body or b"") for entry in entries(one.store))
    slow = Patience(run.nodes, run.watch, 10.0)
    assert slow.seconds() == slow.seconds() == HEAL_SECONDS_MAX + size / 8
    take(run, other, one)
    assert slow.seconds() == HEAL_SECONDS_MAX + size / 8
    write(run, other, 2)
    assert slow.seconds() == pytest.approx(HEAL_SECONDS_MAX + 2 * size / 8, abs=1)
    assert Patience(run.nodes, run.watch, math.inf).seconds() == HEAL_SECONDS_MAX
