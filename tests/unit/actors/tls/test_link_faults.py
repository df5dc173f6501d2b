"""Faults of a network on a link: cut anywhere, half-open, slow, one-way, flapping, corrupt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.actors import silence
from entgldb.actors.session import outbox
from entgldb.actors.sync import dialler
from entgldb.actors.tls import link_writer
from entgldb.actors.tls import links as links_module
from entgldb.messages.errors import Reason
from entgldb.messages.limits import BATCH_BYTES_MAX, WINDOW_BYTES_MAX
from tests.unit.actors.host.live_node import LiveNode, equal, until
from tests.unit.actors.tls.link_proxy import DOWN, UP, Harm, LinkProxy

SMALL = b'{"n": 1}'
BOTH = 20
"""Documents written on each side while apart, and caught up with over the harmed link."""


class Pair:
    """``near`` dials ``far`` through the proxy, and no other way is known to either."""

    def __init__(self, folder: Path) -> None:
        self.far = LiveNode(folder / "far", "far")
        self.proxy = LinkProxy(self.far.links.port())
        self.near = LiveNode(folder / "near", "near", seeds=(self.proxy.address,), listens=False)
        self.nodes = [self.near, self.far]

    @property
    def connected(self) -> bool:
        return self.near.connected and self.far.connected

    @property
    def healed(self) -> bool:
        return self.connected and equal(self.near, self.far)

    def grow_apart(self, count: int = BOTH) -> None:
        """Both sides write while there is no link."""
        with self.proxy.apart():
            until(self.nodes, lambda: not self.near.connected and not self.far.connected)
            for node in self.nodes:
                node.put(*[SMALL] * count)

    def add(self, name: str, folder: Path) -> LiveNode:
        """A third node that ``far`` is linked to, past the proxy."""
        third = LiveNode(folder / name, name, seeds=(f"127.0.0.1:{self.far.links.port()}",), listens=False)
        self.nodes.append(third)
        until(self.nodes, lambda: third.connected)
        return third

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(dialler, "REDIAL_FIRST", 0.02)
    monkeypatch.setattr(dialler, "REDIAL_MAX", 0.2)
    monkeypatch.setattr(dialler, "LOOK_MIN", 0.01)
    made = Pair(tmp_path)
    with made.proxy:
        until(made.nodes, lambda: made.healed)
        yield made
    made.stop()


@pytest.fixture
def frame_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is a write and so a TLS record of its own, and a catch-up has many."""
    monkeypatch.setattr(link_writer, "WRITE_BYTES", 1)
    monkeypatch.setattr(outbox, "ENTRIES_PER_BATCH_MAX", 4)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["after", "inside", "corrupt"])
@pytest.mark.parametrize("way", [UP, DOWN])
def test_a_link_harmed_at_any_record_of_a_catch_up_loses_and_repeats_nothing(
    pair: Pair, frame_a_record: None, way: str, kind: str
) -> None:
    pair.grow_apart()
    until(pair.nodes, lambda: pair.healed)
    records = pair.proxy.pipes[-1].records[way]
    assert records > 2 * BOTH // 4, "the handshake, and a frame for each batch and each answer to one"
    for record in range(1, records + 1):
        before = [node.reasons() for node in pair.nodes]
        pair.grow_apart()
        harm = pair.proxy.harm = Harm(way, record, kind)
        until(pair.nodes, lambda harm=harm: harm.done and pair.healed)
        after = [node.reasons() for node in pair.nodes]
        # one for the link that was taken down before, one at least for the one that was harmed
        assert sum(after) >= sum(before) + 2, (record, pair.near.sync.counts, pair.far.sync.counts)
    entries = 2 * BOTH * (records + 1)
    assert [node.store.status()["oplog_entries"] for node in pair.nodes] == [entries, entries]


@pytest.mark.parametrize("way", [UP, DOWN])
def test_a_corrupt_byte_is_refused_by_tls_and_the_link_made_anew(pair: Pair, way: str) -> None:
    pipe = pair.proxy.pipes[-1]
    pair.proxy.harm = Harm(way, pipe.records[way] + 1, "corrupt")
    for node in pair.nodes:
        node.put(SMALL)
    until(pair.nodes, lambda: len(pair.proxy.pipes) > 1 and pair.healed)
    refuser = pair.far if way == UP else pair.near
    assert refuser.sync.counts[Reason.TLS_REFUSED] == 1


@pytest.mark.parametrize(
    "ways", [(UP, DOWN), (UP,), (DOWN,)], ids=["half-open", "one-way up", "one-way down"]
)
def test_a_link_that_goes_silent_without_an_end_is_noticed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, ways: tuple[str, ...]
) -> None:
    monkeypatch.setattr(silence, "SECONDS_MIN", 0.6)
    monkeypatch.setattr(links_module, "HANDSHAKE_SECONDS_MAX", 0.3)
    deaf = {UP: pair.far, DOWN: pair.near}
    with pair.proxy.stalled(*ways):
        for node in pair.nodes:
            node.put(SMALL)
        until(pair.nodes, lambda: not pair.near.connected and not pair.far.connected)
        for way in ways:
            assert deaf[way].sync.counts[Reason.HEARTBEAT_LOST] >= 1
        until(pair.nodes, lambda: pair.near.sync.counts[Reason.HANDSHAKE_TIMEOUT] >= 1)
    until(pair.nodes, lambda: pair.healed)


@pytest.mark.slow
def test_a_slow_reader_takes_bounded_memory_and_holds_nobody_else_up(pair: Pair, tmp_path: Path) -> None:
    third = pair.add("third", tmp_path)
    pair.proxy.seconds_a_chunk = {DOWN: 0.002}
    pair.proxy.cut()
    until(pair.nodes, lambda: len(pair.proxy.pipes) > 1 and pair.connected)
    bulk = b'{"t": "%s"}' % (b"x" * 60_000)
    most = 0

    def third_has_all() -> bool:
        nonlocal most
        for link in pair.far.links._links.values():
            most = max(most, link.writer.frames.waiting)
        return equal(third, pair.far)

    pair.far.put(*[bulk] * 100)
    took = until(pair.nodes, third_has_all, 3.0)
    assert took < 3.0
    assert not equal(pair.near, pair.far), "the slow way was not slow"
    assert most <= WINDOW_BYTES_MAX + BATCH_BYTES_MAX
    assert pair.far.sync.counts[Reason.WINDOW_FULL] >= 1
    pair.proxy.seconds_a_chunk = {}
    until(pair.nodes, lambda: pair.healed, 30.0)


def test_a_flapping_link_catches_up_and_every_fall_is_counted(pair: Pair) -> None:
    """Found here: a link that ended between TLS and the end of both Hellos was counted nowhere."""
    for _ in range(12):
        for node in pair.nodes:
            node.put(*[SMALL] * 3)
        pipes = len(pair.proxy.pipes)
        pair.proxy.cut()
        until(pair.nodes, lambda pipes=pipes: len(pair.proxy.pipes) > pipes)
    took = until(pair.nodes, lambda: pair.healed)
    assert took < 5.0
    assert pair.near.reasons() >= 12
