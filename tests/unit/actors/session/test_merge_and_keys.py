"""A snapshot, and the key by which alone a writer in it is believed: its taker hears of it meanwhile."""

from __future__ import annotations

import pytest

from entgldb.actors.cluster_key import ClusterKeys
from entgldb.actors.session.staging import REFUSED_SECONDS, HandedOn, Stage
from entgldb.actors.session.writers import Writers
from entgldb.actors.store.intake import Intake
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import ca_keys, cluster_name
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import wire
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Apply
from entgldb.messages.local.snapshots import SnapshotInstalled
from entgldb.messages.model import Entry
from entgldb.messages.secret import Secret
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.unit.actors.session.test_session import Bench
from tests.unit.storage.snapshot.snapshots import in_steps, send

NOW = 1_790_000_000_000
FIRST, NEXT = Secret(bytes([1]) * 32), Secret(bytes([2]) * 32)
NAME = cluster_name(FIRST)
MOVED = ClusterKeys((NEXT, FIRST), NAME)
FIRST_CA, NEXT_CA = CaOfCluster.of(FIRST), CaOfCluster(lambda: MOVED)


def put(store: Store, key: str) -> None:
    with store.group():
        request = RequestId(b"c" * 16, store.last_lsn())
        store.write(request, [Write("users", key, b'{"v":1}')], NOW + store.last_lsn())


class Taker:
    """A node that holds the first key alone, and its session with a peer."""

    def __init__(self) -> None:
        self.store = Store.memory("b", b"b" * 32, NOW, FIRST_CA.attest)
        self.witness = CaWitness(FIRST_CA.authorities, lambda: ca_keys(ClusterKeys((FIRST,))))
        self.writers = Writers("b", self.witness, self.store)
        self.stage, self.ctx, self.counted = Stage(), FakeContext(), list[Reason]()

    def hear(self) -> None:
        chain = [(NEXT_CA.public_key, FIRST_CA.vouch(NEXT_CA.public_key))]
        self.witness.hear(NAME, FIRST_CA.public_key, chain, member=True)

    def take(self, source: Store, above: int) -> HandedOn:
        """The entries of the peer's own log behind ``above``, up to what its store takes of them."""
        log = [Entry(row.header, row.body, row.signature) for row in source.rows(1, 500)][above:]
        author = source.author(source.origin)
        assert author is not None
        ready = self.stage.take(log, (), (author,), self.writers, self.ctx, self.counted.append)
        if ready.entries:
            with self.store.group():
                assert self.store.apply(ready.entries, NOW).refused == ""
                self.store.keep_authors(ready.authors)
        return ready


@pytest.mark.parametrize("told", [0, 1, 3])
def test_a_writer_is_believed_from_then_on_and_the_merge_brings_what_came_before(
    told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_steps(monkeypatch)
    giver, taker = Store.memory("a", b"a" * 32, NOW, NEXT_CA.attest), Taker()
    for number in range(6):
        put(giver, f"k{number}")
    steps = [0]

    def between() -> None:
        if steps[0] == told:
            assert taker.take(giver, 0).entries == ()
            assert taker.counted == [Reason.NOT_ATTESTED] * 6
            taker.hear()
            taker.ctx.run(REFUSED_SECONDS)
            assert len(taker.take(giver, 0).entries) == 6
        steps[0] += 1

    done = send(giver, taker.store, NOW, between=between)
    assert steps[0] > told
    assert (done.refused, taker.store.vector()) == ("", giver.vector())
    put(giver, "later")
    assert len(taker.take(giver, 6).entries) == 1
    assert taker.store.documents("users") == giver.documents("users")
    assert taker.writers.author(giver.origin) == giver.author(giver.origin)


class Ring:
    """The keys of a node, as far as an intake asks for them."""

    def __init__(self, ca: CaOfCluster) -> None:
        self.attested = ca.attested


@pytest.mark.parametrize("told", [False, True])
def test_a_writer_that_a_snapshot_brings_is_attested_by_the_takers_key_where_it_is_believed(
    told: bool,
) -> None:
    """A cloud hears of no other key, and would refuse the log for good, where the writer is silent."""
    rival = CaOfCluster(lambda: ClusterKeys((Secret(bytes([9]) * 32), FIRST), NAME))
    giver = Store.memory("a", b"a" * 32, NOW, rival.attest)
    put(giver, "k")
    taker = Store.memory("b", b"b" * 32, NOW, NEXT_CA.attest)
    witness = CaWitness(NEXT_CA.authorities, lambda: ca_keys(MOVED))
    if told:
        chain = [(rival.public_key, FIRST_CA.vouch(rival.public_key))]
        witness.hear(NAME, FIRST_CA.public_key, chain, member=True)
    bench = Bench()
    bench.session._writers, bench.session._log = Writers("b", witness, taker), taker
    bench.open({giver.origin: giver.vector()[giver.origin]})
    bench.session.receive(wire.SnapshotOffer("s", giver.vector(), 1, 1, 1), bench.ctx)
    done = send(giver, taker, NOW)
    bench.ctx.told.clear()
    bench.session.installed(SnapshotInstalled("sync:1", "s", done.changes, done.refused), bench.ctx)
    intake = Intake(taker, lambda reason, count: None, Ring(NEXT_CA))  # type: ignore[arg-type]  # all it asks for
    with taker.group():
        for actor, message in bench.ctx.told:
            if actor == "store" and isinstance(message, Apply):
                intake.take(message, bench.ctx)
    author = taker.author(giver.origin)
    assert author is not None
    # whoever only has a copy of the first key can make such a key, too
    assert CaWitness(NEXT_CA.authorities).attested(author) is told
