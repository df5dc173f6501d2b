"""How far a write has gone, on real nodes: who has it on disk, waited for, and named when not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from entgldb import aio
from entgldb.client.spread import SpreadError
from entgldb.messages.errors import InvalidError, NotFoundError
from tests.system.support.cluster_fixture import Cluster

pytestmark = pytest.mark.slow


@pytest.mark.timeout(150)
def test_a_write_is_waited_for_and_who_lacks_it_is_named(tmp_path: Path) -> None:
    with Cluster(tmp_path, lan=2, clouds=1) as cluster:
        one, two = cluster.lan
        cloud = cluster.clouds[0]
        cluster.add_cloud(one, cloud)
        cluster.until_held_by(cloud, cluster.gateway())
        with one.open() as db:
            version = db["users"].put("u1", {"n": 1})
            assert db.wait_synced(20.0).durable == ("cloud-1", "lan-2")
            assert (two.document("users", "u1"), cloud.document("users", "u1")) == ({"n": 1}, {"n": 1})
            assert str(db.spread(version)) == "durable on cloud-1, lan-2"
            safe = db["users"].with_ack("peers:2", 20.0)
            made = db["users"].insert({"n": 2}, ack="peers:2", ack_timeout=20.0)
            assert (two.document("users", made.key), cloud.document("users", made.key)) == (
                {"n": 2},
                {"n": 2},
            )
            assert safe.put_many({"u3": {"n": 3}, "u4": {"n": 4}}) == 2
            assert safe.update("u3", {"$inc": {"n": 1}})
            assert safe.delete("u4")
            assert (two.document("users", "u3"), cloud.document("users", "u4")) == ({"n": 4}, None)
            with db.batch(ack=["lan-2"], ack_timeout=20.0) as batch:
                batch["users"].put("u5", {"n": 5})
            assert two.document("users", "u5") == {"n": 5}
            with pytest.raises(NotFoundError, match="lan-9"):
                db.wait_synced(1.0, peers=["lan-9"])
            with pytest.raises(InvalidError):
                db.wait_synced(1.0, peers="some")

        asyncio.run(_waits_for_one_peer_alone(one.directory))
        two.stop()
        with one.open() as db:
            db["users"].put("u2", {"n": 2})
            begun = time.monotonic()
            with pytest.raises(SpreadError, match="lan-2 not yet") as caught:
                db.wait_synced(0.5, peers=["lan-2"])
            assert time.monotonic() - begun >= 0.5
            assert "lan-2" in caught.value.spread.missing
            with pytest.raises(SpreadError) as caught:
                db["users"].with_ack("all", 0.1).put_many({"u6": {"n": 6}, "u7": {"n": 7}})
            assert (caught.value.stored, len(caught.value.versions)) == (2, 2)
            assert db["users"].get("u7") == {"n": 7}

        done = one.verb("put", "users", "u8", "{}", "--ack", "lan-2", "--ack-timeout", "0.1")
        assert (done.returncode, done.stdout) == (5, "")
        assert "not-spread: durable here" in done.stderr
        told = one.run("put", "users", "u9", "{}", "--ack", "cloud")[0]
        assert (told["key"], told["durable"], told["missing"]) == ("u9", ["cloud-1"], ["lan-2"])
        done = one.verb("put", "users", "u9", "{}", "--ack", "cloud")
        assert done.stdout.endswith(": durable on cloud-1; lan-2 not yet\n")
        done = one.verb("wait-synced", "--peers", "2", "--timeout", "0.1", "--json")
        assert done.returncode == 5, done.stderr
        assert done.stderr.startswith("not-spread: durable here")
        two.start()
        assert set(one.run("wait-synced", "--peers", "lan-2,cloud-1")[0]["durable"]) == {"lan-2", "cloud-1"}
        assert json.loads(two.verb("get", "users", "u2", "--json").stdout)["document"] == {"n": 2}


async def _waits_for_one_peer_alone(directory: Path) -> None:
    async with aio.connect(directory) as db:
        # a wait in vain keeps no other request
        vain = asyncio.create_task(db.wait_synced(8.0, peers=3))
        version = await db["users"].put("u1", {"n": 3})
        assert "lan-2" in (await db.wait_synced(20.0, peers=1)).durable
        assert "lan-2" in (await db.spread(version)).durable
        version = await db["users"].put("u1", {"n": 4}, ack=1, ack_timeout=20.0)
        assert version.spread is not None
        assert set(version.spread.durable) <= set((await version.status()).durable)
        safe = db["users"].with_ack(1, 20.0)
        key = (await safe.insert({"n": 8})).key
        assert await safe.update(key, {"$inc": {"n": 1}})
        assert await safe.delete(key)
        assert await safe.put_many({"u10": {}}) == 1
        async with db.batch(ack=1, ack_timeout=20.0) as batch:
            batch["users"].put("u11", {})
        assert "lan-2" in (await batch.made()[0].status()).durable
        assert not vain.done()
        vain.cancel()
