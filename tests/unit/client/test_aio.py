"""``entgldb.aio`` against a real node in processes of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

import entgldb.aio
from entgldb.client.aio import wire as aio_wire
from entgldb.client.wire import connected
from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.process import start_detached, stop_node
from entgldb.messages.errors import InvalidError, NoNodeError, NotFoundError, TooLargeError, UnsupportedError

pytestmark = pytest.mark.slow


def test_it_does_what_the_blocking_api_does(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            users = db["users"]
            version = await users.put("u1", {"name": "Ada", "age": 36})
            assert (await users.put("u1", {"name": "Ada", "age": 37})).seq == version.seq + 1
            found = await users.get("u1")
            assert found == {"name": "Ada", "age": 37}
            assert found is not None
            assert found.key == "u1"
            assert await users.get("nobody") is None
            assert await users.delete("u1") is not None
            assert await users.delete("u1") is None
            assert await users.put_many({f"p{n}": {"age": n} for n in range(1200)}) == 1200
            await users.create_index("age")
            assert await users.count({"age": {"$gte": 1000}}) == 200
            ages = [one["age"] async for one in users.find({"age": {"$lt": 600}}, sort="-age")]
            assert ages == list(range(599, -1, -1))
            assert "users" in await db.collections()
            assert await db.conflicts() == []
            assert (await db.quarantine(), await db.held()) == ([], [])
            assert (await db.status())["node_id"] == "lan-1"
            assert (await db.status("store"))["documents"] >= 1200
            await db.peers.add_static_peer("lan-9", "127.0.0.1:9", enabled=False)
            assert await db.peers.update_remote_peer("lan-9", address="127.0.0.1:10")
            assert [one.address for one in await db.peers.get_all_remote_peers()] == ["127.0.0.1:10"]
            await db.peers.remove_remote_peer("lan-9")
            with pytest.raises(NotFoundError):
                await db.peers.get_remote_peer("lan-9")

    asyncio.run(walk())


def test_faults_come_as_the_errors_they_are(directory: Path, tmp_path: Path) -> None:
    async def walk() -> None:
        db = await entgldb.aio.connect(directory)
        with pytest.raises(InvalidError):
            await db["users"].put("", {})
        with pytest.raises(TooLargeError):
            await db["users"].put("k", {"x": "y" * 2**20})
        with pytest.raises(UnsupportedError):
            [one async for one in db["users"].find({"age": {"$near": 1}})]
        with pytest.raises(entgldb.TokenExpired):
            [one async for one in db.changes("0" * 32 + ".1")]
        await db.close()
        with pytest.raises(NoNodeError, match="no node is running in"):
            await entgldb.aio.connect(tmp_path)

    asyncio.run(walk())


def test_after_close_every_call_says_so(directory: Path) -> None:
    async def walk() -> None:
        db = await entgldb.aio.connect(directory)
        await db["closing"].put_many({f"k{n}": {"n": n} for n in range(1200)})
        under_way = db["closing"].find()
        await anext(under_way)
        await db.close()
        await db.close()
        for call in (
            lambda: db["closing"].get("k1"),
            lambda: db["closing"].put("k1", {}),
            lambda: db["closing"].count(),
            lambda: db["closing"].create_index("n"),
            lambda: anext(db["closing"].find()),
            lambda: anext(db.changes()),
            lambda: anext(db.changes(follow=True)),
            lambda: db.collections(),
            lambda: db.status(),
            lambda: db.peers.get_all_remote_peers(),
            lambda: db.nodes.all(),
            lambda: db.attach(),
        ):
            with pytest.raises(InvalidError, match="this database was closed"):
                await call()
        with pytest.raises(InvalidError, match="this database was closed"):
            [one async for one in under_way]

    asyncio.run(walk())


def test_a_connect_that_is_cancelled_leaves_no_socket(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled, go_on = threading.Event(), threading.Event()
    made: list[socket.socket] = []

    def slowly(where: Path, patience: float) -> socket.socket:
        dialled.set()
        go_on.wait(20)
        made.append(connected(where, patience))
        return made[-1]

    monkeypatch.setattr(aio_wire, "connected", slowly)

    async def walk() -> None:
        task = asyncio.ensure_future(entgldb.aio.connect(directory)._made())
        await asyncio.to_thread(dialled.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        async with asyncio.timeout(20):
            while not made or made[0].fileno() != -1:
                await asyncio.sleep(0.01)

    asyncio.run(walk())


def test_changes_resume_and_follow(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db, asyncio.timeout(20):
            items = db["items"]
            await items.put("a", {"n": 1})
            token = [change async for change in items.changes()][-1].token
            await items.put("b", {"n": 2})
            seen = []
            async for change in items.changes(token, follow=True):
                seen.append((change.key, change.document))
                if len(seen) == 4:
                    break
                if change.key != "a":
                    await items.put(f"{change.key}b", {"n": len(seen)})
            assert seen == [("b", {"n": 2}), ("bb", {"n": 1}), ("bbb", {"n": 2}), ("bbbb", {"n": 3})]
            quiet = db["quiet"].changes()
            assert [change async for change in quiet] == []
            assert quiet.token == await db.token()

    asyncio.run(walk())


def test_a_feed_is_told_of_a_commit_not_left_to_look_for_it(directory: Path) -> None:
    async def walk() -> float:
        async with entgldb.aio.connect(directory) as db:
            loop = asyncio.get_running_loop()
            waits = []
            async with asyncio.timeout(20):
                async for change in db["prompt"].changes(follow=True):
                    waits.append(loop.time() - change.document["at"])
                    if len(waits) == 10:
                        break
                    later = loop.create_task(db["prompt"].put("k", {"at": loop.time()}))
                    await later
            return sorted(waits)[5]

    async def begin() -> None:
        async with entgldb.aio.connect(directory) as db:
            await db["prompt"].put("k", {"at": asyncio.get_running_loop().time()})

    asyncio.run(begin())
    assert asyncio.run(walk()) < 0.5, "the file is looked at every 2 s while the node pushes"


def test_writes_in_flight_ride_out_the_death_of_the_store(directory: Path) -> None:
    async def walk() -> tuple[list[int], list[str]]:
        connect = entgldb.aio.connect
        async with connect(directory, in_flight=64) as db, connect(directory) as other:
            flood = db["flood"]
            writes = [asyncio.create_task(flood.put(f"k{n}", {"n": n})) for n in range(4000)]
            for landmark in (500, 1500, 2500):
                await writes[landmark]
                os.kill(int((await other.status())["pids"]["store"]), signal.SIGKILL)
            seqs = [version.seq for version in await asyncio.gather(*writes)]
            return seqs, [one.key async for one in flood.find()]

    seqs, keys = asyncio.run(walk())
    assert len(set(seqs)) == 4000
    # a write done twice would be in the log twice; the node may have written of itself meanwhile
    logged = "SELECT count(*) FROM _entgldb_oplog WHERE collection = 'flood'"
    with entgldb.connect(directory) as db:
        assert db.documents.put_to(lambda file: file.execute(logged).fetchone()) == (4000,)
    assert set(keys) == {f"k{n}" for n in range(4000)}


def test_a_restart_of_the_node_is_ridden_out(tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1"))
    start_detached(made.directory)

    async def walk() -> None:
        async with entgldb.aio.connect(made.directory, timeout=20) as db:
            await db["users"].put("before", {})
            await asyncio.to_thread(stop_node, made.directory)
            during = [asyncio.create_task(db["users"].put(f"during-{n}", {})) for n in range(3)]
            await asyncio.to_thread(start_detached, made.directory)
            await asyncio.gather(*during)
            assert await db["users"].count() == 4

    try:
        asyncio.run(walk())
    finally:
        stop_node(made.directory)
