"""Below the hard floor nothing that makes the file grow is let in; the rest goes on; it ends by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entgldb.actors.session.inbox import FULL_PATIENCE, STALLED
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.store.gates.disk_gate import LOOK_BYTES, LOOK_SECONDS
from entgldb.messages import client, wire
from entgldb.messages.local.actors import Applied, Configure, ReleaseHeld, SessionEnded
from entgldb.messages.local.snapshots import InstallSnapshot, SnapshotInstalled
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.schema import Message
from entgldb.storage.store import Store
from tests.unit.actors.session.test_session import Bench as SessionBench
from tests.unit.actors.store.test_store_keeper import Bench, FakeSecrets, batch, foreign
from tests.unit.storage.snapshot.snapshots import staged

MIB = 1024 * 1024


class Disk:
    """With as much room as a test says."""

    def __init__(self) -> None:
        self.free: int | None = 1000 * MIB
        self.looks = 0

    def free_bytes(self) -> int | None:
        self.looks += 1
        return self.free


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def bench(disk: Disk) -> Bench:
    made = Bench()
    made.keeper = StoreKeeper(made.keeper.settings, made.store, FakeSecrets(), disk)
    made.ctx.behaviour = made.keeper
    return made


def later(bench: Bench) -> None:
    """Time enough for another look, and something to do."""
    bench.ctx.run(LOOK_SECONDS)
    bench.ask(ReleaseHeld())


def state(bench: Bench) -> object:
    (report,) = bench.ask(client.Status())
    assert isinstance(report, client.Report)
    found = report.body["disk"]
    assert isinstance(found, dict)
    return found["state"]


def code(answer: Message) -> str:
    return answer.code if isinstance(answer, client.Refused) else type(answer).__name__


def test_below_the_soft_floor_it_warns_and_goes_on(bench: Bench, disk: Disk) -> None:
    disk.free = 100 * MIB
    assert [code(answer) for answer in bench.ask(bench.put("a"))] == ["CommitDone"]
    assert state(bench) == "low"
    assert bench.keeper.counts["disk-low"] == 1
    disk.free = 1000 * MIB
    later(bench)
    assert state(bench) == "ok"


def test_below_the_hard_floor_what_grows_is_refused_by_name_and_what_frees_is_not(
    bench: Bench, disk: Disk
) -> None:
    bench.ask(bench.put("a"), bench.cloud_peer())
    disk.free = 10 * MIB
    later(bench)
    remove = client.RemovePeer(bench.request(), "cloud")
    answers = bench.ask(
        bench.put("b"), bench.put("a", None), client.CreateIndex("users", ("n",)), bench.cloud_peer(), remove
    )
    assert [code(a) for a in answers] == ["disk-full", "CommitDone", "disk-full", "disk-full", "CommitDone"]
    assert isinstance(answers[0], client.Refused)
    assert str(10 * MIB) in answers[0].text
    assert answers[0].definite
    assert (bench.store.documents("users"), bench.store.get(REMOTE_PEERS, "cloud")) == ([], None)
    disk.free = 1000 * MIB
    later(bench)
    assert [code(answer) for answer in bench.ask(bench.put("b"))] == ["CommitDone"]


def test_a_request_done_before_it_had_to_be_refused_gets_its_answer_again(bench: Bench, disk: Disk) -> None:
    request = bench.put("a")
    (first,) = bench.ask(request)
    disk.free = 0
    later(bench)
    assert bench.ask(request) == [first]


def test_a_refusal_begins_no_transaction(bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.free = 0
    later(bench)

    def begun() -> None:
        raise AssertionError("a transaction on a full disk")

    monkeypatch.setattr(bench.store, "group", begun)
    assert [code(answer) for answer in bench.ask(bench.put("a"))] == ["disk-full"]


def test_it_looks_again_before_much_is_written(bench: Bench, disk: Disk) -> None:
    bench.ask(bench.put("a"))
    before, disk.free = disk.looks, 0
    assert [code(answer) for answer in bench.ask(bench.put("b"))] == ["CommitDone"]
    assert disk.looks == before
    large = b'{"a":"' + b"x" * (LOOK_BYTES // 2) + b'"}'
    answers = bench.ask(bench.put("c", large), bench.put("d", large))
    assert [code(answer) for answer in answers] == ["disk-full"] * 2


def test_a_disk_that_cannot_be_asked_refuses_nothing(bench: Bench, disk: Disk) -> None:
    disk.free = None
    assert [code(answer) for answer in bench.ask(bench.put("a"))] == ["CommitDone"]
    assert state(bench) == "ok"


def test_floors_read_again_count_at_once(bench: Bench, disk: Disk) -> None:
    disk.free = 100 * MIB
    bench.ask(bench.put("a"))
    bench.ask(Configure(store=replace(bench.keeper.settings, hard_floor=200 * MIB)))
    assert state(bench) == "full"


def test_what_peers_send_is_refused_and_asked_for_again_when_there_is_room(bench: Bench, disk: Disk) -> None:
    entries, other = foreign(2), replace(batch(foreign(1), 0), session="sync:2")
    disk.free = 0
    later(bench)
    bench.ask(batch(entries, 0), other)
    bench.ask(SessionEnded("sync:2"))
    refused = [(owner, m.refused, m.again) for owner, m in bench.told(Applied) if isinstance(m, Applied)]
    assert refused == [("sync", "disk-full", False)] * 2
    assert bench.store.vector() == {}
    bench.ctx.told.clear()
    disk.free = 1000 * MIB
    later(bench)
    assert [m for _, m in bench.told(Applied)] == [Applied("sync:1", 0, 0, {}, "disk-full", again=True)]
    bench.ask(batch(entries, 0, round_=1))
    assert [seq for seq, _ in bench.store.vector().values()] == [2]


def gap_requests(bench: SessionBench) -> int:
    return len(bench.take(wire.GapRequest))


def test_a_session_does_not_ask_a_peer_again_and_again_for_what_a_full_disk_refuses() -> None:
    bench = SessionBench().open()
    for number in range(3):
        bench.session.receive(wire.Entries(0, number, ()), bench.ctx)
        bench.session.applied(Applied("sync:1", 0, number, {}, "disk-full"), bench.ctx)
    for _ in range(int(2 * STALLED)):
        bench.wait(1.0)
        bench.session.receive(wire.Heartbeat(0, 0, 3), bench.ctx)
    assert gap_requests(bench) == 0
    bench.session.applied(Applied("sync:1", 0, 0, {}, "disk-full", again=True), bench.ctx)
    assert gap_requests(bench) == 1


def test_should_the_word_of_room_be_lost_it_is_asked_for_all_the_same() -> None:
    bench = SessionBench().open()
    bench.session.receive(wire.Entries(0, 0, ()), bench.ctx)
    bench.session.applied(Applied("sync:1", 0, 0, {}, "disk-full"), bench.ctx)
    bench.wait(FULL_PATIENCE + 1)
    bench.session.receive(wire.Heartbeat(0, 0, 1), bench.ctx)
    assert gap_requests(bench) == 1


def test_a_snapshot_waits_for_room_and_is_merged_at_a_later_offer(bench: Bench, disk: Disk) -> None:
    now_ms = bench.ctx.now_ms()
    giver = Store.memory("lan-2", b"two", now_ms)
    with giver.group():
        giver.write(client.RequestId(b"c" * 16, 1), (client.Write("users", "a", b"{}"),), now_ms)

    def offered(place: str) -> list[str]:
        bench.ctx.told.clear()
        bench.keeper.handle(InstallSnapshot("sync", "sync:1", "s", place, False, ""), bench.ctx)
        return [message.refused for _, message in bench.ctx.told if isinstance(message, SnapshotInstalled)]

    with staged(giver, now_ms) as place:
        disk.free = 10 * MIB
        bench.ctx.run(LOOK_SECONDS)
        assert offered(place) == ["disk-full"] * 2  # oplog and the session's owner
        assert bench.store.documents("users") == []
        disk.free = 1000 * MIB
        bench.ctx.run(LOOK_SECONDS)
        assert offered(place) == [""] * 2
        assert bench.store.documents("users") == [("a", b"{}")]
    giver.close()
