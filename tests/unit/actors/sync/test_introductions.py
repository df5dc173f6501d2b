"""A peer is told of others whom it does not know, and of nobody whom it is linked with."""

from __future__ import annotations

import pytest

from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import codec, wire
from entgldb.messages.limits import ANNOUNCED_MAX
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp, PeerUp, RememberPeer
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.sync.test_redial import DialLinks


class Rig:
    """Node n1 and those that dial it."""

    def __init__(self, *announce: str) -> None:
        self.ctx, self.links = FakeContext(), DialLinks()
        settings = SyncSettings("n1", "", "lan", "c", "", heartbeat_interval=1.0, announce=announce)
        self.ctx.behaviour = sync = Sync(settings, ListLog(), Trusting(), self.links, None, NoSnapshots())
        sync.start(self.ctx)

    def come(self, number: int, *announced: str) -> None:
        name = f"n{number}"
        self.ctx.hand(LinkUp(number, True, f"10.0.0.{number}:51000", name))
        origin, now = f"{name}/" + "2" * 32, self.ctx.now_ms()
        said = wire.Hello(1, 1, name, origin, "c", (), now, "lan", listen_port=7000, announced=announced)
        self.say(number, said)
        self.say(number, wire.Vectors({}, {}))

    def say(self, number: int, message: Message) -> None:
        self.ctx.hand(FrameIn(number, codec.encode(message)))

    def told(self) -> list[tuple[int, dict[str, str]]]:
        """Who was told of whom since the last time."""
        found = [(link, one.peers) for link, one in self.links.sent if isinstance(one, wire.PeersKnown)]
        self.links.sent.clear()
        return found


def test_a_newcomer_is_told_of_the_others_at_once_and_they_of_it_at_the_next_heartbeat() -> None:
    rig = Rig()
    rig.come(2)
    rig.come(3)
    assert rig.told() == [(3, {"n2": "10.0.0.2:7000"})]
    rig.ctx.run(1.0)
    assert rig.told() == [(2, {"n3": "10.0.0.3:7000"})]
    rig.ctx.run(1.0)
    assert rig.told() == []


def test_who_is_linked_with_a_newcomer_is_not_told_of_it_before_that_link_is_lost() -> None:
    rig = Rig()
    rig.come(2)
    rig.say(2, wire.Heartbeat(0, 0, 0, near=("n1", "n3")))
    rig.come(3)
    rig.told()
    rig.ctx.run(1.0)
    assert rig.told() == []
    rig.say(2, wire.Heartbeat(0, 0, 0, near=("n1",)))
    rig.ctx.run(1.0)
    assert rig.told() == [(2, {"n3": "10.0.0.3:7000"})]


def test_of_those_that_are_gone_nobody_is_told() -> None:
    rig = Rig()
    rig.come(2)
    rig.ctx.hand(LinkDown(2, "peer-closed", ""))
    rig.come(3)
    rig.ctx.run(1.0)
    assert rig.told() == []


def test_others_are_told_the_addresses_that_a_node_announces() -> None:
    rig = Rig()
    rig.come(2, "198.51.100.7:9000", "[2001:db8::7]:9000")
    rig.come(3)
    assert rig.told() == [(3, {"n2": "198.51.100.7:9000"}), (3, {"n2": "[2001:db8::7]:9000"})]
    rig.ctx.run(1.0)
    assert rig.told() == [(2, {"n3": "10.0.0.3:7000"})]


def test_a_node_that_announces_is_dialled_there_first_and_remembered_so() -> None:
    rig = Rig()
    rig.come(2, "198.51.100.7:9000")
    assert rig.ctx.take(RememberPeer, "store") == [RememberPeer("n2", "198.51.100.7:9000")]
    rig.ctx.hand(LinkDown(2, "peer-closed", ""))
    assert rig.links.addresses == ["198.51.100.7:9000"]
    rig.ctx.hand(LinkDown(1001, "unreachable", ""))
    assert rig.links.addresses == ["198.51.100.7:9000", "10.0.0.2:7000"]


def test_a_node_says_what_it_announces() -> None:
    rig = Rig("198.51.100.1:9000")
    rig.come(2)
    (said,) = [one for _, one in rig.links.sent if isinstance(one, wire.Hello)]
    assert said.announced == ("198.51.100.1:9000",)


@pytest.mark.parametrize(
    "announced", [("nowhere",), ("h:0",), ("h:1",) * (ANNOUNCED_MAX + 1), ("h" * 300 + ":1",)]
)
def test_announced_addresses_that_are_none_or_too_many_are_refused(announced: tuple[str, ...]) -> None:
    rig = Rig()
    rig.come(2, *announced)
    assert rig.ctx.take(PeerUp, "election") == []
    rig.come(3, *("h:1",) * ANNOUNCED_MAX)
    assert rig.ctx.take(PeerUp, "election") == [PeerUp("n3")]
