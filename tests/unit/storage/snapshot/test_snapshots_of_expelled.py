"""A snapshot meets entries of a node that was expelled: what it has written since counts nowhere."""

from __future__ import annotations

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import COUNT_MAX
from entgldb.messages.model import EXPELLED, KEYS, NODES, REMOTE_PEERS, Entry
from entgldb.storage.authorship.authors import trust
from entgldb.storage.rules.authorship import cluster_of
from entgldb.storage.rules.ended import any_log, ending
from tests.contract.test_expelled_ahead import CA
from tests.support.merging import install_whole, left_by_a_merge
from tests.unit.storage.snapshot.snapshots import forget, send, staged
from tests.unit.storage.snapshot.test_snapshot_histories import exact
from tests.unit.storage.snapshot.test_snapshots import NOW, Side

pytestmark = pytest.mark.usefixtures("either_way")


def expel(judge: Side, gone: str, **heads: int) -> None:
    ends = [*heads.items(), (any_log(gone), 0)]
    writes = [Write(EXPELLED, ending(*end), b'{"Said": {"judge": 1}}') for end in ends]
    with judge.store.group():
        judge.store.write(RequestId(b"e" * 16, 1), writes, NOW + 2, system=True)


@pytest.mark.parametrize("told", [True, False], ids=["its log has an end", "its log was not known"])
def test_a_snapshot_of_those_who_have_expelled_it_takes_out_what_is_here(*, told: bool) -> None:
    gone, judge, away = Side("gone"), Side("judge"), Side("away")
    if told:
        gone.put("early", "1")
        gone.give(judge)
    gone.give(away)
    gone.put("late", "2", now=NOW + 1)
    gone.give(away)
    expel(judge, "gone", **({gone.store.origin: 1} if told else {}))
    judge.put("k", "newer", now=NOW + 3)
    forget(judge.store, tombstones=True)
    send(judge.store, away.store, NOW + 20)
    assert away.shows() == judge.shows()
    assert away.store.vector().get(gone.store.origin) == judge.store.vector().get(gone.store.origin)
    assert away.store.expelled() == {"gone"}
    exact(away.store)


def test_no_snapshot_is_taken_from_one_that_is_out() -> None:
    judge, away, other = Side("judge"), Side("away"), Side("other")
    expel(judge, "gone")
    judge.give(away)
    other.put("k", "1")
    assert send(other.store, away.store, NOW + 20, peer="gone").refused == "expelled"
    assert away.store.vector() == judge.store.vector()
    assert send(other.store, away.store, NOW + 20, peer="other").refused == ""


def test_what_a_snapshot_has_brought_of_it_before_anybody_had_heard_is_an_alarm() -> None:
    gone, judge, unheard, late = Side("gone"), Side("judge"), Side("unheard"), Side("late")
    gone.put("early", "1")
    gone.give(judge)
    gone.put("since", "2", now=NOW + 1)
    gone.give(unheard)
    send(unheard.store, late.store, NOW + 20)
    assert late.store.status()["alarms"] == []
    expel(judge, "gone", **{gone.store.origin: 1})
    judge.give(late)
    (alarm,) = late.store.status()["alarms"]
    assert (alarm["code"], alarm["subject"]) == ("beyond-end", "gone")
    assert "1 writes of gone" in alarm["text"]
    assert judge.store.status()["alarms"] == []
    assert late.store.floors()[gone.store.origin] == 1
    with pytest.raises(EntglError, match=r"more of gone/.* is here than counts"):
        send(late.store, Side("other").store, NOW + 30)


def test_a_snapshot_of_one_that_has_not_heard_is_not_taken_by_one_that_has() -> None:
    gone, judge, unheard = Side("gone"), Side("judge"), Side("unheard")
    gone.put("early", "1")
    gone.give(judge)
    gone.put("since", "2", now=NOW + 1)
    gone.give(unheard)
    expel(judge, "gone", **{gone.store.origin: 1})
    before = judge.shows(), judge.store.vector()
    assert send(unheard.store, judge.store, NOW + 20).refused == "expelled"
    assert (judge.shows(), judge.store.vector()) == before


@pytest.mark.parametrize(
    ("collection", "key", "lacks"),
    [(NODES, "gone", False), (KEYS, "a" * 64, False), (NODES, "b", True), (REMOTE_PEERS, "c", True)],
)
def test_who_lacks_of_it_only_its_own_row_and_its_keys_vouches_for_the_configuration(
    collection: str, key: str, *, lacks: bool
) -> None:
    """A cloud has brought the headers, and nobody who is left has the bodies."""
    gone, judge, late = Side("gone"), Side("judge"), Side("late")
    with gone.store.group():
        write = Write(collection, key, b'{"v": 1}')
        gone.store.write(RequestId(b"g" * 16, 1), [write], NOW, system=True)
    with judge.store.group():
        headers = [Entry(row.header, None, row.signature) for row in gone.store.rows(1, 10)]
        judge.store.apply(headers, NOW, cloud=True)
    assert not judge.store.vouches()
    expel(judge, "gone", **{gone.store.origin: 1})
    assert judge.store.vouches() is not lacks
    send(judge.store, late.store, NOW + 20)
    assert late.store.vouches() is not lacks


def test_one_that_is_out_tells_it_by_the_documents_of_its_snapshot() -> None:
    """It goes by no word about itself, and has it in its file all the same."""
    gone, judge, late, other = Side("gone"), Side("judge"), Side("late"), Side("other")
    gone.put("early", "1")
    gone.give(judge)
    expel(judge, "gone", **{gone.store.origin: 1})
    judge.give(gone)
    assert gone.store.expelled() == set()
    assert send(gone.store, late.store, NOW + 20).refused == ""
    assert late.store.expelled() == {"gone"}
    gone.put("since", "2", now=NOW + 30)
    assert send(gone.store, other.store, NOW + 40).refused == "expelled"
    assert other.store.vector() == {}


def test_nothing_more_is_wanted_of_it_once_all_that_counts_is_here() -> None:
    gone, judge, away = Side("gone"), Side("judge"), Side("away")
    gone.put("early", "1")
    gone.give(judge)
    assert judge.store.wants_no_more() == {}
    expel(judge, "gone", **{gone.store.origin: 1})
    unknown = f"gone/{'7' * 32}"
    assert judge.store.wants_no_more() == {gone.store.origin: COUNT_MAX}
    assert judge.store.wants_no_more([unknown, "else/" + "7" * 32]).keys() == {gone.store.origin, unknown}
    expel(away, "gone", **{gone.store.origin: 1})
    assert away.store.wants_no_more([gone.store.origin]) == {}


def test_a_cloud_keeps_a_word_that_a_snapshot_has_brought_when_another_that_said_it_is_out() -> None:
    """The snapshot covers the entry of the one that stays: the cloud never sees it."""
    gone, judge, stays, cloud = Side("gone"), Side("judge"), Side("stays"), Side("cloud")
    with cloud.store.group():
        trust(cloud.store.connection, cluster_of(CA), CA)
    gone.put("early", "1")
    for one in (judge, stays):
        gone.give(one)
    expel(judge, "gone", **{gone.store.origin: 1})
    tell(cloud, gone, judge)
    expel(stays, "gone", **{gone.store.origin: 1})
    forget(stays.store, tombstones=True)
    with staged(stays.store, NOW + 20, cloud=True) as name:
        done = install_whole(cloud.store, name, b"e" * 32, NOW + 20, cloud=True, ends=False, peer="stays")
    assert done.changes
    with stays.store.group():
        writes = [Write(EXPELLED, ending(any_log("judge"), 0), b'{"Said": {"stays": 1}}')]
        stays.store.write(RequestId(b"e" * 16, 2), writes, NOW + 30, system=True)
    tell(cloud, stays)
    assert judge.store.origin not in cloud.store.vector()
    assert cloud.store.expelled() == {"gone", "judge"}


def tell(cloud: Side, *others: Side) -> None:
    """By the gateway."""
    for other in others:
        rows = [
            Entry(row.header, row.body) for row in other.store.rows(1, 50) if row.origin == other.store.origin
        ]
        with cloud.store.group():
            assert cloud.store.apply(rows, NOW + 30, cloud=True).refused == ""


@pytest.mark.parametrize("apart", [0, 1, 3])
@pytest.mark.parametrize("again", [True, False], ids=["by the log", "by the snapshot"])
def test_a_word_that_comes_and_is_taken_back_between_two_steps_leaves_nothing(
    apart: int, *, again: bool
) -> None:
    """What was taken out by it comes again, by the log or with what is merged."""
    gone, judge, stays, other, cloud = map(Side, ("gone", "judge", "stays", "other", "cloud"))
    with cloud.store.group():
        trust(cloud.store.connection, cluster_of(CA), CA)
    gone.put("early", "1")
    for one in (judge, stays):
        gone.give(one)
    gone.put("since", "2", now=NOW + 1)
    gone.put("early", "2", now=NOW + 2)
    gone.give(stays)
    for number in range(6):
        stays.put(f"k{number}", "3", now=NOW + 3 + number)
    stays.put("since", "4", now=NOW + 9)
    tell(cloud, gone)
    expel(judge, "gone", **{gone.store.origin: 1})
    expel(other, "judge")
    forget(stays.store, tombstones=True)
    steps = iter(range(100))

    def hear() -> None:
        number = next(steps)
        if number == 2:
            tell(cloud, judge)
        if number == 2 + apart:
            tell(cloud, other)
            if again:
                tell(cloud, gone)

    with staged(stays.store, NOW + 20, cloud=True) as name:
        install_whole(
            cloud.store, name, b"e" * 32, NOW + 20, cloud=True, ends=False, peer="stays", between=hear
        )
    if next(steps) == 0:  # it was merged at once
        tell(cloud, judge, other, gone)
    assert cloud.store.expelled() == {"judge"}
    assert cloud.shows() == stays.shows()
    assert cloud.store.vector()[gone.store.origin] == stays.store.vector()[gone.store.origin]
    assert left_by_a_merge(cloud.store) == []
    exact(cloud.store)
