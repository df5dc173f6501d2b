"""Members by key: the first key of a node is pinned, and no certificate helps another machine."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.members import admittance
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.client.health.finding import NODE, Finding
from entgldb.messages import codec, wire
from entgldb.messages.administration import AcceptKey
from entgldb.messages.client import CommitDone, Refused, Report, RequestId, Status, Write
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import FrameIn, LinkUp
from entgldb.messages.local.members import KeyShown, NodesChanged, NoteSelf
from entgldb.messages.model import KEYS, NODES
from entgldb.messages.schema import Json
from entgldb.messages.settings import SyncSettings
from entgldb.storage.rules.members import pinned_key
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.store.test_store_keeper import Bench
from tests.unit.actors.sync.test_redial import DialLinks

ONE, TWO, THREE = "11" * 32, "22" * 32, "33" * 32


class Log(ListLog):
    out: frozenset[str] = frozenset()

    def expelled(self) -> frozenset[str]:
        return self.out


class Rig:
    """Node n1, which shows a key of its own."""

    def __init__(self, *expelled: str) -> None:
        self.ctx, self.links, log = FakeContext(), DialLinks(), Log()
        log.out = frozenset(expelled)
        settings = SyncSettings("n1", "", "lan", "c", "", heartbeat_interval=1.0)
        self.sync = Sync(settings, log, Trusting(), self.links, None, NoSnapshots(), THREE)
        self.ctx.behaviour = self.sync
        self.sync.start(self.ctx)
        self.numbers = itertools.count(1)

    def come(self, name: str, key: str) -> tuple[int, bool]:
        """The link of a machine with this key, and whether it gets a session."""
        link = next(self.numbers)
        self.ctx.hand(LinkUp(link, True, f"10.0.0.{link}:5", name, key))
        said = wire.Hello(1, 1, name, f"{name}/" + "2" * 32, "c", (), self.ctx.now_ms(), "lan")
        self.ctx.hand(FrameIn(link, codec.encode(said)))
        return link, name in self.sync._peers and self.sync._peers[name].link == link

    def lets_in(self, name: str, key: str) -> bool:
        return self.come(name, key)[1]

    def byes(self) -> list[tuple[int, str]]:
        return [(link, frame.reason) for link, frame in self.links.sent if isinstance(frame, wire.Bye)]

    def status(self) -> dict[str, Any]:
        answer = self.ctx.ask(Status())
        assert isinstance(answer, Report)
        return answer.body


def row(name: str, **more: Json) -> dict[str, Json]:
    return {"NodeId": name, "Incarnation": "2" * 32, "Retired": None, **more}


def test_the_first_key_of_a_node_is_taken_and_a_second_one_is_refused_alarmed_and_listed() -> None:
    rig = Rig()
    assert ("node", KeyShown(THREE)) in rig.ctx.told
    assert rig.lets_in("n2", ONE)
    link, let_in = rig.come("n2", TWO)
    assert not let_in
    assert (link, "wrong-key") in rig.byes()
    assert [alarm["subject"] for alarm in rig.status()["alarms"] if alarm["code"] == "wrong-key"] == ["n2"]
    (refused,) = rig.status()["refused"]
    assert (refused["node_id"], refused["key"], refused["reason"]) == ("n2", TWO, "wrong-key")
    assert rig.lets_in("n2", ONE)


def test_an_open_link_whose_key_is_not_the_pinned_one_is_cut() -> None:
    rig = Rig()
    link, let_in = rig.come("n2", TWO)
    assert let_in
    rig.ctx.hand(NodesChanged((row("n2", Keys={ONE: 5}),)))
    assert (link, "wrong-key") in rig.byes()
    rig.ctx.hand(NodesChanged((row("n2", Keys={ONE: 5}, Accepted=TWO),)))
    assert rig.lets_in("n2", TWO)
    assert rig.status()["refused"] == []
    assert not [alarm for alarm in rig.status()["alarms"] if alarm["code"] == "wrong-key"]
    assert not rig.lets_in("n2", ONE)


def test_a_node_that_is_refused_tells_its_operator_until_a_member_speaks_with_it_again() -> None:
    rig = Rig()
    link, _ = rig.come("n2", ONE)
    rig.ctx.hand(FrameIn(link, codec.encode(wire.Bye("wrong-key"))))
    (alarm,) = [one for one in rig.status()["alarms"] if one["code"] == "wrong-key"]
    assert alarm["subject"] == "me"
    rig.sync.admittance.linked("n9")
    assert [one["code"] for one in rig.status()["alarms"]].count("wrong-key") == 1, (
        "it is not n9 that said so"
    )
    rig.sync.admittance.linked("n2")
    assert not [one for one in rig.status()["alarms"] if one["code"] == "wrong-key"]


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("wrong-key", "entgldb members --accept me on n2"),
        ("not-a-member", "entgldb members --accept me on n2"),
        ("old-key", "entgldb rejoin --join CODE"),
        ("expelled", "entgldb init -d NEW --join CODE"),
    ],
)
def test_a_node_that_is_refused_tells_the_command_that_lets_it_in(reason: str, remedy: str) -> None:
    rig = Rig()
    link, _ = rig.come("n2", ONE)
    rig.ctx.hand(FrameIn(link, codec.encode(wire.Bye(reason))))
    (alarm,) = [one for one in rig.status()["alarms"] if one["code"] == reason]
    assert Finding(NODE, "alarm", "me", alarm["text"]).remedy == remedy


def test_nobody_without_a_certificate_of_the_cluster_says_that_this_node_is_out() -> None:
    rig = Rig()
    rig.sync.admittance.was_told(shown("", "n2"), wire.Bye("expelled"))
    assert rig.sync.admittance.told == {}
    rig.sync.admittance.was_told(shown("n2", "n2"), wire.Bye("expelled"))
    assert rig.sync.admittance.told == {Reason.EXPELLED: "n2"}


@pytest.mark.parametrize(("certified", "said"), [("n2", "n3"), ("n3", "n2"), ("", "n2")])
def test_who_was_expelled_gets_no_link_by_its_certificate_or_by_what_it_says(
    certified: str, said: str
) -> None:
    """A cloud asks for no certificate."""
    refused = Rig("n2").sync.admittance.fault(shown(certified, said), FakeContext())
    assert refused == (Reason.EXPELLED, f"{certified or said} was expelled")


def shown(certified: str, said: str) -> PeerLink:
    hello = wire.Hello(1, 1, said, f"{said}/" + "2" * 32, "c", (), 0, "lan")
    return cast(
        "PeerLink", SimpleNamespace(certified=certified, hello=hello, key_shown="", under="", node_id=said)
    )


def test_an_alarm_stands_as_long_as_one_of_the_machines_of_that_name_is_refused() -> None:
    rig = Rig()
    rig.ctx.hand(NodesChanged((row("n2", Keys={ONE: 5}),)))
    assert not rig.lets_in("n2", TWO)
    assert not rig.lets_in("n2", THREE)
    rig.ctx.hand(NodesChanged((row("n2", Accepted=TWO),)))
    assert [one["key"] for one in rig.status()["refused"]] == [THREE]
    assert [one["subject"] for one in rig.status()["alarms"] if one["code"] == "wrong-key"] == ["n2"]


def test_first_keys_are_remembered_of_so_many_nodes_without_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admittance, "MEMBERS_MAX", 1)
    rig = Rig()
    assert rig.lets_in("n2", ONE)
    assert [rig.lets_in("n3", key) for key in (ONE, TWO)] == [True, True]
    rig.ctx.hand(NodesChanged((row("n2", Keys={ONE: 5}),)))  # that leaves room
    assert [rig.lets_in("n3", key) for key in (ONE, TWO)] == [True, False]


def test_machines_that_were_refused_are_forgotten_by_number_and_by_time() -> None:
    rig = Rig()
    names = [f"m{number}" for number in range(admittance.REFUSED_MAX + 1)]
    rig.ctx.hand(NodesChanged(tuple(row(name, Keys={ONE: 1}) for name in names)))
    for name in names:
        assert not rig.lets_in(name, TWO)
    told = rig.status()
    assert [one["node_id"] for one in told["refused"]] == names[1:]
    assert sum(one["code"] == "wrong-key" for one in told["alarms"]) == admittance.REFUSED_MAX
    rig.ctx.run(admittance.COMES_NO_MORE + 1.0)
    told = rig.status()
    assert told["refused"] == []
    assert not [one for one in told["alarms"] if one["code"] == "wrong-key"]


def test_a_node_that_was_expelled_gets_no_link_and_an_open_one_is_cut_at_the_next_heartbeat() -> None:
    rig = Rig("n2")
    link, let_in = rig.come("n2", ONE)
    assert not let_in
    assert (link, "expelled") in rig.byes()
    rig = Rig()
    link, let_in = rig.come("n2", ONE)
    assert let_in
    rig.sync._log.out = frozenset({"n2"})  # type: ignore[attr-defined]  # the log of this test
    rig.ctx.run(1.5)
    assert (link, "expelled") in rig.byes()


def test_once_a_node_was_expelled_nobody_comes_under_a_new_name_until_it_is_let_in() -> None:
    # whoever was expelled can issue itself a certificate for any name
    rig = Rig("n9")
    rig.ctx.hand(NodesChanged((row("n2"),)))
    assert rig.lets_in("n2", ONE)
    link, let_in = rig.come("n3", TWO)
    assert not let_in
    assert (link, "not-a-member") in rig.byes()
    (refused,) = rig.status()["refused"]
    assert (refused["node_id"], refused["key"], refused["reason"]) == ("n3", TWO, "not-a-member")
    rig.ctx.hand(NodesChanged((row("n2"), row("n3", Accepted=TWO))))
    assert rig.lets_in("n3", TWO)
    assert not [alarm for alarm in rig.status()["alarms"] if alarm["code"] == "not-a-member"]


@pytest.mark.parametrize("keys", list(itertools.permutations([(ONE, 7), (TWO, 5), (THREE, 5)])))
def test_of_several_keys_the_oldest_is_pinned_in_whatever_order_they_came(
    keys: tuple[tuple[str, int], ...],
) -> None:
    assert pinned_key(row("n2", Keys=dict(keys))) == TWO


@pytest.mark.parametrize(
    "document",
    [{}, {"Keys": None}, {"Keys": {"x": 1}}, {"Keys": {ONE: "1"}}, {"Accepted": "../x"}, {"Keys": [ONE]}],
)
def test_what_is_no_key_pins_nothing(document: dict[str, Json]) -> None:
    assert pinned_key(document) == ""


def test_a_node_writes_its_key_once_and_none_beside_another() -> None:
    bench = Bench()
    bench.ask(NoteSelf(ONE))
    bench.ask(NoteSelf(TWO))
    body = json_of(bench)
    assert list(body["Keys"]) == [ONE]
    (done,) = bench.ask(AcceptKey(bench.request(), "n1", TWO))
    assert isinstance(done, CommitDone)
    assert pinned_key(json_of(bench)) == TWO
    (again,) = bench.ask(AcceptKey(bench.request(), "n1", TWO))
    assert again == CommitDone((), 0)
    (refused,) = bench.ask(AcceptKey(bench.request(), "n1", "no key"))
    assert isinstance(refused, Refused)


def json_of(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.store.get(NODES, "n1") or b"{}")
    return found


def test_hello_has_the_chain_of_the_key_that_this_node_holds() -> None:
    rig, store = Rig(), Store.memory("n1", bytes(32), 0)
    held, other, first = ONE, TWO, THREE
    with store.group():
        for stamp, key in enumerate((held, other)):
            body = {"By": "n2", "For": {}, "Chain": [[first, ""], [key, "ef" * 64]]}
            write = Write(KEYS, key, json.dumps(body).encode())
            store.write(RequestId(bytes(16), stamp), [write], stamp, system=True)
    assert isinstance(rig.sync._log, Log)
    rig.sync._log.get, rig.sync._log.rotation = store.get, store.rotation  # type: ignore[method-assign]  # of a file
    rig.sync.admittance.keys.held = lambda: held
    rig.come("n2", TWO)
    (said,) = [one for _, one in rig.links.sent if isinstance(one, wire.Hello)]
    assert (said.ca_key.hex(), [key.hex() for key, _ in said.successors]) == (first, [held])
