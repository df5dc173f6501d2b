"""The cluster gets new keys: all members come to one, however they hear, and a thief gets in nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

import pytest

from entgldb.actors.store.members import keys
from entgldb.actors.store.members.keys import Keys
from entgldb.actors.sync.members.key_watch import KeyWatch
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import ca_keys, name_of
from entgldb.actors.tls.witness import CaWitness
from entgldb.launch.testing.keys import id_of, keys_of
from entgldb.launch.testing.network import End, Weather
from entgldb.messages.administration import ExpelNode, ResetClock, RotateKey
from entgldb.messages.client import PutPeer, RequestId
from entgldb.messages.errors import Reason
from entgldb.messages.model import NODES
from entgldb.messages.schema import Message
from entgldb.storage.authorship.cluster_keys import KEY_WINDOW_MS, Rotation
from tests.simulation.events.clients import Client
from tests.simulation.events.faults import Nobody
from tests.simulation.run import Run, initial_peer
from tests.simulation.test_calm import quiet, start
from tests.simulation.test_expelling import links, rows
from tests.simulation.world.node import SimulatedNode

SEEDS = range(1, 1 + int(os.environ.get("ENTGLDB_ROTATING_SEEDS", "4")))
SETTLED_SECONDS = 90.0
AHEAD_MS = 3600 * 1000
FOREIGN = 90
"""The number in the name of the machine that has only a copy of the first key."""


class Rotating:
    """One history: new keys, some made at once, members that are away, a machine that was stolen."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, Random(seed)
        self.run = run = Run(seed, options=quiet(5))
        run.network.certified = True
        run.network.weather = Weather(latency=0.005, loss=self.random.choice([0.0, 0.05]), duplication=0.05)
        for node, client in zip(run.lan, run.clients, strict=True):
            node.picky, client.unfit = False, False
            node.start()
        self.until_nothing(self.untold, 60.0)
        self.first = id_of(keys_of(run.lan[0]).keys[0])
        self.stolen, self.judge, self.rival, self.away = self.random.sample(run.lan, 4)
        self.thief = run._node(f"lan-{FOREIGN}", "lan", FOREIGN)
        self.thief.seeds = tuple(node.address for node in run.lan)
        self.expels = bool(seed % 2)
        self.heard: list[tuple[str, float]] = []
        """Members to whom a thief's machine has said something once it was out, and when."""

    def untold(self) -> str:
        for node in self.run.lan:
            bodies = [body for _, body in node.store.documents(NODES)]
            if sum(b'"Box"' in body and b'"Keys"' in body for body in bodies) < len(self.run.lan):
                return f"{node.name} does not know how a key is sealed to each"
        return ""

    def until_nothing(self, differs: Callable[[], str], seconds: float) -> None:
        began = self.run.world.time
        while why := differs():
            assert self.run.world.time - began < seconds, f"seed {self.seed}: {why}"
            self.run.world.run(0.5)

    def left(self) -> list[SimulatedNode]:
        return [node for node in self.run.lan if not (self.expels and node is self.stolen)]

    def order(self, node: SimulatedNode, *, expels: bool) -> None:
        request = RequestId(self.random.randbytes(16), 1)
        order: Message = ExpelNode(request, self.stolen.name) if expels else RotateKey(request)
        node.ask("store", order, Nobody())

    def write(self, seconds: float) -> None:
        for number in range(int(seconds * 4)):
            for client in self.run.clients:
                client.write_now(f"{self.random.choice('abcdefgh')}{number % 3}")
            self.run.world.run(0.25)

    def cut(self) -> None:
        near = {node.name for node in self.run.lan if self.random.random() < 0.5}
        self.run.network.cuts = {
            (one.name, two.name)
            for one in self.run.lan
            for two in self.run.lan
            if (one.name in near) is not (two.name in near)
        }

    def play(self) -> None:
        gone_away = self.random.random() < 0.5
        if gone_away:
            self.away.crash()
        elif self.random.random() < 0.75:
            self.cut()
        self.write(1.0)
        self.order(self.judge, expels=self.expels)
        if self.random.random() < 0.5:
            # neither knows of the other
            self.order(self.rival, expels=False)
        self.write(3.0)
        if self.expels:
            self.thief.start()
        if gone_away and self.random.random() < 0.5:
            for node in self.run.nodes:
                node.clock.offset_ms += KEY_WINDOW_MS
        self.write(1.0)
        self.run.network.cuts = set()
        self.run.world.run(8.0)
        self.none_that_moved_is_linked_with_a_thief()
        self.away.start()
        for client in self.run.clients:
            client.stopped = True
        self.until_nothing(self.differs, SETTLED_SECONDS)
        self.knock()

    def none_that_moved_is_linked_with_a_thief(self) -> None:
        """Others may still come by the first key: members that are away."""
        outside = {self.thief.name, self.stolen.name} if self.expels else set()
        for node in self.left():
            if node.up and id_of(keys_of(node).keys[0]) != self.first:
                found = outside & links(self.run, node)
                assert not found, f"seed {self.seed}: {node.name} has the new key, and a link with {found}"

    def knock(self) -> None:
        """From now on nothing that a thief says is taken by any member."""
        self.thief.start()
        outside = {self.thief.name} | ({self.stolen.name} if self.expels else set())

        def listens(end: End, message: Message) -> None:
            if end.place.name in outside and end.other is not None and end.other.place.name not in outside:
                self.heard.append((end.other.place.name, self.run.world.time))

        self.run.network.overhear = listens
        self.run.world.run(30.0)
        taken = [node.name for node in self.left() if outside & links(self.run, node)]
        assert not taken, f"seed {self.seed}: {taken} have a session with a thief"
        assert self.thief.all_counts()[Reason.TLS_REFUSED.value], "nobody knocked"
        assert not self.differs(), f"seed {self.seed}: {self.differs()}"

    def differs(self) -> str:
        """What is not as it shall be."""
        first, *others = self.left()
        counts = keys_of(first).keys
        for node in self.left():
            held = keys_of(node).keys
            if held != counts or len(held) > 1:
                return f"{node.name} holds {len(held)} keys, and others than {first.name}"
            rotation = node.log.rotation()
            if rotation is None or rotation.key_id != id_of(held[0]):
                return f"{node.name} has taken another key than the one that counts"
            if self.expels and self.stolen.name in rotation.sealed:
                return f"the key that counts was made for {self.stolen.name}, too"
            if self.thief.name in links(self.run, node):
                return f"{node.name} is linked with a machine that has a copy of the first key"
        if self.expels and counts[0] in keys_of(self.stolen).keys:
            return f"{self.stolen.name} was expelled and has the key"
        for node in others:
            if rows(node, "_entgldb_documents") != rows(first, "_entgldb_documents"):
                return f"{node.name} and {first.name} show different documents"
        return ""


@pytest.fixture
def histories() -> Iterator[list[Rotating]]:
    made: list[Rotating] = []
    yield made
    for history in made:
        history.run.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_all_members_come_to_one_key_and_a_thief_gets_in_nowhere(
    seed: int, histories: list[Rotating]
) -> None:
    histories.append(history := Rotating(seed))
    history.play()


def test_links_stay_when_the_key_changes(histories: list[Rotating]) -> None:
    histories.append(history := Rotating(2))
    run = history.run
    run.world.run(5.0)
    before = set(run.network.ends)
    history.order(history.judge, expels=False)
    history.until_nothing(history.differs, 30.0)
    run.world.run(10.0)
    assert set(run.network.ends) == before


def a_newcomer_makes_the_key_while_one_is_away(history: Rotating) -> None:
    """The one that is away knows nothing of it, and its word for the writer is by the new key alone."""
    run = history.run
    history.away.crash()
    newcomer = history.thief
    newcomer.start()
    run.world.run(20.0)
    write = Client(run.world, newcomer, run.acks, keys=5, think=1.0)
    write.write_now("before")
    run.lan.append(newcomer)
    history.order(newcomer, expels=False)
    run.world.run(20.0)
    write.write_now("after")
    for node in run.lan:
        node.clock.offset_ms += KEY_WINDOW_MS
    run.world.run(2.0)
    history.away.start()
    run.world.run(40.0)
    assert history.away.store.known("users", "before")
    assert history.away.store.known("users", "after")
    assert keys_of(history.away).keys == keys_of(newcomer).keys


def let_in_where_nobody_had_heard(history: Rotating) -> None:
    """A machine with a copy of the first key comes to those who are cut off, and one member stays away."""
    run, (near, *_) = history.run, history.left()
    history.away.crash()
    run.network.cuts = {
        pair for node in run.lan if node is not history.judge for pair in ((node.name, history.judge.name),)
    } | {(history.judge.name, node.name) for node in run.lan}
    history.order(history.judge, expels=True)
    run.world.run(2.0)
    history.thief.start()
    run.world.run(15.0)
    others = [node for node in history.left() if node not in (history.judge, history.away)]
    assert any(history.thief.name in links(run, node) for node in others), f"{near.name} let nobody in"
    run.network.cuts = set()
    run.world.run(15.0)
    assert all(id_of(keys_of(node).keys[0]) != history.first for node in others)
    history.none_that_moved_is_linked_with_a_thief()


def rivals(history: Rotating) -> None:
    """The key that is made later, and so counts, is made for the one that was expelled elsewhere."""
    run = history.run
    run.network.cuts = {(history.judge.name, node.name) for node in run.lan}
    run.network.cuts |= {(node.name, history.judge.name) for node in run.lan}
    history.order(history.judge, expels=True)
    run.world.run(1.0)
    history.order(history.rival, expels=False)
    run.world.run(1.0)
    run.network.cuts = set()
    history.until_nothing(history.differs, SETTLED_SECONDS)


def a_database_goes_back_to_before_the_key_that_it_has_made(history: Rotating) -> None:
    """``cluster.key`` stays as it is, and nobody else has heard of the key."""
    run, judge = history.run, history.judge
    history.expels = False
    image = judge.image()
    run.network.cuts = {(judge.name, node.name) for node in run.lan}
    run.network.cuts |= {(node.name, judge.name) for node in run.lan}
    history.order(judge, expels=False)
    run.world.run(2.0)
    assert id_of(keys_of(judge).keys[0]) != history.first
    judge.crash()
    judge.roll_back(image, told=True)
    judge.start()
    run.world.run(2.0)
    run.network.cuts = set()
    run.clients[run.lan.index(judge)].write_now("late")
    run.world.run(20.0)
    assert all(node.store.known("users", "late") for node in run.lan), "nobody believes what it writes"
    history.order(history.rival, expels=False)
    history.until_nothing(history.differs, SETTLED_SECONDS)


def a_maker_of_whom_the_other_half_has_not_heard(
    history: Rotating, *, last: bool = False, other: SimulatedNode | None = None
) -> None:
    """It joins one half and makes a key there, while the other half gets one, too; ``last``: its key counts.

    Where the other one does, that is not made for it: it comes by an older one, and gets the next.
    ``other``: one that has joined the other half."""
    run, newcomer, judge = history.run, history.thief, history.judge
    history.expels, near = False, [history.judge, history.away, *([other] if other else [])]
    far = [node for node in (*run.lan, newcomer) if node not in near]
    run.network.cuts = {(one.name, two.name) for one in near for two in far}
    run.network.cuts |= {(two, one) for one, two in run.network.cuts}
    for joins in (newcomer, *([other] if other else [])):
        joins.start()
        run.lan.append(joins)
    run.world.run(15.0)
    history.thief = run._node("lan-91", "lan", 91)
    for maker in (judge, newcomer) if last else (newcomer, judge):
        history.order(maker, expels=False)
        run.world.run(2.0)
    run.network.cuts = set()
    run.world.run(30.0)
    if not last:
        rotation = newcomer.log.rotation()
        assert rotation is not None
        assert (rotation.by, newcomer.name in rotation.sealed) == (judge.name, False)
        history.order(judge, expels=False)
    history.until_nothing(history.differs, SETTLED_SECONDS)


def the_key_of_a_maker_of_whom_the_other_half_has_not_heard(history: Rotating) -> None:
    """It was made for the other half as well: who makes a key after it has joined knows its members."""
    a_maker_of_whom_the_other_half_has_not_heard(history, last=True)


def one_has_joined_each_half_and_neither_knows_of_the_other(history: Rotating) -> None:
    """The key that counts is not made for the one that its maker did not know."""
    other = history.run._node("lan-92", "lan", 92)
    other.seeds = tuple(node.address for node in history.run.lan)
    a_maker_of_whom_the_other_half_has_not_heard(history, last=True, other=other)


def a_maker_begins_a_new_log_before_the_others_hear_of_its_key(history: Rotating) -> None:
    """They have made another, and hold none that has attested that log; its key is the one that counts."""
    run, judge = history.run, history.judge
    history.expels = False
    run.network.cuts = {(judge.name, node.name) for node in run.lan}
    run.network.cuts |= {(node.name, judge.name) for node in run.lan}
    history.order(history.rival, expels=False)
    run.world.run(2.0)
    judge.clock.offset_ms += AHEAD_MS
    history.order(judge, expels=False)
    run.world.run(2.0)
    judge.clock.offset_ms -= AHEAD_MS
    before = judge.store.origin
    judge.ask("store", ResetClock(RequestId(bytes(16), 1)), Nobody())
    run.world.run(2.0)
    assert judge.store.origin != before
    run.clients[run.lan.index(judge)].write_now("late")
    run.network.cuts = set()
    history.until_nothing(history.differs, SETTLED_SECONDS)
    assert all(node.store.known("users", "late") for node in run.lan)
    assert {by for node in run.lan if (found := node.log.rotation()) for by in [found.by]} == {judge.name}


STORIES = (
    let_in_where_nobody_had_heard,
    rivals,
    a_newcomer_makes_the_key_while_one_is_away,
    a_database_goes_back_to_before_the_key_that_it_has_made,
    a_maker_of_whom_the_other_half_has_not_heard,
    the_key_of_a_maker_of_whom_the_other_half_has_not_heard,
    one_has_joined_each_half_and_neither_knows_of_the_other,
    a_maker_begins_a_new_log_before_the_others_hear_of_its_key,
)


@pytest.mark.parametrize("story", STORIES)
def test_what_happens_to_those_who_had_not_heard(
    story: Callable[[Rotating], None], histories: list[Rotating]
) -> None:
    histories.append(history := Rotating(1))
    story(history)


@pytest.mark.parametrize(
    ("story", "place", "name", "mistake"),
    [
        (STORIES[0], KeyWatch, "admits", lambda watch, node_id, key, under: True),
        (STORIES[0], Rotation, "is_open", lambda key, waiting, expelled, now_ms: True),
        (STORIES[1], keys, "known_outside", lambda store, ring: False),
        (STORIES[1], Keys, "look", lambda looking, keeper, ctx: None),
        (STORIES[2], CaWitness, "hear", lambda witness, cluster, ca_key, successors, member: None),
        (STORIES[2], Rotation, "is_for", lambda key, node_id, shown: False),
        (STORIES[6], keys, "unbelieved", lambda store: False),
        (STORIES[7], KeyWatch, "is_for", lambda watch, node_id, key, under: False),
    ],
    ids=[
        "an old key is as good as the new one",
        "it is as good for all while one waits",
        "rivals are left as they are",
        "nobody takes a key",
        "a key is not followed to the next one",
        "one that was away comes too late",
        "a key that a stranger has made is waited for",
        "a member's word for a key is not taken",
    ],
)
def test_a_mistake_in_the_rule_is_noticed(
    story: Callable[[Rotating], None],
    place: object,
    name: str,
    mistake: object,
    monkeypatch: pytest.MonkeyPatch,
    histories: list[Rotating],
) -> None:
    monkeypatch.setattr(place, name, mistake)
    histories.append(history := Rotating(1))
    with pytest.raises(AssertionError):
        story(history)


def certified_with_a_cloud() -> Run:
    """Three nodes that show certificates, linked with a cloud."""
    run = Run(3, options=quiet(3, cloud=True))
    assert run.cloud is not None
    run.network.certified = True
    for node in run.lan:
        node.initial_peers = (initial_peer(run.cloud),)
    start(run)
    run.world.run(20.0)
    return run


def test_clouds_believe_the_writers_that_a_later_key_has_attested() -> None:
    run = certified_with_a_cloud()
    assert run.cloud is not None
    one = run.lan[0]
    one.ask("store", RotateKey(RequestId(bytes(16), 1)), Nobody())
    run.world.run(20.0)
    assert len(keys_of(one).keys) == 1
    newcomer = run._node("lan-9", "lan", 9)
    newcomer.taken, newcomer.seeds = keys_of(one), tuple(node.address for node in run.lan)
    newcomer.start()
    run.world.run(20.0)
    late = Client(run.world, newcomer, run.acks, keys=5, think=1.0)
    late.write_now("late")
    run.world.run(20.0)
    assert run.cloud.store.known("users", "late")
    fresh = run._node("cloud-9", "cloud", 8)
    fresh.start()
    peer = initial_peer(fresh)
    fields = {
        name: value for name, value in peer.items() if name in ("address", "authority", "client_id", "secret")
    }
    one.ask("store", PutPeer(RequestId(bytes(16), 2), True, fresh.name, **fields), Nobody())  # type: ignore[arg-type]  # by name
    run.world.run(30.0)
    assert fresh.store.known("users", "late")
    assert len(fresh.log.authorities()) == 2, "the first one and the one that it has signed"
    run.close()


def writes_into_the_cloud(*, expels: bool) -> None:
    """A machine with a copy of the first key and a token has a link with the cloud alone."""
    run = Run(3, options=quiet(3, cloud=True))
    try:
        assert run.cloud is not None
        run.network.certified = True
        cloud = (initial_peer(run.cloud),)
        for node in run.lan:
            node.initial_peers = cloud
        start(run)
        run.world.run(15.0)
        judge, stolen, away = run.lan
        away.crash()  # it holds the first key, so the others do, too
        order = ExpelNode if expels else (lambda request, name: RotateKey(request))
        judge.ask("store", order(RequestId(bytes(16), 1), stolen.name), Nobody())
        run.world.run(5.0)
        assert len(keys_of(judge).keys) == 2
        thief = run._node(f"lan-{FOREIGN}", "lan", FOREIGN)
        thief.initial_peers = cloud
        thief.start()
        Client(run.world, thief, run.acks, keys=5, think=1.0).write_now("evil")
        run.world.run(15.0)
        assert run.cloud.store.known("users", "evil")
        # it is a writer that none of the others knows, attested by the first key
        away.roll_back(away.image(), told=True)
        away.start()
        Client(run.world, away, run.acks, keys=5, think=1.0).write_now("back")
        run.world.run(20.0)
        for node in (judge, away):
            assert not node.store.known("users", "evil"), f"{node.name} took it"
            assert node.store.known("users", "back"), f"{node.name} lacks what one that was away wrote"
            assert not [one for one in node.store.vector() if one.startswith(thief.name)]
    finally:
        run.close()


@pytest.mark.parametrize("expels", [True, False])
def test_no_member_takes_from_the_cloud_what_only_an_older_key_has_attested(*, expels: bool) -> None:
    writes_into_the_cloud(expels=expels)


def test_it_is_noticed_where_the_word_of_an_older_key_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_held(ca: CaOfCluster) -> dict[bytes, str]:
        keys = ca._keys()
        return dict.fromkeys(ca_keys(keys), name_of(keys))

    monkeypatch.setattr(CaOfCluster, "authorities", all_held)
    with pytest.raises(AssertionError, match="took it"):
        writes_into_the_cloud(expels=True)
