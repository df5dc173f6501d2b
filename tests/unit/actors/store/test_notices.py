"""The owners of links are told that the log has grown at once, and never more than they keep up with."""

from __future__ import annotations

import pytest

from entgldb.actors.store.notices import INTERVAL, UNANSWERED_MAX
from entgldb.messages.local.actors import Committed, Seen
from tests.unit.actors.store.test_store_keeper import Bench

COMMITS = 1000


class Told(Bench):
    """A store that commits one document at a time, and what it says to the owners of links."""

    def __init__(self) -> None:
        super().__init__()
        self.ctx.behaviour = self.keeper
        self.ctx.told.clear()
        self.first = self.store.last_lsn() + 1

    def commit(self) -> None:
        self.ask(self.put(f"k{self.counter}"))

    def to(self, name: str) -> list[Committed]:
        return self.ctx.take(Committed, name)

    def seen(self, name: str) -> None:
        self.ctx.hand(Seen(name, self.store.last_lsn()))


def test_the_first_commit_is_told_at_once_and_the_next_ones_wait_for_the_answer() -> None:
    told = Told()
    for _ in range(COMMITS):
        told.commit()
    for name in ("sync", "gateway"):
        assert [(m.first, m.last) for m in told.to(name)] == [(told.first, told.first)]
    told.ctx.run(INTERVAL)
    told.seen("sync")
    (merged,) = told.to("sync")
    assert (merged.first, merged.last) == (told.first + 1, told.store.last_lsn())
    assert merged.own_last == merged.last
    assert told.to("gateway") == []


def test_whoever_answers_at_once_is_told_no_oftener_than_the_interval_and_of_everything() -> None:
    told, heard = Told(), []
    for _ in range(COMMITS):
        told.commit()
        told.ctx.run(INTERVAL / 10)
        for message in told.to("sync"):
            heard.append(message)
            told.seen("sync")
    told.ctx.run(2 * INTERVAL)
    heard += told.to("sync")
    assert COMMITS / 20 <= len(heard) <= COMMITS / 10 + 2
    assert [m.first for m in heard] == [told.first] + [m.last + 1 for m in heard[:-1]]
    assert heard[-1].last == told.store.last_lsn()


def test_a_slow_receiver_has_one_notice_unanswered_and_delays_no_other() -> None:
    told = Told()
    heard = {"sync": 0, "gateway": 0}
    for _ in range(COMMITS):
        told.commit()
        told.ctx.run(INTERVAL / 10)
        heard["sync"] += len(told.to("sync"))
        for _ in told.to("gateway"):
            heard["gateway"] += 1
            told.seen("gateway")
    assert heard["sync"] == 1
    assert heard["gateway"] >= COMMITS / 20


@pytest.mark.parametrize("seconds", [UNANSWERED_MAX * 0.9, UNANSWERED_MAX * 1.1])
def test_a_receiver_that_never_answered_is_told_again_after_a_second(seconds: float) -> None:
    told = Told()
    told.commit()
    told.to("sync")
    told.ctx.run(seconds)
    told.commit()
    assert len(told.to("sync")) == (seconds > UNANSWERED_MAX)
