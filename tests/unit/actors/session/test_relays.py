"""An owner looks at its sessions again when one of them has something to do, and not before."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.line import NOTHING, Flow
from entgldb.actors.session.members import Gossip, Members
from entgldb.actors.session.outbox import RELAY_DELAY
from entgldb.actors.session.session import Partner
from entgldb.actors.session.sessions import LATE_SECONDS, PUMP_SECONDS, Sessions
from entgldb.actors.session.writers import Writers
from entgldb.messages import wire
from entgldb.messages.local.actors import Committed
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ME, THIRD, ListLog


class Owner:
    """Sessions with two peers that have said what they have."""

    def __init__(self, role: str = "lan") -> None:
        self.log, self.ctx = ListLog(), FakeContext()
        self.ctx.behaviour = self  # type: ignore[assignment]  # it has the two methods that are called
        self.flow = NOTHING
        self.looks: list[float] = []
        self.sent: list[tuple[float, Message]] = []
        writers = Writers("me", Trusting(), self.log)
        settings = SyncSettings("me", "", role, "c", "")
        self.sessions = Sessions(
            "sync", settings, self.log, writers, NoSnapshots(), lambda reason: None, cloud=False
        )
        for peer in ("you", "she"):
            gossip = Gossip(Members(cloud=False))
            session = self.sessions.open(Partner(peer), gossip, self.send, lambda: self.flow)
            session.start(self.ctx)
            session.receive(wire.Vectors({}, {}), self.ctx)
        self.flush(self.ctx)

    def send(self, message: Message) -> bool:
        self.sent.append((self.ctx.monotonic(), message))
        return True

    def handle(self, message: Message, ctx: Context) -> None:
        self.looks.append(ctx.monotonic())
        self.sessions.pump(ctx)

    def flush(self, ctx: Context) -> None:
        self.sessions.flush(ctx)

    def commit(self, origin: str) -> None:
        lsn = self.log.add(origin).lsn
        self.sessions.on_committed(Committed(lsn, lsn, lsn if origin == ME else 0), self.ctx)
        self.flush(self.ctx)

    def entries(self) -> list[float]:
        """When entries went out."""
        return [at for at, message in self.sent if isinstance(message, wire.Entries)]


def test_a_foreign_entry_costs_one_look_when_its_delay_is_over() -> None:
    owner = Owner()
    begun = owner.ctx.monotonic()
    owner.commit(THIRD)
    owner.ctx.run(5.0)
    assert len(owner.looks) == 1
    waits = [at - begun - RELAY_DELAY for at in owner.entries()]
    assert len(waits) == 2
    assert all(0 <= wait <= 2 * LATE_SECONDS for wait in waits)


def test_several_foreign_entries_wait_for_the_deadline_of_each() -> None:
    owner = Owner()
    for _ in range(3):
        owner.commit(THIRD)
        owner.ctx.run(0.8 * RELAY_DELAY)
    owner.ctx.run(5.0)
    assert len(owner.looks) == 3


def test_an_own_entry_needs_no_look() -> None:
    owner = Owner()
    owner.commit(ME)
    owner.ctx.run(5.0)
    assert (owner.looks, len(owner.entries())) == ([], 2)


def test_a_cloud_node_relays_at_once() -> None:
    owner = Owner("cloud")
    owner.commit(THIRD)
    assert owner.entries() == [owner.ctx.monotonic()] * 2


def test_what_waits_for_the_line_is_looked_at_soon_though_a_relay_waits_longer() -> None:
    owner = Owner()
    owner.commit(THIRD)
    owner.flow = Flow(0, 0, 1 << 24)
    owner.commit(ME)
    owner.ctx.run(10.5 * PUMP_SECONDS)
    assert 10 <= len(owner.looks) <= 11, "at the end of the delay, too"
    owner.flow = NOTHING
    owner.ctx.run(5.0)
    assert len(owner.entries()) == 2
    assert len(owner.looks) <= 12
