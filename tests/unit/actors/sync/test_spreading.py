"""How far entries have gone: asked of SyncActor, answered when the members that are needed have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.actors.sync import spreading
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.spreading import SPREAD, Need, needed
from entgldb.messages import codec, wire
from entgldb.messages.administration import AwaitSpread
from entgldb.messages.client import Refused, Report, RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import MEMBERS_MAX, SPREAD_SECONDS_MAX
from entgldb.messages.local.actors import FrameIn, Tick
from entgldb.messages.local.members import MembersHeard
from entgldb.messages.model import NODES, REMOTE_PEERS
from entgldb.messages.settings import SyncSettings
from entgldb.messages.wire import Member
from entgldb.storage.store import Store
from tests.support.fake_context import FakeAsker, FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.sync.test_redial import DialLinks, greet

NOW = 1_800_000_000_000
CLOUD = "cloud-1/" + "c" * 32


class Rig:
    """Node n1 with a document; n2 is linked, n3 is known and silent, cloud-1 is a cloud peer."""

    def __init__(self) -> None:
        self.store = Store.memory("n1", b"n1", NOW)
        documents = [(NODES, name, {"NodeId": name}) for name in ("n1", "n2", "n3", "old")]
        documents[3][2].update(Incarnation="x", Retired="x")
        documents += [
            (REMOTE_PEERS, name, {"NodeId": name, "Type": 2, "IsEnabled": name == "cloud-1"})
            for name in ("cloud-1", "cloud-off")
        ]
        with self.store.group():
            for number, (collection, key, body) in enumerate(documents):
                write = Write(collection, key, json.dumps(body).encode())
                self.store.write(RequestId(b"c" * 16, number), [write], NOW, system=True)
            written, _ = self.store.write(RequestId(b"c" * 16, 99), [Write("c", "k", b"{}")], NOW)
        self.asked = {written[0].origin: written[0].seq}
        self.ctx = FakeContext()
        settings = SyncSettings("n1", "", "lan", "c", "")
        self.ctx.behaviour = Sync(settings, self.store, Trusting(), DialLinks(), None, NoSnapshots())
        self.ctx.behaviour.start(self.ctx)
        greet(self.ctx, 1, life=0)

    def ask(self, need: str, seconds: float = 5.0, *, everything: bool = False) -> FakeAsker:
        asker = FakeAsker()
        self.ctx.asker = asker
        self.ctx.hand(AwaitSpread(need, None if everything else self.asked, seconds))
        self.ctx.asker = None
        return asker

    def n2_gains(self, seq: int | None = None) -> None:
        heads = self.store.vector()
        changes = {origin: (seq or newest, heads[origin][1]) for origin, newest in self.asked.items()}
        self.ctx.hand(FrameIn(1, codec.encode(wire.VectorChange(changes))))

    def told_of(self, name: str) -> None:
        origin = CLOUD if name == "cloud-1" else f"{name}/" + "3" * 32
        self.ctx.hand(MembersHeard((Member(origin, 1, NOW, dict(self.asked)),)))


def body(asker: FakeAsker) -> Any:
    (answer,) = asker.answers
    assert isinstance(answer, Report), answer
    return answer.body


def test_a_peer_that_says_it_has_it_answers_who_waits_for_one_peer() -> None:
    rig = Rig()
    asker = rig.ask("peers:1")
    assert asker.answers == []
    rig.n2_gains()
    assert body(asker) == {"durable": ["n2"], "missing": ["cloud-1", "n3"], "reached": True}


def test_a_peer_that_has_less_does_not_count() -> None:
    rig = Rig()
    asker = rig.ask("peers:1")
    (seq,) = rig.asked.values()
    rig.n2_gains(seq - 1)
    assert asker.answers == []


def test_members_without_a_link_count_by_what_others_tell_of_them() -> None:
    rig = Rig()
    all_, cloud, named = rig.ask("all"), rig.ask("cloud"), rig.ask("nodes:n3,cloud-1")
    rig.told_of("cloud-1")
    assert body(cloud)["durable"] == ["cloud-1"]
    assert all_.answers == named.answers == []
    rig.told_of("n3")
    assert body(named) == {"durable": ["cloud-1", "n3"], "missing": ["n2"], "reached": True}
    rig.n2_gains()
    assert body(all_) == {"durable": ["cloud-1", "n2", "n3"], "missing": [], "reached": True}


def test_without_a_need_it_is_told_how_things_stand() -> None:
    rig = Rig()
    rig.n2_gains()
    assert body(rig.ask("")) == {"durable": ["n2"], "missing": ["cloud-1", "n3"], "reached": True}


def test_everything_that_is_here_now_can_be_asked_for() -> None:
    rig = Rig()
    rig.n2_gains()
    assert body(rig.ask("peers:1", everything=True))["durable"] == ["n2"]


def test_the_answer_comes_when_the_time_is_over_and_says_what_is_known() -> None:
    rig = Rig()
    asker = rig.ask("peers:2", 3.0)
    rig.n2_gains()
    rig.ctx.run(2.9)
    assert asker.answers == []
    rig.ctx.run(0.2)
    assert body(asker) == {"durable": ["n2"], "missing": ["cloud-1", "n3"], "reached": False}


def test_nobody_waits_for_longer_than_a_question_may_be_open() -> None:
    rig = Rig()
    asker = rig.ask("all", 1e9)
    rig.ctx.run(SPREAD_SECONDS_MAX + 0.1)
    assert body(asker)["reached"] is False


def test_more_peers_than_there_are_are_waited_for_one_may_come() -> None:
    rig = Rig()
    asker = rig.ask("peers:4")
    rig.ctx.run(4.9)
    assert asker.answers == []
    rig.ctx.run(0.2)
    assert body(asker)["reached"] is False


def test_beyond_the_limit_a_question_is_refused_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spreading, "SPREAD_WAITING_MAX", 20)
    rig = Rig()
    waiting = [rig.ask("peers:1") for _ in range(20)]
    (refusal,) = rig.ask("peers:1").answers
    assert isinstance(refusal, Refused)
    assert refusal.code == "busy"
    rig.n2_gains()
    assert all(body(asker)["reached"] for asker in waiting)
    assert body(rig.ask("peers:1"))["reached"]


@pytest.mark.parametrize(
    "need", ["some", "peers:", "peers:0", "peers:-1", f"peers:{MEMBERS_MAX + 1}", "nodes:", "all:1"]
)
def test_an_unclear_need_is_refused(need: str) -> None:
    (refusal,) = Rig().ask(need).answers
    assert isinstance(refusal, Refused)
    assert refusal.code == "invalid"


def test_who_is_no_member_is_refused_by_name() -> None:
    (refusal,) = Rig().ask("nodes:n2,nobody").answers
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.text) == ("not-found", "nobody is no other member")


def test_a_cluster_without_a_cloud_has_none_to_wait_for() -> None:
    with pytest.raises(EntglError, match="no cloud peer"):
        needed("cloud", frozenset({"n2"}), frozenset())
    assert needed("cloud", frozenset({"n2", "x"}), frozenset("x")) == Need(frozenset("x"), 1)


def test_questions_that_are_answered_leave_one_timer_and_the_first_that_ends_has_it() -> None:
    rig = Rig()
    late, answered = rig.ask("nodes:n3", 5.0), [rig.ask("peers:1", 5.0) for _ in range(10)]
    early = rig.ask("nodes:n3", 3.0)
    rig.n2_gains()
    assert all(body(asker)["reached"] for asker in answered)
    assert [due for due, _, message in rig.ctx._timers if message == Tick(SPREAD)] == [3.0, 5.0]
    rig.ctx.run(3.1)
    assert (len(early.answers), len(late.answers)) == (1, 0)
    later = rig.ask("nodes:n3", 5.0)
    rig.ctx.run(2.0)
    assert (len(late.answers), len(later.answers)) == (1, 0)
    rig.ctx.run(3.1)
    assert len(later.answers) == 1
