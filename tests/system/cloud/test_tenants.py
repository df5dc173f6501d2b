"""Two shops with keys and client ids of their own on one cloud node with tenants, as real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.database import Database, connect
from entgldb.launch.node.init import Plan, init
from entgldb.storage.file.fingerprint import FINGERPRINT_FILE
from tests.system.support.cluster_fixture import CLIENT, SECRET, VERB_SECONDS, Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="signal")]

SECOND = "second-shop"
PLANTED = "planted-in-one-tenant"


class TwoShops(Cluster):
    """The cloud names tenants after client ids."""

    storage = ""
    """The address of a PostgreSQL that has their data, in place of files."""

    def prepare(self) -> None:
        serve_tenants(self.clouds[0], self.storage)
        self.control(client={"id": SECOND, "secret": SECRET})

    def link_up(self) -> None:
        """Give each shop its link."""
        for shop, client in zip(self.lan, (CLIENT, SECOND), strict=True):
            self.add_cloud(shop, self.clouds[0], client=client)


def serve_tenants(cloud: Node, storage: str = "") -> None:
    """Have a cloud node serve tenants."""
    file = cloud.directory / "entgldb.toml"
    section = '[cloud]\ntenants = "client"' + f'\nstorage = "{storage}"' * bool(storage)
    file.write_text(file.read_text().replace("[cloud]", section))


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with TwoShops(tmp_path_factory.mktemp("shops"), lan=2, clouds=1, one_key=False) as made:
        made.link_up()
        yield made


def link(shop: Node) -> dict[str, Any]:
    """The row of the one cloud link in a lone node's status."""
    with connect(shop.directory) as db:
        rows: list[dict[str, Any]] = db.status("gateway")["links"]
    return rows[0] if rows else {}


def in_tenant(cloud: Node, tenant: str, key: str) -> dict[str, Any] | None:
    """A document among the data of a tenant; None where there is none, or the file is still being made."""
    directory = cloud.directory / "tenants" / tenant
    if not (directory / FINGERPRINT_FILE).exists():
        return None
    with Database(directory) as db:
        return db["stock"].get(key)


def verb(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entgldb", *arguments],
        capture_output=True,
        text=True,
        timeout=VERB_SECONDS,
        env=node.environment,
    )


def tenant(node: Node, *arguments: str) -> tuple[int, Any]:
    """Run one of the verbs ``entgldb tenant``: its exit code, and what it printed."""
    done = verb(node, "tenant", *arguments, "--json", "--dir", str(node.directory))
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_each_shop_has_its_own_data_in_the_cloud_and_nothing_of_the_other(shops: Cluster) -> None:
    first, second, cloud = *shops.lan, shops.clouds[0]
    first.put("stock", "apples", {"n": 1, "word": PLANTED})
    second.put("stock", "apples", {"n": 2})
    eventually(lambda: in_tenant(cloud, CLIENT, "apples"), "the first shop's document is in the cloud", 40.0)
    eventually(lambda: in_tenant(cloud, SECOND, "apples"), "the second shop's, too", 40.0)
    found = in_tenant(cloud, SECOND, "apples")
    assert found == {"n": 2}
    second.put("stock", "pears", {"n": 3})
    eventually(lambda: in_tenant(cloud, SECOND, "pears"), "and the next", 20.0)
    assert cloud.document("stock", "apples") is None
    elsewhere = [
        file
        for place in (second.directory, cloud.directory)
        for file in place.rglob("*")
        if file.is_file() and CLIENT not in file.parts and PLANTED.encode() in file.read_bytes()
    ]
    assert elsewhere == []
    assert PLANTED not in json.dumps(second.run("status"))
    assert [cloud.ask(actor)["tenants_open"] for actor in ("store", "oplog", "sync")] == [2, 2, 2]


def test_a_tenant_is_listed_suspended_exported_and_deleted_for_good(shops: Cluster, tmp_path: Path) -> None:
    first, second, cloud = *shops.lan, shops.clouds[0]
    first.put("stock", "pears", {"n": 4})
    eventually(lambda: in_tenant(cloud, CLIENT, "pears"), "the first shop is served", 40.0)
    _, told = tenant(cloud, "list")
    row = {row["name"]: row for row in told["tenants"]}[CLIENT]
    assert (row["state"], row["open"]) == ("active", True)
    assert row["documents"] >= 1
    _, shown = tenant(cloud, "show", CLIENT)
    assert [peer["client_id"] for peer in shown["sync"]["peers"]] == [CLIENT]

    directory = cloud.directory / "tenants" / CLIENT
    assert tenant(cloud, "suspend", CLIENT)[1]["state"] == "suspended"
    eventually(lambda: link(first).get("reason") == "tenant-suspended", "its shop is told", 20.0)
    _, copy = tenant(cloud, "export", CLIENT, str(tmp_path / "copy.db"))
    assert copy["documents"] >= 1
    made = init(
        Plan(tmp_path / "n1", cloud.name, host="127.0.0.1", cluster_key_file=first.directory / "cluster.key")
    )
    assert verb(first, "restore", str(tmp_path / "copy.db"), "--dir", str(made.directory)).returncode == 0
    with entgldb.open(made.directory) as db:
        assert db["stock"].get("pears") == {"n": 4}
    assert tenant(cloud, "resume", CLIENT)[1]["state"] == "active"
    eventually(lambda: link(first).get("state") == "connected", "its shop is served again", 60.0)

    assert tenant(cloud, "delete", CLIENT, "--yes")[1]["state"] == "deleting"
    # kill -9 before the first step: the deletion goes on after the next start
    cloud.kill()
    assert directory.exists()
    cloud.start()
    cloud.wait_ready()
    eventually(lambda: link(first).get("reason") == "tenant-deleted", "its shop is told", 70.0)
    eventually(lambda: not directory.exists(), "nothing is left of it", 20.0)
    assert tenant(cloud, "resume", CLIENT)[0] == 6
    assert tenant(cloud, "show", "nobody")[0] == 3
    second.put("stock", "plums", {"n": 5})
    eventually(lambda: in_tenant(cloud, SECOND, "plums"), "others go on", 40.0)
    assert "this node serves no tenants" in tenant(second, "list")[1]
