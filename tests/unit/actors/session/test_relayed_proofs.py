"""Signatures that a relay keeps beyond what it needs itself: before a leap of the clock, of what it holds."""

from __future__ import annotations

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Entry
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store
from tests.unit.actors.session.test_forgeries import NOW, Victim, author, node, sent

MONTH = 31 * 24 * 3_600_000


def put(store: Store, key: str, now: int) -> None:
    with store.group():
        write(store, key, now)


def write(store: Store, key: str, now: int) -> None:
    number = store.last_lsn() + 1
    store.write(RequestId(b"q" * 16, number), [Write("users", key, b'{"v":1}')], now)


def signed(entries: list[Entry]) -> list[str]:
    return [decode(entry.header).key for entry in entries if entry.signature is not None]


def test_a_relay_that_believes_a_leap_keeps_the_proof_of_what_came_before_it() -> None:
    """A node that holds the rest applies what came before, and has to be able to pass it on."""
    honest, other, relay, next_one = node("a"), node("b"), Victim(), Victim()
    for key, now in (("first", NOW), ("right", NOW + 1), ("ahead", NOW + MONTH), ("last", NOW + MONTH + 1)):
        put(honest, key, now)
    put(other, "from b", NOW)
    put(other, "b, too", NOW + 1)
    first, right, ahead, last = sent(honest)
    open_, closed = sent(other)
    # a relay has kept the last signature of b alone: b is not proven where a leaps
    batch = [Entry(open_.header, open_.body), first, right, ahead, last, closed]
    relay.ctx = type(relay.ctx)(wall_ms=NOW + MONTH)
    assert relay.hear(batch, author(honest), author(other)) == ""
    assert relay.store.vector()[honest.origin][0] == 4
    assert signed(sent(relay.store)) == ["right", "last", "b, too"]
    assert next_one.hear(sent(relay.store), author(honest), author(other)) == ""
    assert next_one.store.vector()[honest.origin][0] == 2
    assert next_one.store.held() == {honest.origin: 4}
    assert next_one.store.signed_upto(honest.origin) == 2
    onward = Victim()
    assert onward.hear(sent(next_one.store), author(honest), author(other)) == ""
    assert onward.store.vector() == next_one.store.vector()


def test_a_relay_keeps_every_proof_of_what_it_holds() -> None:
    """A reset of the clock ends the log anywhere in there, and what is before the end is let in."""
    honest, relay, next_one = node("a"), Victim(), Victim()
    put(honest, "right", NOW)
    for key, seconds in (("one", 70), ("two", 71), ("three", 90)):
        put(honest, key, NOW + seconds * 1000)
    assert relay.hear(sent(honest), author(honest)) == ""
    assert relay.store.held() == {honest.origin: 4}
    with relay.store.group():
        relay.store.state.end(relay.store.connection, honest.origin, 3)
        relay.store.release_held(NOW + 100_000)
    assert relay.store.vector()[honest.origin][0] == 3
    assert signed(sent(relay.store)) == ["right", "one", "two"]
    assert relay.store.signed_upto(honest.origin) == 3
    next_one.ctx = type(next_one.ctx)(wall_ms=NOW + 100_000)
    assert next_one.hear(sent(relay.store), author(honest)) == ""
    assert next_one.store.vector() == relay.store.vector()


def test_a_writer_whose_clock_leaps_inside_a_commit_signs_before_it() -> None:
    store = node("a")
    with store.group():
        for key, now in (("first", NOW), ("right", NOW + 1), ("ahead", NOW + MONTH), ("last", NOW + MONTH)):
            with store.savepoint():
                write(store, key, now)
    assert signed(sent(store)) == ["right", "last"]
