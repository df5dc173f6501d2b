"""A node is expelled: whoever learns of it in whatever order, all others agree, and what it wrote since is
nowhere."""

from __future__ import annotations

import os
from random import Random
from typing import ClassVar

import pytest

from entgldb.actors.store.members import expulsions
from entgldb.launch.testing.network import Weather
from entgldb.messages.administration import ExpelNode
from entgldb.messages.client import RequestId
from entgldb.messages.errors import Reason
from entgldb.messages.model import EXPELLED, NODES, node_of
from entgldb.storage.authorship import words
from entgldb.storage.authorship.identity import Why
from entgldb.storage.file.state import State
from entgldb.storage.rules.ended import ending
from tests.simulation.events.faults import Nobody
from tests.simulation.events.times import MONTH_MS
from tests.simulation.run import Run, initial_peer
from tests.simulation.test_calm import quiet, start
from tests.simulation.world.node import SimulatedNode

SEEDS = range(1, 1 + int(os.environ.get("ENTGLDB_EXPELLING_SEEDS", "4")))
UNHEARD = 624
"""A seed: two expel it and are cut off from each other, and the one of them is expelled by it, and heard by
nobody."""
PROVED = 1612
"""A seed: two expel each other, and the only proof of an end was in the word of one that is out. A node
without it gave what was written upon that log, and not the log."""
EFFECTIVE_SECONDS = 5.0
MUTUAL_SEEDS = 4
"""In every so many-th seed the node that is expelled expels the one that does it, at the same time."""
ALONE, ALONE_SEEDS = 7, 8
"""In such seeds, where the other node hears nothing of a log, it expels nobody."""
TWICE_SEEDS = 3
"""In every so many-th seed two nodes expel it, each without knowing of the other."""
SETTLED_SECONDS = 60.0
TABLES = ("_entgldb_documents", "_entgldb_conflicts")


class Expelling:
    """One history: writes, cuts, an expulsion, and the peace after it."""

    tables: ClassVar[tuple[str, ...]] = TABLES

    def __init__(self, seed: int, run: Run | None = None) -> None:
        self.seed, self.random = seed, Random(seed)
        self.run = run = run or Run(seed, options=quiet(5))
        start(run)
        while not all(len(node.store.documents(NODES)) == len(run.lan) for node in run.lan):
            run.world.run(0.5)
            assert run.world.time < 60
        run.network.weather = Weather(latency=0.005, loss=self.random.choice([0.0, 0.05]), duplication=0.05)
        names = self.random.sample(run.lan, 3)
        self.gone, self.judge, self.other = names
        self.ends: dict[tuple[str, str], int] = {}
        """Expeller and log of the one that goes -> the last seq that it knew when it said so."""
        self.pair = {self.gone.name}
        """Those of whom somebody says that they are out."""
        self.said_at = self.healed_at = 0.0
        self.near: set[str] = set()
        """Those that the expelling node reached when it said so."""
        self.back_at: dict[str, float] = {}
        """When another was first seen to be linked with one that knows."""
        self.effective_at: dict[str, float] = {}
        """When each was first seen to know it, without a link with the one that is out."""

    def run_and_look(self, seconds: float) -> None:
        """Let time pass, and note who knows meanwhile."""
        self.run.world.run(seconds)
        now, lan = self.run.world.time, self.run.lan
        known = {node.name for node in lan if self.said_at and self.gone.name in node.log.expelled()}
        for node in lan:
            with_whom = linked(self.run, node) if known else set()
            if node.name not in self.near and self.healed_at and with_whom & known:
                self.back_at.setdefault(node.name, now)
            if node.name in known and self.gone.name not in with_whom:
                self.effective_at.setdefault(node.name, now)

    def waits(self) -> tuple[float, float]:
        """Seconds until it was effective: of those that were reached, and of those that came back.

        Of two that expel each other the word of one need not count.
        """
        if len(self.pair) > 1:
            return 0.0, 0.0
        names = {node.name for node in self.left()}
        near = [self.effective_at[name] - self.said_at for name in names & self.near]
        far = [self.effective_at[name] - at for name, at in self.back_at.items() if name in names]
        return max([0.0, *near]), max([0.0, *far])

    def left(self) -> list[SimulatedNode]:
        return [node for node in self.run.lan if node.name not in self.out]

    def end_of(self, origin: str) -> int:
        """The last seq that counts of a log of the one that goes: the least that was said of it.

        The word of an expeller that is out itself counts where one that stays has heard it in time.
        """
        told = {key for node in self.left() for key, _ in node.store.documents(EXPELLED)}
        told_of = [(judge, seq) for (judge, log), seq in self.ends.items() if log == origin]
        counts = [seq for judge, seq in told_of if judge not in self.out or ending(origin, seq) in told]
        return min(counts, default=0)

    @property
    def out(self) -> frozenset[str]:
        """Those of whom all others say so. Of two that expel each other each may be heard first, or both."""
        return next(node for node in self.run.lan if node.name not in self.pair).log.expelled()

    def write(self, seconds: float) -> None:
        """All write for so long, the one that goes too."""
        for number in range(int(seconds * 4)):
            for client in self.run.clients:
                client.write_now(f"{self.random.choice('abcdefgh')}{number % 3}")
            self.run_and_look(0.25)

    def cut(self) -> None:
        """Some nodes are cut off from the others."""
        near = {node.name for node in self.run.lan if self.random.random() < 0.5}
        self.run.network.cuts = {
            (one.name, two.name)
            for one in self.run.lan
            for two in self.run.lan
            if (one.name in near) is not (two.name in near)
        }

    def expel(self, judge: SimulatedNode, gone: SimulatedNode) -> None:
        if gone is self.gone:
            for origin, (seq, _) in judge.store.vector().items():
                if node_of(origin) == gone.name:
                    self.ends[judge.name, origin] = seq
            if not self.said_at:
                cut = self.run.network.cuts
                self.near = {one.name for one in self.run.lan if (judge.name, one.name) not in cut}
                self.said_at = self.run.world.time
        order = ExpelNode(RequestId(self.random.randbytes(16), 1), gone.name)
        judge.ask("store", order, Nobody())

    def play(self) -> None:
        self.write(1.0)
        if self.random.random() < 0.75:
            self.cut()
        self.write(1.0)
        self.expel(self.judge, self.gone)
        if self.seed % TWICE_SEEDS == 0:
            self.expel(self.other, self.gone)
        if self.seed % MUTUAL_SEEDS == 0:
            self.expel(self.gone, self.judge)
            self.pair.add(self.judge.name)
        self.write(3.0)
        self.heal()

    def heal(self) -> None:
        """All reach each other again, and nobody writes any more."""
        self.run.network.cuts, self.healed_at = set(), self.run.world.time
        self.write(1.0)
        for client in self.run.clients:
            client.stopped = True
        self.settle()

    def settle(self) -> None:
        """Within a minute all that stay agree, and each has heard of it in time."""
        began = self.run.world.time
        while (why := self.differs()) and self.run.world.time - began < SETTLED_SECONDS:
            self.run_and_look(0.5)
        assert not why, f"seed {self.seed}: {why}"
        # a link that was begun meanwhile ends at a heartbeat
        while (
            len(self.pair) == 1 and not self.back_at.keys() | self.near <= self.effective_at.keys() | self.out
        ):
            self.run_and_look(0.25)
            assert self.run.world.time - began < SETTLED_SECONDS, f"seed {self.seed}: {self.effective_at}"
        assert max(self.waits()) <= EFFECTIVE_SECONDS, f"seed {self.seed}: effective after {self.waits()} s"

    def differs(self) -> str:
        """What is not as it shall be."""
        if not self.out or not self.out <= self.pair:
            return f"out are {sorted(self.out)} of {sorted(self.pair)}"
        first, *others = self.left()
        for node in (first, *others):
            if node.log.expelled() != self.out:
                return f"{node.name} takes {sorted(node.log.expelled())} for expelled, not {sorted(self.out)}"
            if linked := links(self.run, node) & self.out:
                return f"{node.name} is linked with {linked}"
            for origin, (seq, _) in node.store.vector().items():
                if node_of(origin) == self.gone.name in self.out and seq > (end := self.end_of(origin)):
                    return f"{node.name} has {origin} up to {seq}, and not {end}"
        for node in others:
            if node.store.vector() != first.store.vector():
                return f"{node.name} and {first.name} have different logs"
            for table in self.tables:
                if rows(node, table) != rows(first, table):
                    return f"{node.name} and {first.name} differ in {table}"
        return self.cloud_differs()

    def cloud_differs(self) -> str:
        first = self.left()[0]
        for cloud in self.run.clouds:
            if cloud.log.expelled() != self.out or cloud.store.vector() != first.store.vector():
                return f"{cloud.name} takes {sorted(cloud.log.expelled())} for expelled, or has other logs"
            for table in self.tables:
                ours, theirs = (
                    [row for row in rows(node, table) if row[0] == "users"] for node in (cloud, first)
                )
                if ours != theirs:
                    return f"{cloud.name} and {first.name} differ in {table}"
        return ""


def know_clouds(run: Run) -> None:
    """Every node has all cloud peers in its configuration."""
    for node in run.lan:
        node.initial_peers = tuple(map(initial_peer, run.clouds))


def rows(node: SimulatedNode, table: str) -> list[tuple[object, ...]]:
    """What a reader sees, with the versions."""
    return node.store.connection.execute(
        f"SELECT t.collection, t.key, o.name, t.seq, t.body FROM {table} t"
        " JOIN _entgldb_origins o ON o.id = t.origin WHERE t.body IS NOT NULL ORDER BY 1, 2, 3, 4"
    ).fetchall()


@pytest.mark.parametrize("ahead_ms", [0, MONTH_MS])
def test_a_cloud_learns_it_by_the_gateway_and_the_one_that_is_out_keeps_what_it_has(ahead_ms: int) -> None:
    """``ahead_ms``: of the clock of the one that expels it."""
    run = Run(1, options=quiet(3, cloud=True))
    assert run.cloud is not None
    know_clouds(run)
    start(run)
    # with the greatest rank it would speak with the cloud
    gone, judge, other = run.lan
    judge.clock.offset_ms = ahead_ms
    judge.ask("store", ExpelNode(RequestId(bytes(16), 1), gone.name), Nobody())
    run.world.run(EFFECTIVE_SECONDS)
    assert run.cloud.log.expelled() == {gone.name}
    assert all(gone.name not in links(run, node) for node in run.lan)
    assert list(other.store.held()) == ([judge.origin] if ahead_ms else [])
    run.clients[0].write_now("late")
    run.world.run(60.0)
    assert gone.store.known("users", "late")
    assert not gone.log.expelled()
    assert not any(node.store.known("users", "late") for node in (*run.lan[1:], run.cloud))
    assert run.cloud.all_counts()[Reason.EXPELLED.value] > 0
    run.close()


def linked(run: Run, node: SimulatedNode) -> set[str]:
    """With whom a node has an open link, without asking it."""
    ends = [end.other for end in run.network.ends.values() if end.place is node]
    return {other.place.name for other in ends if other is not None and other.open}


def links(run: Run, node: SimulatedNode) -> set[str]:
    return {peer["node_id"] for peer in (run._ask(node, "sync") or {})["peers"]}


@pytest.mark.parametrize("seed", [*SEEDS, UNHEARD, PROVED])
def test_all_that_stay_agree_on_who_is_out_and_on_what_it_wrote(seed: int) -> None:
    history = Expelling(seed)
    history.play()
    history.run.close()


class Unknown(Expelling):
    """The one that goes begins a new log where one of the two that expel it does not hear of it.

    Every second one has a cloud, which hears of both expulsions by the gateways.
    """

    def __init__(self, seed: int) -> None:
        run = Run(seed, options=quiet(5, cloud=seed % 2 == 1))
        know_clouds(run)
        super().__init__(seed, run)

    def play(self) -> None:
        self.write(1.0)
        far = {self.other.name} | {n.name for n in self.run.lan if self.random.random() < 0.5}
        far -= {self.gone.name, self.judge.name}
        near = {node.name for node in self.run.lan} - far
        self.run.network.cuts = {pair for a in near for b in far for pair in ((a, b), (b, a))}
        with self.gone.store.group():
            entropy, now_ms = self.random.randbytes(32), self.gone.clock.now_ms()
            self.gone.store.incarnations.reincarnate(entropy, Why.CLOCK, now_ms)
        self.write(2.0)
        self.expel(self.judge, self.gone)
        if self.seed % ALONE_SEEDS != ALONE:
            self.expel(self.other, self.gone)
        if self.seed % MUTUAL_SEEDS == 3:
            self.expel(self.gone, self.judge)
            self.pair.add(self.judge.name)
        self.write(self.random.choice((0.5, 2.0)))
        self.heal()


@pytest.mark.parametrize("seed", [3, 4])
def test_all_agree_on_a_log_that_not_every_expeller_knows(seed: int) -> None:
    history = Unknown(seed)
    history.play()
    ends = {log for _, log in history.ends}
    known = [{one for one in ends if one in node.store.vector()} for node in history.left()]
    assert known == [ends] * len(known)
    assert len(ends) == 2
    history.run.close()


def test_a_cloud_goes_by_no_word_that_no_member_has_heard() -> None:
    """Two expel each other, and the one that all others hear second has told it the cloud as gateway."""
    history = Unknown(15)
    history.play()
    assert history.out == {history.gone.name}
    history.run.close()


@pytest.mark.parametrize(
    ("kind", "seed", "place", "name", "mistake"),
    [
        (Expelling, 1, State, "end_of", lambda state, origin: None),
        (Expelling, 4, expulsions, "say_again", lambda keeper, ctx: None),
        (Unknown, 3, State, "may_still_come", lambda state, version: False),
        (Unknown, 19, words, "take_back", lambda connection, state: None),
    ],
    ids=[
        "what it wrote since counts",
        "said once",
        "who did not know a log has said that it ends",
        "a cloud goes by what only one that is out has said",
    ],
)
def test_a_mistake_in_the_rule_is_noticed(
    kind: type[Expelling],
    seed: int,
    place: object,
    name: str,
    mistake: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, name, mistake)
    history = kind(seed)
    with pytest.raises(AssertionError, match=f"seed {seed}"):
        history.play()
    history.run.close()
