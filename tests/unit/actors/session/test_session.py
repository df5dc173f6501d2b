"""The session, frame by frame, against a log that is a list."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from entgldb.actors.session.inbox import STALLED
from entgldb.actors.session.outbox import RELAY_DELAY, RELAY_PATIENCE
from entgldb.actors.session.session import Session
from entgldb.actors.session.writers import Writers
from entgldb.messages import client, wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import BATCH_BYTES_MAX, ENTRIES_PER_BATCH_MAX, WINDOW_BYTES_MAX
from entgldb.messages.local.actors import Applied, Apply, Seen
from entgldb.messages.model import REMOTE_PEERS, Author, Entry, Vector
from entgldb.messages.schema import Message
from entgldb.storage.rules.results import LogRow
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.list_log import ME, THIRD, YOU, ListLog

LARGE = WINDOW_BYTES_MAX // BATCH_BYTES_MAX
"""Batches of full size that fill the window."""


class Bench:
    """One session with everything it sends."""

    def __init__(self, *, cloud: bool = False, live_push: bool = True) -> None:
        self.log = ListLog()
        self.ctx = FakeContext()
        self.sent: list[Message] = []
        self.counts: Counter[Reason] = Counter()
        self.session = Session(
            name="sync:1",
            owner="sync",
            log=self.log,
            writers=Writers("me", Trusting(), self.log),
            chunks=NoSnapshots(),
            send=self._send,
            cloud=cloud,
            live_push=live_push,
            count=lambda reason: self.counts.update([reason]),
        )

    def _send(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    def open(self, theirs: Vector | None = None) -> Bench:
        self.session.start(self.ctx)
        self.session.receive(wire.Vectors(theirs or {}, {}), self.ctx)
        return self

    def take(self, kind: type[Message]) -> list[Message]:
        """The messages of ``kind`` sent since the last time; forgets everything sent."""
        found = [message for message in self.sent if type(message) is kind]
        self.sent.clear()
        return found

    def headers(self) -> list[bytes]:
        return [e.header for batch in self.take(wire.Entries) for e in batch.entries]  # type: ignore[attr-defined]  # Entries only

    def wait(self, seconds: float) -> None:
        self.ctx.run(seconds)
        self.session.tick(self.ctx)

    def commit(self, *origins: str) -> None:
        first = self.log.last_lsn() + 1
        rows = [self.log.add(origin) for origin in origins]
        own = max((row.lsn for row in rows if row.origin == ME), default=0)
        self.session.committed(first, rows[-1].lsn, own, self.ctx)

    def beat_from_peer(self, vector: Vector | None = None, round_: int = 0, sent: int = 0) -> None:
        held: dict[str, int] | None = None if vector is None else {}
        told = 0 if vector is None else 2
        self.session.receive(wire.Heartbeat(0, round_, sent, None, vector, held, told=told), self.ctx)


def test_what_the_vector_lacks_goes_out_in_our_commit_order() -> None:
    bench = Bench()
    for origin in (YOU, ME, THIRD, ME, YOU):
        bench.log.add(origin)
    bench.open({YOU: (1, b"h1"), ME: (1, b"h1")})
    assert bench.headers() == [b"3", b"4", b"5"]


def test_equal_vectors_send_nothing() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.open({ME: (1, b"h1")})
    assert bench.headers() == []
    assert bench.session.synced


def test_the_window_bounds_what_is_on_its_way() -> None:
    bench = Bench()
    for _ in range(LARGE + 3):
        bench.log.add(ME, body=b"x" * (BATCH_BYTES_MAX - 1))
    bench.open()
    assert len(bench.take(wire.Entries)) == LARGE
    bench.session.receive(wire.Ack(0, 1), bench.ctx)
    assert len(bench.take(wire.Entries)) == 2
    bench.session.receive(wire.Ack(0, LARGE), bench.ctx)
    assert len(bench.take(wire.Entries)) == 1


def test_a_batch_holds_at_most_so_many_entries_however_small() -> None:
    bench = Bench()
    numbers = range(1, ENTRIES_PER_BATCH_MAX + 2)
    bench.log.all = [LogRow(number, ME, number, b"h", "c", b"", b"", applied=True) for number in numbers]
    bench.open()
    assert [len(batch.entries) for batch in bench.take(wire.Entries)] == [ENTRIES_PER_BATCH_MAX, 1]  # type: ignore[attr-defined]  # Entries only


def test_a_batch_holds_at_least_one_entry_however_large() -> None:
    bench = Bench()
    bench.log.add(ME, body=b"x" * (4 * BATCH_BYTES_MAX))
    assert bench.open().headers() == [b"1"]


def test_an_own_entry_is_pushed_at_once() -> None:
    bench = Bench().open()
    bench.commit(ME)
    assert bench.headers() == [b"1"]


def test_a_foreign_entry_waits_and_is_not_relayed_to_a_peer_that_has_it_by_then() -> None:
    bench = Bench().open()
    bench.commit(THIRD)
    assert bench.headers() == []
    assert 0 < bench.session.due_in(bench.ctx) <= RELAY_DELAY
    bench.session.receive(wire.VectorChange({THIRD: (1, b"h1")}), bench.ctx)
    bench.wait(RELAY_DELAY * 2)
    assert bench.headers() == []
    assert bench.session.due_in(bench.ctx) == math.inf


def test_a_foreign_entry_is_relayed_after_the_delay() -> None:
    bench = Bench().open()
    bench.commit(THIRD)
    bench.wait(RELAY_DELAY * 2)
    assert bench.headers() == [b"1"]


def test_no_relay_to_a_peer_that_others_are_feeding_but_not_for_ever() -> None:
    bench = Bench().open()
    bench.commit(*[THIRD] * 300)
    seconds = 0.0
    for seq in range(1, 300):
        bench.wait(RELAY_DELAY / 2)
        seconds += RELAY_DELAY / 2
        bench.session.receive(wire.VectorChange({THIRD: (seq, b"h%d" % seq)}), bench.ctx)
        if bench.headers():
            break
    assert RELAY_PATIENCE <= seconds <= RELAY_PATIENCE + 3 * RELAY_DELAY


def test_a_peer_fed_with_another_log_gets_its_relay_in_time() -> None:
    bench = Bench().open()
    bench.commit(YOU)
    bench.session.receive(wire.VectorChange({THIRD: (1, b"h1")}), bench.ctx)
    bench.wait(RELAY_DELAY * 1.1)
    assert bench.headers() == [b"1"]


def test_what_the_peer_has_from_us_does_not_delay_a_relay() -> None:
    bench = Bench().open()
    bench.commit(THIRD)
    bench.wait(RELAY_DELAY * 2)
    bench.commit(THIRD)
    assert bench.headers() == [b"1"]
    bench.session.receive(wire.VectorChange({THIRD: (1, b"h1")}), bench.ctx)
    bench.wait(RELAY_DELAY * 1.1)
    assert bench.headers() == [b"2"]


def test_an_own_entry_never_overtakes_the_foreign_one_it_may_depend_on() -> None:
    bench = Bench().open()
    bench.commit(THIRD)
    bench.commit(ME)
    assert bench.headers() == [b"1", b"2"]


def test_without_live_push_the_next_vector_brings_it() -> None:
    bench = Bench(live_push=False).open()
    bench.commit(ME)
    assert bench.headers() == []
    bench.beat_from_peer({})
    assert bench.headers() == [b"1"]


def test_a_lost_push_goes_out_again_when_the_vector_lacks_it() -> None:
    bench = Bench().open()
    bench.commit(ME)
    bench.session.receive(wire.Ack(0, 0), bench.ctx)
    bench.take(wire.Entries)
    bench.beat_from_peer({})
    assert bench.headers() == [b"1"]


def test_what_the_peer_cannot_take_is_sent_ever_more_slowly() -> None:
    bench = Bench().open()
    bench.commit(ME)
    times = 0
    for _ in range(60):
        bench.session.receive(wire.Ack(0, bench.session.outbox.sent - 1), bench.ctx)
        bench.beat_from_peer({})
        times += len(bench.headers())
        bench.ctx.run(2.0)
    assert 3 <= times <= 8


def test_a_batch_out_of_turn_begins_a_new_round() -> None:
    bench = Bench().open()
    bench.session.receive(wire.Entries(0, 1, (Entry(b"h", None),)), bench.ctx)
    (request,) = bench.take(wire.GapRequest)
    assert request == wire.GapRequest(1, {}, {})
    bench.session.receive(wire.Entries(0, 0, (Entry(b"h", None),)), bench.ctx)
    assert [message for actor, message in bench.ctx.told if isinstance(message, Apply)] == []


def test_a_refused_batch_begins_a_new_round_and_a_good_one_is_acknowledged() -> None:
    bench = Bench().open()
    for batch in (0, 1):
        bench.session.receive(wire.Entries(0, batch, (Entry(b"h", None),)), bench.ctx)
    bench.session.applied(Applied("sync:1", 0, 0, {}), bench.ctx)
    assert bench.take(wire.Ack) == [wire.Ack(0, 0)]
    bench.session.applied(Applied("sync:1", 0, 1, {}, "gap"), bench.ctx)
    assert bench.take(wire.GapRequest) == [wire.GapRequest(1, {}, {})]


def test_a_lost_request_for_a_round_is_repeated() -> None:
    bench = Bench().open()
    bench.session.receive(wire.Entries(0, 5, ()), bench.ctx)
    bench.take(wire.GapRequest)
    bench.beat_from_peer(round_=0)
    assert bench.take(wire.GapRequest) == [], "it may be on its way still"
    bench.ctx.run(STALLED + 0.1)
    bench.beat_from_peer(round_=0)
    assert bench.take(wire.GapRequest) == [wire.GapRequest(1, {}, {})]


def test_batches_that_never_arrive_are_noticed_by_the_count_in_the_heartbeat() -> None:
    bench = Bench().open()
    bench.beat_from_peer(sent=1)
    assert bench.take(wire.GapRequest) == []
    bench.ctx.run(STALLED + 0.1)
    bench.beat_from_peer(sent=1)
    assert len(bench.take(wire.GapRequest)) == 1


def test_a_new_round_starts_from_the_true_vector_of_the_peer() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.log.add(ME)
    bench.open({ME: (2, b"h2")})
    bench.session.receive(wire.GapRequest(1, {ME: (1, b"h1")}, {}), bench.ctx)
    (batch,) = bench.take(wire.Entries)
    assert batch == wire.Entries(1, 0, (Entry(b"2", b"{}"),))


def test_a_cloud_link_carries_system_entries_without_bodies() -> None:
    bench = Bench(cloud=True)
    bench.log.add(ME, body=b"secret", collection="_system_remote_peers")
    bench.log.add(ME, body=b"open")
    bench.open()
    (batch,) = bench.take(wire.Entries)
    assert batch == wire.Entries(0, 0, (Entry(b"1", None), Entry(b"2", b"open")))


def test_what_was_only_recorded_is_marked_as_such_on_the_lan() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.log.add(THIRD, collection="_system_remote_peers", applied=False)
    bench.open()
    (batch,) = bench.take(wire.Entries)
    assert isinstance(batch, wire.Entries)
    assert batch.recorded == (1,)


def test_recorded_entries_are_asked_for_on_the_lan_and_never_in_the_cloud() -> None:
    for cloud in (False, True):
        bench = Bench(cloud=cloud)
        bench.log.add(THIRD, collection="_system_remote_peers", applied=False)
        bench.open({THIRD: (1, b"h1")})
        bench.ctx.run(2.0)
        bench.session.beat(bench.ctx, None)
        assert len(bench.take(wire.Want)) == (0 if cloud else 1)


@pytest.mark.parametrize(
    ("cloud", "lacks", "asks"),
    [(False, {THIRD: 1}, 1), (False, {}, 1), (False, {THIRD: 2}, 0), (False, None, 0), (True, {THIRD: 1}, 0)],
)
def test_a_state_is_asked_for_where_a_snapshot_of_a_cloud_covers_configuration_and_the_peer_has_come_as_far(
    *, cloud: bool, lacks: dict[str, int] | None, asks: int
) -> None:
    bench = Bench(cloud=cloud)
    bench.log.lacks = lacks
    bench.open({THIRD: (1, b"h1")})
    bench.ctx.run(2.0)
    bench.session.beat(bench.ctx, None)
    assert bench.take(wire.Want) == [wire.Want(((ME, 0),))] * asks


def test_the_cloud_is_neither_supplied_nor_believed() -> None:
    bench = Bench(cloud=True)
    bench.log.add(ME, collection="_system_remote_peers")
    bench.open({ME: (1, b"h1")})
    bench.session.receive(wire.Want(((ME, 1),)), bench.ctx)
    bench.session.receive(wire.Supply((Entry(b"1", b"{}"),)), bench.ctx)
    assert bench.take(wire.Supply) == []
    assert [told for told in bench.ctx.told if told[0] == "store"] == [("store", Seen("sync", 1))]
    assert bench.counts[Reason.NOT_ALLOWED] == 1


def test_of_a_cloud_the_proofs_of_a_fork_of_our_own_log_are_taken_and_nothing_else() -> None:
    bench, store = Bench(cloud=True), Store.memory("me", b"me", 1)
    bench.log.origin = store.origin
    writes = (client.Write("users", "k", b"{}"), client.Write(REMOTE_PEERS, "p", b"{}"))
    with store.group():
        store.write(client.RequestId(b"r" * 16, 1), writes, 1, system=True)
    user, system = (Entry(row.header, row.body) for row in store.rows(1, 9))
    bench.log.add(store.origin)
    bench.session.receive(
        wire.Heartbeat(0, 0, 0, None, {store.origin: (1, b"other"), THIRD: (9, b"x")}, {}, told=2), bench.ctx
    )
    assert bench.take(wire.Want) == [wire.Want(((store.origin, 1),))]
    bench.session.receive(wire.Supply((system, Entry(b"junk", None), user)), bench.ctx)
    (received,) = [message for _, message in bench.ctx.told if isinstance(message, Apply)]
    assert (received.entries, received.cloud, received.supplied) == ((user,), True, True)


def test_an_invented_vector_changes_nothing_here() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.open({})
    bench.ctx.told.clear()
    for seq in range(2, 7):
        bench.session.receive(wire.Heartbeat(0, 0, 0, None, {ME: (seq, b"invented")}, {}, told=2), bench.ctx)
    assert bench.ctx.told == []


def test_what_is_sent_again_names_its_writers_again_as_they_are_attested_now() -> None:
    bench = Bench()
    bench.log.add(THIRD)
    bench.log.authors[THIRD] = Author(THIRD, b"key", b"by the older key of the cluster")
    bench.open()
    bench.log.authors[THIRD] = Author(THIRD, b"key", b"by the newer one")
    named = [author for batch in bench.take(wire.Entries) for author in batch.authors]  # type: ignore[attr-defined]  # Entries only
    assert [author.attestation for author in named] == [b"by the older key of the cluster"]
    bench.session.receive(wire.Ack(0, 0), bench.ctx)
    bench.beat_from_peer({})
    named = [author for batch in bench.take(wire.Entries) for author in batch.authors]  # type: ignore[attr-defined]  # Entries only
    assert [author.attestation for author in named] == [b"by the newer one"]


def test_a_quarantined_origin_does_not_keep_a_session_from_being_synced() -> None:
    for quarantined, held in (({THIRD}, {}), (set(), {THIRD: 9})):
        bench = Bench()
        bench.log.add(THIRD)
        bench.session.start(bench.ctx)
        bench.session.receive(wire.Vectors({THIRD: (9, b"other"), YOU: (1, b"y")}, {}), bench.ctx)
        bench.log.set_apart, bench.log.held_back = quarantined, held
        assert not bench.session.synced
        bench.log.add(YOU)
        bench.session.receive(wire.VectorChange({}), bench.ctx)
        assert bench.session.synced
        assert bench.session.behind_in == 8


def test_a_lan_peer_is_supplied() -> None:
    bench = Bench()
    bench.log.add(ME, collection="_system_remote_peers")
    bench.open({ME: (1, b"h1")})
    bench.session.receive(wire.Want(((ME, 1),)), bench.ctx)
    assert bench.take(wire.Supply) == [wire.Supply((Entry(b"1", b"{}"),))]


def test_lag_is_unknown_until_the_peer_has_spoken() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.session.start(bench.ctx)
    assert (bench.session.behind_in, bench.session.behind_out) == (None, None)
    bench.session.receive(wire.Vectors({YOU: (3, b"h3")}, {}), bench.ctx)
    assert (bench.session.behind_in, bench.session.behind_out) == (3, 1)


def test_what_one_frame_settles_was_one_round_trip() -> None:
    bench = Bench()
    bench.session.start(bench.ctx)
    bench.session.receive(wire.Vectors({}, {}), bench.ctx)
    bench.session.receive(wire.Heartbeat(0, 0, 0), bench.ctx)
    assert (bench.session.synced, bench.session.frames_until_synced) == (True, 1)


def test_frames_are_counted_while_something_is_missing() -> None:
    bench = Bench()
    bench.session.start(bench.ctx)
    bench.session.receive(wire.Vectors({YOU: (3, b"h3")}, {}), bench.ctx)
    bench.session.receive(wire.Heartbeat(0, 0, 0), bench.ctx)
    assert (bench.session.synced, bench.session.frames_until_synced) == (False, 2)


def test_a_batch_refused_again_and_again_is_not_sent_at_full_speed() -> None:
    """A full disk or an entry that nobody can apply: ask at once, then only every STALLED seconds."""
    bench = Bench().open()
    bench.session.applied(Applied("sync:1", 0, 0, {}, "store-busy"), bench.ctx)
    assert [m.round for m in bench.take(wire.GapRequest)] == [1]  # type: ignore[attr-defined]  # GapRequest only
    for _ in range(3):
        bench.session.applied(Applied("sync:1", 1, 0, {}, "store-busy"), bench.ctx)
        bench.session.receive(wire.Heartbeat(0, 1, 1, None, None, None), bench.ctx)
    assert bench.take(wire.GapRequest) == []
    bench.ctx.run(STALLED + 0.1)
    bench.session.receive(wire.Heartbeat(0, 1, 1, None, None, None), bench.ctx)
    assert [m.round for m in bench.take(wire.GapRequest)] == [2]  # type: ignore[attr-defined]  # GapRequest only
    bench.session.applied(Applied("sync:1", 2, 0, {YOU: (1, b"h")}, "gap"), bench.ctx)
    assert [m.round for m in bench.take(wire.GapRequest)] == [3]  # type: ignore[attr-defined]  # GapRequest only


def test_an_ack_is_repeated_for_a_peer_that_lacks_it_and_for_no_other() -> None:
    bench = Bench().open()
    bench.session.applied(Applied("sync:1", 0, 0, {YOU: (1, b"h")}, ""), bench.ctx)
    bench.sent.clear()
    bench.session.receive(wire.Heartbeat(0, 0, 1, None, {YOU: (1, b"h")}, {}, acked=0, told=2), bench.ctx)
    assert bench.take(wire.Ack) == [wire.Ack(0, 0)]
    bench.session.receive(wire.Heartbeat(0, 0, 1, None, {YOU: (1, b"h")}, {}, acked=1, told=2), bench.ctx)
    assert bench.take(wire.Ack) == []


def test_a_heartbeat_tells_how_far_the_peer_has_acknowledged() -> None:
    bench = Bench()
    bench.log.add(ME)
    bench.open()
    bench.session.beat_now(bench.ctx, None)
    bench.session.receive(wire.Ack(0, 0), bench.ctx)
    bench.session.beat_now(bench.ctx, None)
    assert [(m.sent, m.acked) for m in bench.take(wire.Heartbeat)] == [(1, 0), (1, 1)]  # type: ignore[attr-defined]  # Heartbeat only


def test_what_waits_for_credit_or_for_its_relay_delay_is_counted() -> None:
    bench = Bench()
    for _ in range(LARGE + 1):
        bench.log.add(ME, body=b"x" * BATCH_BYTES_MAX)
    bench.open()
    assert len(bench.take(wire.Entries)) == LARGE
    assert bench.counts[Reason.WINDOW_FULL] == 1
    last = bench.log.add(THIRD).lsn
    assert bench.counts[Reason.RELAY_DELAY] == 0
    bench.session.committed(last, last, 0, bench.ctx)
    assert bench.counts[Reason.RELAY_DELAY] == 1
