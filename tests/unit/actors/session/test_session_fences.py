"""A session in which a handler fails is closed; all others go on as if nothing had been."""

from __future__ import annotations

import pytest

from entgldb.actors.behaviour import FAILURES_MAX
from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import codec, wire
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Committed, FrameIn, LinkUp
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.gateway.gateway_parts import FakeLinks, Rig, peer
from tests.unit.actors.session.list_log import ListLog


class LanLinks(FakeLinks):
    def dial(self, address: str) -> int:
        return 900

    def port(self) -> int:
        return 7


class Lan:
    """A SyncActor with three peers."""

    def __init__(self) -> None:
        self.ctx, self.links = FakeContext(), LanLinks()
        self.sync = Sync(
            SyncSettings("lan-1", "", "lan", "c", "h:1"),
            ListLog(),
            Trusting(),
            self.links,
            None,
            NoSnapshots(),
        )  # type: ignore[arg-type]  # a log that is a list
        self.ctx.behaviour = self.sync
        self.sync.start(self.ctx)
        for link in (1, 2, 3):
            name = f"peer-{link}"
            self.ctx.hand(LinkUp(link, True, f"10.0.0.{link}:5", name))
            self.hear(link, wire.Hello(1, 1, name, f"{name}/" + "ab" * 16, "c", (), 0, "lan"))
            self.hear(link, wire.Vectors({}, {}))

    def hear(self, link: int, message: Message) -> None:
        self.ctx.hand(FrameIn(link, codec.encode(message)))

    def heard_beats(self) -> set[int]:
        """The links that got a heartbeat within two seconds in which all peers were heard."""
        self.links.sent.clear()
        for _ in range(2):
            for link in (1, 2, 3):
                self.hear(link, wire.Heartbeat(0, 0, 0))
            self.ctx.run(1.0)
        return {link for link, message in self.links.sent if isinstance(message, wire.Heartbeat)}


def broken(*_: object, **__: object) -> None:
    raise OverflowError("int too big to convert")


@pytest.mark.parametrize("way", ["beat", "committed", "gained"])
def test_a_lan_session_that_fails_is_closed_and_the_others_are_served(way: str) -> None:
    lan = Lan()
    assert lan.heard_beats() == {1, 2, 3}
    (first, *_) = lan.sync.sessions
    setattr(first, way, broken)
    lan.sync.sessions._gained = {"x": (1, b"")}
    lan.ctx.hand(Committed(1, 1, 1))
    lan.heard_beats()
    assert lan.sync.counts[Reason.HANDLER_FAILED] >= 1
    assert lan.links.closed == [(1, "handler-failed")]
    assert lan.heard_beats() >= {2, 3}


def test_a_cloud_session_that_fails_is_closed_and_dialled_anew() -> None:
    rig = Rig()
    link = rig.connect(peer("cloud-node"))
    (session,) = rig.gateway.sessions
    session.beat = broken  # type: ignore[method-assign]  # a bug met by this session
    for _ in range(3):
        rig.hear(link, wire.Heartbeat(0, 0, 0))
        rig.ctx.run(1.0)
    assert rig.row()["reason"] == "handler-failed"
    assert rig.gateway.counts[Reason.HANDLER_FAILED] >= 1


def test_frames_that_a_node_fails_on_cost_their_link_alone_and_at_once() -> None:
    """Five failures in a row end an actor, with the links of all others."""
    lan, rig = Lan(), Rig()
    link = rig.connect(peer("cloud-node"))
    for session in (next(iter(lan.sync.sessions)), next(iter(rig.gateway.sessions))):
        session.receive = broken  # type: ignore[method-assign]  # a bug met by this session
    with pytest.raises(OverflowError):
        lan.hear(1, wire.Heartbeat(0, 0, 0))
    with pytest.raises(OverflowError):
        rig.hear(link, wire.Heartbeat(0, 0, 0))
    for _ in range(FAILURES_MAX):
        lan.hear(1, wire.Heartbeat(0, 0, 0))
        rig.hear(link, wire.Heartbeat(0, 0, 0))
    assert lan.links.closed == [(1, "handler-failed")]
    assert rig.row()["reason"] == "handler-failed"
