"""Indexes in the store actor: built between requests, put off by a full disk, resumed after a restart."""

from __future__ import annotations

import json

import pytest

from entgldb.actors.store.behaviour import CHECKPOINT_INTERVAL, StoreKeeper
from entgldb.actors.store.gates.disk_gate import LOOK_SECONDS
from entgldb.actors.store.indexing import requests
from entgldb.actors.store.indexing.building import STEP_ROWS_MIN, STEP_SECONDS, Building
from entgldb.actors.store.indexing.requests import PAUSE
from entgldb.messages import client
from entgldb.messages.limits import INDEX_STEP_ROWS
from entgldb.messages.local.actors import BuildIndexes, Tick
from entgldb.messages.model import INDEXES
from entgldb.messages.schema import Json
from entgldb.storage.indexes import building
from tests.unit.actors.store.test_disk_gate import MIB, Disk
from tests.unit.actors.store.test_store_keeper import Bench, FakeSecrets

AGE = client.CreateIndex("users", ("age",))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def bench(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(building, "INDEX_STEP_ROWS", 2)
    return began(Bench(), disk)


def began(bench: Bench, disk: Disk) -> Bench:
    """A life of the actor on the file as it is."""
    bench.keeper = StoreKeeper(bench.keeper.settings, bench.store, FakeSecrets(), disk)
    bench.ctx.behaviour = bench.keeper
    bench.keeper.start(bench.ctx)
    return bench


def filled(bench: Bench, count: int) -> None:
    bench.ask(*(bench.put(f"k{number}", b'{"age":%d}' % number) for number in range(count)))


def told(bench: Bench) -> Json:
    (report,) = bench.ask(client.Status())
    assert isinstance(report, client.Report)
    return report.body["indexes"]


def under_way(walked: int) -> Json:
    return {"ready": 0, "building": [{"index": "users/age", "walked": walked}], "refused": []}


READY: Json = {"ready": 1, "building": [], "refused": []}


def test_steps_are_taken_one_by_one_and_writes_go_on_in_between(bench: Bench) -> None:
    filled(bench, 7)
    assert bench.ask(AGE) == [client.CommitDone((), 0)]
    assert told(bench) == under_way(2)
    bench.ctx.run(0)
    assert told(bench) == under_way(4)
    bench.ctx.run(PAUSE / 2)
    assert told(bench) == under_way(4)
    (done,) = bench.ask(bench.put("k00", b'{"age":1}'))
    assert isinstance(done, client.CommitDone)
    bench.ctx.run(10 * PAUSE)
    assert told(bench) == READY
    bench.ctx.run(60)
    assert bench.store.connection.execute("SELECT count(*) FROM _entgldb_ix_1").fetchone() == (8,)


def test_a_crash_in_the_middle_goes_on_there(bench: Bench, disk: Disk) -> None:
    filled(bench, 7)
    bench.ask(AGE)
    bench.store = bench.store.reopen(bench.store, bench.ctx.now_ms())
    bench.ctx = type(bench.ctx)(wall_ms=bench.ctx.now_ms())
    began(bench, disk)
    assert told(bench) == under_way(2)
    bench.ctx.run(10 * PAUSE)
    assert told(bench) == READY


def test_a_full_disk_puts_the_next_step_off(
    bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PAUSE", 2 * LOOK_SECONDS)
    filled(bench, 7)
    bench.ask(AGE)
    bench.ctx.run(0)
    disk.free = MIB
    bench.ctx.run(CHECKPOINT_INTERVAL / 2)
    assert told(bench) == under_way(4)
    disk.free = 1000 * MIB
    bench.ctx.run(2 * CHECKPOINT_INTERVAL)
    assert told(bench) == READY


def test_a_node_that_has_nothing_to_build_does_nothing(bench: Bench) -> None:
    bench.ctx.run(5 * CHECKPOINT_INTERVAL)
    statements: list[str] = []
    bench.store.connection.set_trace_callback(statements.append)
    bench.ask(bench.put("a"))
    bench.ctx.run(5 * CHECKPOINT_INTERVAL)
    assert [one for one in statements if "_entgldb_indexes" in one and "SELECT number" not in one] == []


def test_everywhere_is_a_document_written_once(bench: Bench) -> None:
    first, again, third = (
        bench.ask(client.CreateIndex("users", ("age",), request=bench.request()))[0] for _ in range(3)
    )
    assert isinstance(first, client.CommitDone)
    assert first.lsn > 0
    assert again == third == client.CommitDone((), 0)
    ((key, body),) = bench.store.documents(INDEXES)
    assert (key, json.loads(body)) == (
        "users/age",
        {
            "Collection": "users",
            "Name": "age",
            "Paths": ["age"],
            "Unique": False,
            "Where": None,
            "Text": False,
        },
    )
    (dropped,) = bench.ask(client.DropIndex(bench.request(), "users", "age"))
    assert isinstance(dropped, client.CommitDone)
    assert bench.store.documents(INDEXES) == []


def test_a_cloud_node_takes_no_part_in_everywhere() -> None:
    cloud = Bench(role="cloud")
    (refused,) = cloud.ask(client.CreateIndex("users", ("age",), request=cloud.request()))
    assert isinstance(refused, client.Refused)
    assert refused.code == "not-allowed"
    assert cloud.ask(AGE) == [client.CommitDone((), 0)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (client.CreateIndex("users", ()), "invalid"),
        (client.CreateIndex("_system_nodes", ("a",)), "invalid"),
        (client.CreateIndex("users", ("a",), where=b"no json"), "invalid"),
        (client.CreateIndex("users", ("a",), where=b"[]"), "invalid"),
        (client.CreateIndex("users", ("a",), where=b'{"a":{"$no":1}}'), "unsupported"),
        (client.CreateIndex("users", ("a", "b"), name="age"), "already-exists"),
        (client.DropIndex(client.RequestId(b"d" * 16, 1), "users", "no"), "not-found"),
        (client.RebuildIndex("users", "no"), "not-found"),
    ],
)
def test_what_cannot_be_is_refused_and_harms_no_neighbour(
    bench: Bench, message: client.Message, code: str
) -> None:
    bench.ask(AGE)
    good, bad, also_good = bench.ask(bench.put("a"), message, bench.put("b"))
    assert isinstance(bad, client.Refused)
    assert bad.code == code
    assert isinstance(good, client.CommitDone)
    assert isinstance(also_good, client.CommitDone)


def test_an_index_is_built_again_on_demand(bench: Bench) -> None:
    filled(bench, 7)
    bench.ask(AGE)
    bench.ctx.run(1)
    assert bench.ask(client.RebuildIndex("users", "age")) == [client.Done()]
    assert told(bench) == under_way(0)
    bench.ctx.run(1)
    assert told(bench) == READY


def test_what_repeats_a_unique_value_harms_no_neighbour(bench: Bench) -> None:
    bench.ask(client.CreateIndex("users", ("age",), unique=True))
    bench.ctx.run(1)
    one, two, three = bench.ask(*(bench.put(key, b'{"age":1}') for key in "ab"), bench.put("c"))
    assert isinstance(one, client.CommitDone)
    assert isinstance(two, client.Refused)
    assert (two.code, two.definite) == ("already-exists", True)
    assert isinstance(three, client.CommitDone)
    assert bench.store.get("users", "b") is None
    bench.ask(BuildIndexes(bench.keeper.building.number))
    assert bench.store.get("users", "c") == b"{}"


def test_one_step_at_a_time_is_on_its_way_however_often_the_store_looks(bench: Bench) -> None:
    filled(bench, 60)
    bench.ask(AGE)
    for _ in range(20):
        # each looks whether a step was turned away, while one is yet to come
        bench.ask(Tick("checkpoint"))
    bench.ctx.run(0)
    assert told(bench) == under_way(4)
    for walked in (6, 8, 10):
        bench.ctx.run(PAUSE)
        assert told(bench) == under_way(walked)


def test_a_step_that_takes_long_is_followed_by_a_smaller_one() -> None:
    steps = Building()
    assert steps.rows == INDEX_STEP_ROWS
    steps.took(4 * STEP_SECONDS)
    assert steps.rows == INDEX_STEP_ROWS // 4
    steps.took(1000.0)
    assert steps.rows == STEP_ROWS_MIN
    steps.took(0.001)
    assert steps.rows == 2 * STEP_ROWS_MIN
    for _ in range(20):
        steps.took(0.0)
    assert steps.rows == INDEX_STEP_ROWS
