"""A node whose clock runs ahead expels another: the word counts at once, what else it stamped waits."""

from __future__ import annotations

from hashlib import sha256
from unittest.mock import patch

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import EXPELLED, Entry
from entgldb.messages.wire import Member
from entgldb.storage.authorship.authors import trust
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import held
from entgldb.storage.log.apply import Applier
from entgldb.storage.rules.authorship import cluster_of
from entgldb.storage.rules.ended import any_log, ending
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]

AHEAD = NOW + 31 * 24 * 3_600_000
CA = sha256(b"a key").digest()


def expels(bench: Bench, judge: Store, gone: Store, now: int = AHEAD) -> list[Entry]:
    """Of ``gone`` counts what ``judge`` has."""
    seq = judge.vector().get(gone.origin, (0, b""))[0]
    ends = [ending(gone.origin, seq)] * (seq > 0) + [ending(any_log(gone.origin.split("/")[0]), 0)]
    said = b'{"Said":{"judge":1}}'
    return bench.put(judge, *(Write(EXPELLED, key, said) for key in ends), now=now, system=True)


@pytest.mark.parametrize("role", ["lan", "cloud", "shared cloud"])
def test_who_is_out_is_out_at_once_and_the_clock_does_not_move(bench: Bench, role: str) -> None:
    judge, gone, other = bench.make("judge"), bench.make("gone"), bench.make("other")
    if role != "lan":
        with other.group():
            trust(other.connection, cluster_of(CA), CA)
            if role == "shared cloud":
                trust(other.connection, cluster_of(CA[::-1]), CA[::-1])
    bench.apply(judge, bench.put(gone, doc("k", b'{"v":1}')))
    bench.put(gone, doc("k", b'{"v":2}'), now=NOW + 1)
    bench.apply(other, entries(gone), cloud=role != "lan")
    word = expels(bench, judge, gone)
    before = other.high_mark_ms()
    outcome = bench.apply(other, word, cloud=role != "lan")
    assert outcome.counts == {"held-clock": 2}
    assert (list(other.held()), other.high_mark_ms()) == ([judge.origin], before)
    out = role != "shared cloud"
    assert other.expelled() == Documents(other.connection).expelled() == ({"gone"} if out else set())
    assert other.get("users", "k") == (b'{"v":1}' if out else b'{"v":2}')
    assert other.vector()[gone.origin][0] == (1 if out else 2)
    assert bench.apply(other, entries(gone)[1:]).counts == ({"expelled": 1} if out else {"duplicate": 1})


def test_it_is_heard_where_there_is_no_room_for_what_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "HELD_ENTRIES_MAX", 1)
    judge, gone, other = bench.make("judge"), bench.make("gone"), bench.make("other")
    bench.apply(judge, bench.put(gone, doc("k")))
    waits = [bench.put(judge, doc(key), now=AHEAD)[0] for key in ("one", "two")]
    outcome = bench.apply(other, [*waits, *expels(bench, judge, gone)])
    assert outcome.counts == {"held-clock": 1, "held-full": 3}
    assert other.expelled() == {"gone"}


def test_what_is_held_of_a_log_of_which_nothing_else_is_said_goes(bench: Bench) -> None:
    judge, gone, other = bench.make("judge"), bench.make("gone"), bench.make("other")
    bench.apply(other, bench.put(gone, doc("k"), now=NOW + DRIFT_MS_MAX + 5_000))
    assert gone.origin in other.held()
    bench.apply(other, expels(bench, judge, gone, NOW))
    assert gone.origin not in other.held()
    assert held.list_held(other.connection) == []
    assert other.reopen(other, NOW).held() == {}


@pytest.mark.parametrize("due", ["by a person", "by time, with what it ends"])
def test_once_a_word_is_let_in_that_was_not_heard_nothing_of_the_one_that_is_out_is_left(
    bench: Bench, due: str
) -> None:
    """Files that an earlier release has written may hold one."""
    judge, gone, other = bench.make("judge"), bench.make("gone"), bench.make("other")
    bench.apply(other, bench.put(gone, doc("k")))
    with patch.object(Applier, "_hear_of_expulsion", lambda *_, **__: None):
        bench.apply(other, expels(bench, judge, gone))
    assert other.expelled() == set()
    if due != "by a person":
        bench.apply(other, bench.put(gone, doc("k", b'{"v":2}'), doc("l"), now=AHEAD + 1))
        assert len(other.held()) == 2
    with other.group():
        other.release_held(AHEAD, accepted=judge.origin if due == "by a person" else "")
    assert other.held() == {}
    assert (other.expelled(), other.get("users", "k"), gone.origin in other.vector()) == (
        {"gone"},
        None,
        False,
    )


def test_what_an_expelled_node_alone_has_taken_keeps_nobody_from_going_back(bench: Bench) -> None:
    a, gone, other = bench.make("a"), bench.make("gone"), bench.make("other")
    bench.apply(other, bench.put(a, doc("k")))
    bench.apply(gone, entries(a))
    ahead = bench.put(a, doc("k", b'{"v":2}'), now=AHEAD)
    bench.apply(gone, ahead, now=AHEAD)
    said = Member(gone.origin, 1, NOW, {a.origin: 2})
    with a.group():
        a.remember_members([said], NOW, cloud=False)
    with pytest.raises(InvalidError, match="others have taken"), a.group():
        a.reset_clock(bench.request(), b"e" * 32, NOW)
    bench.apply(a, expels(bench, other, gone, NOW))
    with a.group():
        assert a.reset_clock(bench.request(), b"e" * 32, NOW).written == 1
    bench.apply(other, entries(a))
    assert (other.vector(), other.get("users", "k")) == (a.vector(), b'{"v":2}')
