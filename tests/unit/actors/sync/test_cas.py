"""A link that stays while the cluster key changes: its other end is told of the CA that followed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from entgldb.actors.sync.behaviour import Sync
from entgldb.messages import codec, wire
from entgldb.messages.local.actors import FrameIn, LinkUp
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, Rotation
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ListLog
from tests.unit.actors.sync.test_redial import DialLinks

FIRST, SECOND, SIGNED = "11" * 32, "22" * 32, "ab" * 64
FOLLOWED = wire.CasFollowed(bytes.fromhex(FIRST), ((bytes.fromhex(SECOND), bytes.fromhex(SIGNED)),))


class Log(ListLog):
    rotated = False

    def high_mark_ms(self) -> int:
        return 0

    def rotation(self) -> Rotation | None:
        return Rotation(SECOND, "n2", 0, {}, ((FIRST, ""), (SECOND, SIGNED))) if self.rotated else None

    def get(self, collection: str, key: str) -> bytes | None:
        chain = {"Chain": [[FIRST, ""], [SECOND, SIGNED]]}
        return json.dumps(chain).encode() if self.rotated and key == SECOND else None


class Heard(Trusting):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.chains: list[tuple[bytes, ...]] = []
        self.members: list[bool] = []

    def hear(self, cluster: str, ca_key: bytes, successors: object, *, member: bool = False) -> None:
        assert isinstance(successors, tuple)
        self.chains.append((ca_key, *(key for key, _ in successors)))
        self.members.append(member)


class Rig:
    def __init__(self, role: str = "lan") -> None:
        self.ctx, self.links, self.log, self.witness = FakeContext(), DialLinks(), Log(), Heard()
        self.held = FIRST
        settings = SyncSettings("n1", "", role, "c", "", heartbeat_interval=1.0)
        about = settings, self.log, self.witness, self.links, None, NoSnapshots()
        self.ctx.behaviour = sync = Sync(*about, held=lambda: self.held)
        sync.start(self.ctx)

    def come(self, number: int, key: str = "", under: str = "") -> None:
        name = f"n{number}"
        self.ctx.hand(LinkUp(number, True, f"10.0.0.{number}:51000", name, key, under))
        origin, now = f"{name}/" + "2" * 32, self.ctx.now_ms()
        self.say(number, wire.Hello(1, 1, name, origin, "c", (), now, "lan", listen_port=7000))
        self.say(number, wire.Vectors({}, {}))

    def say(self, number: int, message: Message) -> None:
        self.ctx.hand(FrameIn(number, codec.encode(message)))

    def told(self) -> list[tuple[int, wire.CasFollowed]]:
        """Who was told since the last time."""
        found = [(link, one) for link, one in self.links.sent if isinstance(one, wire.CasFollowed)]
        self.links.sent.clear()
        return found


def test_who_has_a_link_is_told_once_when_this_node_holds_another_key() -> None:
    rig = Rig()
    rig.come(2)
    rig.ctx.run(1.0)
    assert rig.told() == []
    rig.log.rotated = True
    rig.ctx.run(1.0)
    assert rig.told() == [], "it holds the first one still"
    rig.held = SECOND
    rig.ctx.run(1.0)
    assert rig.told() == [(2, FOLLOWED)]
    for _ in range(3):
        rig.say(2, wire.Heartbeat(0, 0, 0, None, None, None))
        rig.ctx.run(1.0)
        assert rig.told() == []
    assert rig.links.closed == []


def caught_up() -> Rig:
    """Its file of keys was ahead of its log when a peer came, and nothing was told; it is no more."""
    rig = Rig()
    rig.held = SECOND
    rig.come(2)
    rig.ctx.run(1.0)
    assert rig.told() == []
    rig.log.rotated = True
    return rig


def test_who_comes_later_hears_of_it_in_hello_and_the_file_of_keys_may_be_ahead_of_the_log() -> None:
    rig = caught_up()
    rig.come(3)
    (hello,) = (one for link, one in rig.links.sent if link == 3 and isinstance(one, wire.Hello))
    assert (hello.ca_key, hello.successors) == (FOLLOWED.ca_key, FOLLOWED.successors)
    rig.ctx.run(1.0)
    assert rig.told() == [(2, FOLLOWED)]


def test_it_is_told_when_the_log_has_caught_up_with_the_file_of_keys() -> None:
    rig = caught_up()
    rig.ctx.run(1.0)
    assert rig.told() == [(2, FOLLOWED)]


def test_the_witness_hears_what_a_peer_tells_of_on_an_open_link() -> None:
    rig = Rig()
    rig.come(2)
    rig.witness.chains.clear()
    rig.say(2, FOLLOWED)
    assert rig.witness.chains == [(bytes.fromhex(FIRST), bytes.fromhex(SECOND))]


@pytest.mark.parametrize("key", ["", "cc" * 32])
def test_the_witness_is_told_whether_a_member_says_so_whose_link_is_made_by_the_key_that_counts(
    key: str,
) -> None:
    rig = Rig()
    rig.held, rig.log.rotated = SECOND, True
    rig.ctx.run(1.0)
    rig.come(2, key, SECOND)
    rig.witness.members.clear()
    rig.say(2, FOLLOWED)
    assert rig.witness.members == [key != ""]


def test_of_a_link_without_a_certificate_of_the_cluster_nothing_is_believed() -> None:
    """A cloud hears of them with the token."""
    rig = Rig()
    stranger = SimpleNamespace(certified="", times_told=0, hello=None, key_shown="", under="")
    assert isinstance(rig.ctx.behaviour, Sync)
    for _ in range(2 * CHAIN_MAX):
        assert rig.ctx.behaviour._cas.hear(stranger, FOLLOWED)  # type: ignore[arg-type]  # all it looks at
    assert rig.witness.chains == []


def test_nobody_is_believed_before_its_hello() -> None:
    rig = Rig()
    rig.ctx.hand(LinkUp(2, True, "10.0.0.2:51000", "n2"))
    rig.say(2, FOLLOWED)
    assert rig.witness.chains == []


def test_who_tells_of_more_keys_than_there_can_be_loses_its_link() -> None:
    rig = Rig()
    rig.come(2)
    for _ in range(CHAIN_MAX - 1):  # Hello has told of them, too
        rig.say(2, FOLLOWED)
    assert rig.links.closed == []
    rig.say(2, FOLLOWED)
    assert [(link, reason) for link, reason, *_ in rig.links.closed] == [(2, "malformed")]
