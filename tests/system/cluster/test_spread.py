"""How far a write has gone, on real nodes: who has it on disk, waited for, and named when not."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entgldb import aio
from entgldb.client.spread import SpreadError
from entgldb.messages.errors import InvalidError, NotFoundError
from tests.system.support.cluster_fixture import Cluster, Node
from tests.unit.web.serving import served

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
        _waits_by_http(one, two)
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


def _waits_by_http(one: Node, two: Node) -> None:
    """Each form, and each request: when it is answered, those that were asked for have it."""
    many, writes = "/v1/collections/http", [{"op": "delete", "collection": "http", "key": "h2"}]
    with served(one.directory) as http, ThreadPoolExecutor() as threads:

        def sent(method: str, path: str, ack: str, body: object = None) -> dict[str, Any]:
            done = http.request(method, path, json=body, params={"ack": ack, "ack_timeout": 20})
            assert done.is_success, done.text
            return dict(done.json()) if done.content else {}

        forms = ("local", "lan-2,cloud-1", "peers:2", "all", "cloud")
        list(threads.map(lambda ack: sent("PUT", f"{many}/documents/{ack}", ack, {"n": 1}), forms))
        assert two.document("http", "all") == two.document("http", "peers:2") == {"n": 1}
        sent("PATCH", f"{many}/documents/all", "lan-2", {"$inc": {"n": 1}})
        assert two.document("http", "all") == {"n": 2}
        sent("DELETE", f"{many}/documents/all", "lan-2")
        assert two.document("http", "all") is None
        key = sent("POST", f"{many}/documents", "lan-2", {"n": 3})["key"]
        sent("POST", f"{many}/_bulk", "lan-2", {"documents": {"h2": {"n": 4}}})
        assert (two.document("http", key), two.document("http", "h2")) == ({"n": 3}, {"n": 4})
        sent("POST", "/v1/_batch", "lan-2", {"writes": writes})
        assert two.document("http", "h2") is None
