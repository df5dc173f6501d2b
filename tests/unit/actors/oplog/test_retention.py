"""The oplog actor's decisions about forgetting, against a store that does as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from entgldb.actors.oplog.retention import ANSWER_SECONDS, Retention
from entgldb.messages import client
from entgldb.messages.administration import RetireNode, UnpinCluster
from entgldb.messages.client import RequestId, Write
from entgldb.messages.local.actors import Configure, PinCluster
from entgldb.messages.local.members import (
    Collect,
    Collected,
    NoteSelf,
    Prune,
    Pruned,
    RememberMembers,
    Settled,
)
from entgldb.messages.model import Entry
from entgldb.messages.schema import Json
from entgldb.messages.settings import OplogSettings
from entgldb.messages.wire import Member
from tests.support.fake_context import FakeAsker, FakeContext
from tests.unit.actors.oplog.keeper_rig import oplog as oplog_of
from tests.unit.actors.store.test_store_keeper import Bench

HOURS = 0.01
"""36 seconds."""
B, C = "b/" + "b" * 32, "c/" + "c" * 32


class Node:
    """Store and oplog of one node; the test tells the vectors of others by hand."""

    def __init__(self, role: str = "lan") -> None:
        self.bench = Bench(role=role)
        self.store = self.bench.store
        self.settings = OplogSettings("n1", "", role=role, retention_hours=HOURS)
        self.ctx = FakeContext(wall_ms=self.bench.ctx.now_ms())
        self.oplog = oplog_of(self.settings, log=self.store)
        self.ctx.behaviour = self.oplog
        self.steps: list[Prune | Collect] = []
        self.words: list[dict[str, int]] = []
        """What sync was told that all have."""
        self.answers = True
        self.beats: dict[str, int] = {}
        self.oplog.start(self.ctx)

    def configure(self, **changed: Any) -> None:
        """The configuration is read again, with these settings."""
        self.settings = replace(self.settings, **changed)
        self.oplog.on_configure(Configure(oplog=self.settings), self.ctx)

    @property
    def origin(self) -> str:
        return self.store.origin

    def write(self, *keys: str, body: bytes | None = b"{}") -> None:
        self.bench.ask(*(self.bench.put(key, body) for key in keys))

    def say(
        self,
        origin: str,
        vector: Mapping[str, int],
        unsettled: dict[str, int] | None = None,
        cluster: str = "",
    ) -> None:
        """A member's row comes."""
        self.beats[origin] = self.beats.get(origin, 0) + 1
        self.same_time()
        row = Member(origin, self.beats[origin], self.ctx.now_ms(), dict(vector), 0, cluster, unsettled)
        self.bench.ask(RememberMembers((row,)))

    def same_time(self) -> None:
        """The store's clocks are oplog's."""
        self.bench.ctx._wall_ms, self.bench.ctx._now = self.ctx._wall_ms, self.ctx._now

    def step(self, milliseconds: int) -> None:
        """The wall clock, and nothing else, is set."""
        self.ctx._wall_ms += milliseconds

    def run(self, seconds: float) -> None:
        """Time passes; every step is carried out and answered."""
        for _ in range(int(seconds * 2)):
            self.ctx.run(0.5)
            self.words += [m.vector for _, m in self.ctx.told if isinstance(m, Settled)]
            while steps := [m for _, m in self.ctx.told if isinstance(m, (Prune, Collect))]:
                self.words += [m.vector for _, m in self.ctx.told if isinstance(m, Settled)]
                self.ctx.told.clear()
                self.steps += steps
                self.same_time()
                self.bench.ask(*steps)
                done = [m for _, m in self.bench.ctx.told if isinstance(m, (Pruned, Collected))]
                self.bench.ctx.told.clear()
                for answer in done if self.answers else []:
                    self.ctx.hand(answer)

    @property
    def entries(self) -> Json:
        return self.store.status()["oplog_entries"]

    @property
    def tombstones(self) -> int:
        rows = self.store.connection.execute("SELECT count(*) FROM _entgldb_documents WHERE body IS NULL")
        return int(rows.fetchone()[0])

    def report(self) -> dict[str, Json]:
        asker = FakeAsker()
        self.ctx.asker = asker
        self.oplog.on_status(client.Status(), self.ctx)
        self.ctx.asker = None
        (answer,) = asker.answers
        assert isinstance(answer, client.Report)
        return answer.body


def test_alone_what_is_old_goes_and_what_is_young_stays() -> None:
    node = Node()
    node.write("k1", "k2")
    node.write("k1", body=None)
    node.run(30.0)
    assert node.entries == 3
    node.run(20.0)
    assert (node.entries, node.tombstones) == (0, 0)


def test_an_idle_node_asks_its_store_for_nothing() -> None:
    node = Node()
    node.write("k1")
    node.run(120.0)
    node.steps.clear()
    node.run(600.0)
    assert node.steps == []


def test_what_a_member_lacks_stays_however_old_and_says_for_whom() -> None:
    node = Node()
    node.write("k1", "k2", "k3")
    node.write("k2", body=None)
    node.say(B, {node.origin: 4})
    node.say(C, {node.origin: 1})
    node.run(120.0)
    assert (node.entries, node.tombstones) == (3, 1)
    assert node.report()["held_back_by"] == {
        "c": {"entries": 3, "tombstones": 1, "since": node.store.members()["c"].heard_ms}
    }
    node.say(C, {node.origin: 4})
    node.run(120.0)
    assert (node.entries, node.tombstones) == (0, 0)
    assert node.report()["held_back_by"] == {}


def test_a_tombstone_waits_until_we_have_what_its_witnesses_have() -> None:
    node = Node()
    node.write("k1")
    node.write("k1", body=None)
    node.say(B, {node.origin: 2, B: 1})
    node.run(120.0)
    assert (node.entries, node.tombstones) == (0, 1)
    assert not any(node.words), "nor is it said that all have it"
    assert node.report()["tombstones_wait_for"] == [B]
    other = Bench("b", seed=b"\2" * 32)
    other.ask(other.put("k2"))
    with node.store.group():
        row = other.store.rows(1, 1)[0]
        header = row.header.replace(other.store.origin.encode(), B.encode())
        node.store.apply([Entry(header, row.body)], node.ctx.now_ms())
    node.run(60.0)
    assert node.tombstones == 0


def test_a_retired_node_holds_nothing_back_once_all_others_know() -> None:
    node = Node()
    node.write("k1")
    node.say(B, {node.origin: 1})
    node.say(C, {})
    node.run(120.0)
    assert node.entries == 1
    node.bench.ask(RetireNode(node.bench.request(), "c"))
    node.run(60.0)
    assert node.entries == 2, "b does not know of it yet"
    node.say(B, {node.origin: 2})
    node.run(120.0)
    assert node.entries == 0


def test_a_listed_cloud_peer_counts_though_it_was_never_heard_and_a_removed_one_does_not() -> None:
    node = Node()
    node.bench.ask(node.bench.cloud_peer(), NoteSelf())
    node.write("k1")
    node.run(120.0)
    assert node.entries == 3
    assert node.report()["held_back_by"]["cloud"]["since"] is None
    node.bench.ask(client.RemovePeer(node.bench.request(), "cloud"))
    node.say("cloud/" + "d" * 32, {})
    node.run(120.0)
    assert node.entries == 0


def test_a_cloud_node_waits_for_every_node_it_has_heard() -> None:
    node = Node("cloud")
    node.write("k1")
    node.say(B, {})
    node.run(120.0)
    assert node.entries == 1
    node.say(B, {node.origin: 1})
    node.run(120.0)
    assert node.entries == 0


def test_a_log_beyond_its_size_is_pruned_of_what_all_have_however_young() -> None:
    node = Node()
    node.configure(retention_hours=24.0, retention_bytes=1)
    node.write("k1", "k2")
    node.say(B, {node.origin: 1})
    node.run(2 * Retention(node.store, node.settings).interval + 1)
    assert node.entries == 1


def test_a_step_that_is_never_answered_is_asked_for_again() -> None:
    node = Node()
    node.answers = False
    node.write("k1")
    node.write("k1", body=None)
    node.run(ANSWER_SECONDS + 60.0)
    node.answers = True
    node.run(2 * ANSWER_SECONDS + 10.0)
    assert (node.entries, node.tombstones) == (0, 0)


def deleted(node: Node) -> None:
    """k1 was put and deleted, and nobody but this node has it."""
    node.write("k1")
    node.write("k1", body=None)


def test_a_cloud_keeps_a_delete_for_however_long_until_its_cluster_says_that_all_have_it() -> None:
    node = Node("cloud")
    node.configure(absence_limit=0.02)
    deleted(node)
    node.run(300.0)
    assert (node.entries, node.tombstones) == (0, 1), "nobody was ever heard"
    node.say(B, {node.origin: 2}, {node.origin: 1}, cluster="c")
    node.run(300.0)
    assert node.tombstones == 1, "somebody lacks it whom only b knows"
    since = node.store.members()[B].heard_ms
    assert node.report()["held_back_by"] == {"c": {"entries": 0, "tombstones": 1, "since": since}}
    node.say(B, {node.origin: 2, B: 1}, {}, cluster="c")
    node.run(60.0)
    assert node.tombstones == 1, "what b had when it said so is not here"
    node.say(B, {node.origin: 2}, {}, cluster="c")
    node.run(60.0)
    assert node.tombstones == 0
    assert node.words[-1] == {node.origin: 2}


def test_a_cloud_waits_for_each_of_its_clusters_until_one_is_given_up() -> None:
    node = Node("cloud")
    deleted(node)
    node.say(B, {node.origin: 2}, {}, cluster="c")
    node.say(C, {node.origin: 1}, {}, cluster="d")
    node.run(120.0)
    assert node.tombstones == 1
    node.same_time()
    (done,) = node.bench.ask(UnpinCluster("d"))
    assert done == client.Report({"cluster": "d", "client_id": ""})
    (refused,) = node.bench.ask(UnpinCluster("d"))
    assert isinstance(refused, client.Refused)
    node.run(60.0)
    assert node.tombstones == 0


def test_of_two_clusters_the_one_that_a_cloud_serves_counts() -> None:
    node = Node("cloud")
    deleted(node)
    node.bench.ask(PinCluster(1, "c", "client"))
    node.say(C, {node.origin: 2, C: 1}, {node.origin: 1}, cluster="before")
    node.say(B, {node.origin: 2}, {}, cluster="c")
    node.run(120.0)
    assert node.tombstones == 0


def test_a_node_waits_for_the_word_of_a_cloud_which_knows_others_and_gives_its_own_before() -> None:
    node = Node()
    node.bench.ask(node.bench.cloud_peer(), NoteSelf())
    deleted(node)
    vector = {node.origin: 4}
    node.say("cloud/" + "d" * 32, vector)
    node.run(120.0)
    assert (node.entries, node.tombstones, node.words[-1]) == (0, 1, vector)
    assert list(node.report()["held_back_by"]) == ["cloud"]
    node.say("cloud/" + "d" * 32, vector, {})
    node.run(60.0)
    assert node.tombstones == 0


def test_waiting_tombstones_are_not_looked_through_while_no_more_of_them_may_go() -> None:
    node = Node()
    deleted(node)
    node.say(B, {node.origin: 1})
    node.run(120.0)
    node.steps.clear()
    for number in range(9):
        node.say(C, {node.origin: 2, C: number})
        node.run(60.0)
    assert [step for step in node.steps if isinstance(step, Collect)] == []
    assert node.tombstones == 1


def test_what_waited_for_the_quarantine_to_be_empty_goes_when_it_is() -> None:
    node = Node()
    deleted(node)
    node.store.state.unfit = 1
    node.run(120.0)
    assert (node.entries, node.tombstones) == (0, 1)
    node.store.state.unfit = 0
    node.run(60.0)
    assert node.tombstones == 0


MONTH_MS, TO_1970_MS = 31 * 24 * 3_600_000, -1_800_000_000_000


@pytest.mark.parametrize("step", [MONTH_MS, TO_1970_MS])
def test_a_step_of_the_wall_clock_makes_nobody_absent_and_nothing_old(step: int) -> None:
    node = Node()
    node.write("k1", "k2")
    node.write("k1", body=None)
    node.say(B, {node.origin: 2})
    node.run(10.0)
    node.step(step)
    node.run(10.0)
    assert (node.entries, node.tombstones) == (3, 1)
    node.step(-step)
    node.run(120.0)
    assert (node.entries, node.tombstones) == (1, 1)
    node.step(step)
    node.say(B, {node.origin: 3})
    node.run(60.0)
    assert (node.entries, node.tombstones) == (0, 0)


def test_who_is_silent_for_the_limit_of_this_nodes_life_is_absent_though_its_clock_is_in_1970() -> None:
    node = Node()
    node.configure(absence_limit=0.02)
    node.step(TO_1970_MS)
    node.write("k1")
    node.say(B, {})
    node.run(60.0)
    assert node.entries == 1
    node.run(60.0)
    assert node.entries == 0


def away_beyond_the_limit() -> Node:
    """A node that deleted k1, of which B lacks the delete and was silent since; C has it."""
    node = Node()
    node.write("k1")
    node.say(B, {node.origin: 1})
    node.configure(absence_limit=0.02)
    node.write("k1", body=None)
    for _ in range(4):
        node.say(C, {node.origin: 2})
        node.run(30.0)
    return node


def test_of_what_an_absent_member_lacks_the_log_goes_and_the_tombstone_stays_and_says_for_whom() -> None:
    node = away_beyond_the_limit()
    assert (node.entries, node.tombstones) == (0, 1)
    since = node.store.members()["b"].heard_ms
    assert node.report()["held_back_by"] == {"b": {"entries": 0, "tombstones": 1, "since": since}}
    node.say(B, {node.origin: 2})
    node.run(60.0)
    assert node.tombstones == 0
    assert node.report()["held_back_by"] == {}


def test_of_an_absent_member_that_is_retired_no_tombstone_is_kept_whatever_it_wrote_last() -> None:
    node = away_beyond_the_limit()
    node.say(B, {node.origin: 2, B: 7})
    node.run(60.0)
    assert node.tombstones == 1, "its writes may be older puts, and are not here"
    node.bench.ask(RetireNode(node.bench.request(), "b"))
    node.say(C, {node.origin: 3})
    node.run(60.0)
    assert node.tombstones == 0


def test_what_the_store_committed_of_its_life_is_not_lived_again_after_a_restart() -> None:
    node = Node()
    node.write("k1")
    node.say(B, {})
    node.run(100.0)
    before = node.store.lived_ms()
    assert before > 0
    again = FakeContext(wall_ms=0)
    retention = Retention(node.store, node.settings)
    retention.look(again)
    again.run(50.0)
    assert retention._lived_ms(again) == before + 50_000


@pytest.mark.parametrize("rows", [4500])
def test_many_rows_go_in_bounded_steps(rows: int) -> None:
    node = Node()
    for first in range(0, rows, 500):
        request = RequestId(b"d" * 16, first)
        writes = tuple(Write("users", f"k{number}", b"{}") for number in range(first, first + 500))
        node.bench.ask(client.Commit(request, writes))
    node.run(60.0)
    prunes = [step for step in node.steps if isinstance(step, Prune)]
    assert node.entries == 0
    assert len(prunes) >= 3
