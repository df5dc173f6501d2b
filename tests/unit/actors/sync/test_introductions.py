"""A peer is told of others whom it does not know, and of nobody whom it is linked with."""

from __future__ import annotations

from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import codec, wire
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.sync.test_redial import DialLinks


class Rig:
    """Node n1 and those that dial it."""

    def __init__(self) -> None:
        self.ctx, self.links = FakeContext(), DialLinks()
        settings = SyncSettings("n1", "", "lan", "c", "", heartbeat_interval=1.0)
        self.ctx.behaviour = sync = Sync(settings, ListLog(), Trusting(), self.links, None, NoSnapshots())
        sync.start(self.ctx)

    def come(self, number: int) -> None:
        name = f"n{number}"
        self.ctx.hand(LinkUp(number, True, f"10.0.0.{number}:51000", name))
        origin, now = f"{name}/" + "2" * 32, self.ctx.now_ms()
        self.say(number, wire.Hello(1, 1, name, origin, "c", (), now, "lan", listen_port=7000))
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
