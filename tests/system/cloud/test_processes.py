"""Two cloud processes over one PostgreSQL, each with a gateway of a cluster that was split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from entgldb.storage.postgres.store import LogReader
from tests.support import postgres
from tests.system.cloud.test_tenants import link, serve_tenants, tenant
from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="signal")]

SELDOM_S: Final = 300
"""So seldom does a process look by itself here."""
WRITES: Final = 40
"""Of each half of the cluster."""


class Split(Cluster):
    """Two halves that do not reach each other; each knows another process of the cloud."""

    dsn = ""

    def prepare(self) -> None:
        for cloud in self.clouds:
            serve_tenants(cloud, self.dsn)
            file = cloud.directory / "entgldb.toml"
            text = file.read_text().replace('id = "cloud-2"', 'id = "cloud-1"')
            file.write_text(f"{text}\n[sync]\ninterval = {SELDOM_S}\n")
            cloud.name = "cloud-1"

    def link_up(self) -> None:
        for half in self.lan:
            half.run("pause", "lan")
        for half, cloud in zip(self.lan, self.clouds, strict=True):
            self.add_cloud(half, cloud)


@pytest.fixture
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    with ExitStack() as stack:
        Split.dsn = stack.enter_context(postgres.a_server()).address
        made = stack.enter_context(Split(tmp_path_factory.mktemp("split"), lan=2, clouds=2))
        assert isinstance(made, Split)
        made.link_up()
        yield made


def has(half: Node, key: str) -> bool:
    return half.document("stock", key) is not None


def test_the_halves_of_a_cluster_meet_over_two_processes(split: Split) -> None:
    first, second = split.lan
    for half in split.lan:
        eventually(lambda half=half: link(half).get("state") == "connected", "each has its link", 60.0)
    # nobody looks by itself: the processes wake each other
    for number in range(WRITES):
        first.put("stock", f"a{number}", {"n": number})
        second.put("stock", f"b{number}", {"n": number})
    eventually(lambda: has(second, f"a{WRITES - 1}"), "the second half has what the first wrote", 60.0)
    eventually(lambda: has(first, f"b{WRITES - 1}"), "and the first what the second wrote", 60.0)

    name = tenant(split.clouds[0], "list")[1]["tenants"][0]["name"]
    for cloud in split.clouds:
        eventually(
            lambda cloud=cloud: (
                {link["node_id"] for link in tenant(cloud, "show", name)[1]["gateways"]}
                == {half.name for half in split.lan}
            ),
            "each process shows both gateways",
            60.0,
        )
    log = LogReader.connect(split.dsn, name)
    rows = log.rows(1, 1_000)
    assert [row.lsn for row in rows] == list(range(1, log.last_lsn() + 1))
    assert len({(row.origin, row.seq) for row in rows}) == len(rows)
    assert log.vector().keys() >= {half.ask("oplog")["origin"] for half in split.lan}

    # one process dies: the other goes on, and so does the half that had it when it is back
    split.clouds[0].kill()
    first.put("stock", "late", {"n": 1})
    second.put("stock", "meanwhile", {"n": 1})
    split.clouds[0].start()
    split.clouds[0].wait_ready()
    eventually(lambda: has(second, "late") and has(first, "meanwhile"), "both have all", 70.0)

    # an order to one process is an order to all
    assert tenant(split.clouds[1], "suspend", name)[0] == 0
    for half in split.lan:
        eventually(lambda half=half: link(half).get("reason") == "tenant-suspended", "it is shut", 70.0)
    assert json.dumps(first.run("status")).count("tenant-suspended") >= 1
