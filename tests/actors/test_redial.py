"""Whoever was dialled can dial: a peer whose sync died may have forgotten where we are."""

from __future__ import annotations

from entgldb.actors.sync import Sync
from entgldb.messages import codec, wire
from entgldb.messages.local import FrameIn, LinkDown, LinkUp
from entgldb.messages.settings import SyncSettings
from tests.actors.fake_context import FakeContext
from tests.actors.gateway_parts import FakeLinks
from tests.actors.test_session import ListLog


class DialLinks(FakeLinks):
    """Notes the addresses that are dialled."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def dial(self, address: str) -> int:
        self.addresses.append(address)
        return 1000 + len(self.addresses)


def test_a_peer_that_dialled_us_is_dialled_when_its_link_is_lost() -> None:
    ctx, links = FakeContext(), DialLinks()
    sync = Sync(SyncSettings("n1", "", "lan", "c", ""), ListLog(), links, None)
    ctx.behaviour = sync
    sync.start(ctx)
    ctx.hand(LinkUp(1, True, "10.0.0.2:51000", "n2"))
    said = wire.Hello(1, 1, "n2", "n2/" + "2" * 32, "c", (), ctx.now_ms(), "lan", listen_port=7000)
    ctx.hand(FrameIn(1, codec.encode(said)))
    ctx.run(0.5)
    assert links.addresses == []
    ctx.hand(LinkDown(1, "peer-closed", ""))
    ctx.run(0.5)
    assert links.addresses == ["10.0.0.2:7000"]
