"""Two clusters with keys of their own on one cloud node, as real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entgldb.client.database import connect
from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def link(shop: Node) -> dict[str, Any]:
    """The row of the one cloud link in a lone node's status."""
    with connect(shop.directory) as db:
        rows: list[dict[str, Any]] = db.status("gateway")["links"]
    return rows[0] if rows else {}


def test_two_shops_on_one_cloud_do_not_mix(tmp_path: Path) -> None:
    with Cluster(tmp_path, lan=2, clouds=1, one_key=False) as shops:
        first, second, cloud = *shops.lan, shops.clouds[0]
        first.put("stock", "apples", {"n": 1})
        second.put("stock", "apples", {"n": 2})
        shops.add_cloud(first, cloud)
        eventually(
            lambda: cloud.document("stock", "apples"), "the first shop's document is in the cloud", 30.0
        )
        shops.add_cloud(second, cloud)
        eventually(lambda: link(second).get("reason") == "other-cluster", "the second shop is told", 30.0)
        second.put("stock", "pears", {"n": 3})
        assert "other-cluster" in second.verb("status").stdout
        assert second.verb("status", "--check").returncode == 5
        status = cloud.verb("status", "--check")
        assert "other-cluster: client lan-cluster-client of cluster" in status.stdout
        assert status.returncode == 5
        assert (cloud.document("stock", "apples"), cloud.document("stock", "pears")) == ({"n": 1}, None)
        assert second.document("stock", "apples") == {"n": 2}
        assert (link(first)["state"], link(first)["reason"]) == ("connected", "")

        file = cloud.directory / "entgldb.toml"
        file.write_text(file.read_text().replace("[cloud]", "[cloud]\nshared = true"))
        cloud.run("reload")
        eventually(lambda: cloud.document("stock", "pears"), "whoever mixes says so by name", 90.0)
