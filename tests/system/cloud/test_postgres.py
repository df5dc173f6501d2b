"""Two shops on one cloud node whose tenants are on one PostgreSQL, as real processes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from entgldb.storage.postgres.server import server
from entgldb.storage.postgres.store import LogReader
from tests.support import postgres
from tests.support.postgres import Running
from tests.system.cloud.test_tenants import SECOND, TwoShops, link, serve_tenants, tenant
from tests.system.support.cluster_fixture import CLIENT, Cluster
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="signal")]

PLANTED = "planted-in-one-tenant"


class ShopsOnPostgres(TwoShops):
    """The client ids are the tests' own: the database may have other tenants."""

    def prepare(self) -> None:
        self.storage = postgres.address()
        super().prepare()


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ShopsOnPostgres(tmp_path_factory.mktemp("pg"), lan=2, clouds=1, one_key=False) as made:
        made.link_up()
        yield made


@pytest.fixture(scope="module")
def shop_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Running]]:
    """A shop whose cloud node has a PostgreSQL that nobody else uses."""
    with postgres.a_server() as running:

        class Shop(Cluster):
            def prepare(self) -> None:
                serve_tenants(self.clouds[0], running.address)

        with Shop(tmp_path_factory.mktemp("pg"), lan=1, clouds=1, one_key=False) as made:
            made.add_cloud(made.lan[0], made.clouds[0])
            yield made, running


def stock(name: str, address: str = "") -> dict[str, object]:
    """The documents of a tenant, as PostgreSQL has them: none before the node has made its tables."""
    on = address or postgres.address()
    if not server(on).alone("SELECT 1 FROM pg_tables WHERE tablename = 'entgldb_schema'"):
        return {}
    rows = LogReader.connect(on, name).documents("stock")
    return {key: json.loads(body) for key, body in rows}


def test_gateways_write_through_to_their_tenant_and_to_no_other(shops: Cluster, tmp_path: Path) -> None:
    first, second, cloud = *shops.lan, shops.clouds[0]
    first.put("stock", "apples", {"n": 1, "word": PLANTED})
    second.put("stock", "apples", {"n": 2})
    eventually(lambda: stock(CLIENT).get("apples"), "the first shop's document is in the database", 60.0)
    eventually(lambda: stock(SECOND).get("apples"), "the second shop's, too", 60.0)
    assert stock(SECOND) == {"apples": {"n": 2}}
    assert [cloud.ask(actor)["tenants_open"] for actor in ("store", "oplog", "sync")] == [2, 2, 2]
    assert list(cloud.directory.glob("tenants/*/entgldb.db")) == []
    assert PLANTED not in json.dumps(second.run("status"))
    _, told = tenant(cloud, "list")
    assert {row["name"]: row["documents"] for row in told["tenants"]}[SECOND] >= 1

    # whatever the process knew is in the database
    cloud.kill()
    cloud.start()
    cloud.wait_ready()
    second.put("stock", "pears", {"n": 3})
    eventually(lambda: stock(SECOND).get("pears"), "it goes on where it was", 70.0)
    assert LogReader.connect(postgres.address(), SECOND).vector()[second.ask("oplog")["origin"]][0] >= 2
    assert tenant(cloud, "restored", SECOND)[1]["tenants"][0]["name"] == SECOND
    assert tenant(cloud, "restored")[0] == tenant(cloud, "restored", SECOND, "--all")[0] != 0
    second.put("stock", "plums", {"n": 4})
    eventually(lambda: stock(SECOND).get("plums"), "as a new writer, too", 70.0)

    _, copy = tenant(cloud, "export", CLIENT, str(tmp_path / "copy.db"))
    assert copy["documents"] >= 1
    with closing(sqlite3.connect(tmp_path / "copy.db")) as file:
        found = file.execute("SELECT body FROM _entgldb_documents WHERE collection = 'stock'").fetchall()
    assert [json.loads(body)["word"] for (body,) in found] == [PLANTED]

    assert tenant(cloud, "delete", CLIENT, "--yes")[1]["state"] == "deleting"
    eventually(lambda: link(first).get("reason") == "tenant-deleted", "its shop is told", 70.0)
    eventually(lambda: stock(CLIENT) == {}, "nothing is left of it", 30.0)
    assert (stock(SECOND)["pears"], stock(SECOND)["plums"]) == ({"n": 3}, {"n": 4})


def test_a_server_that_dies_costs_nothing_that_was_acknowledged(
    shop_and_server: tuple[Cluster, Running],
) -> None:
    made, running = shop_and_server
    (shop,), cloud = made.lan, made.clouds[0]
    shop.put("stock", "k0", {"n": 0})
    eventually(lambda: stock(CLIENT, running.address), "it is in the database", 60.0)
    for n in range(1, 4):
        running.end()
        server(running.address).close()
        shop.put("stock", f"k{n}", {"n": n})
        if n == 3:
            eventually(lambda: link(shop).get("reason") == "storage-unavailable", "its shop is told", 40.0)
        running.start()
    wanted = {f"k{n}": {"n": n} for n in range(4)}
    eventually(lambda: stock(CLIENT, running.address) == wanted, "the rest comes", 70.0)
    assert cloud.is_up
    assert LogReader.connect(running.address, CLIENT).vector()[shop.ask("oplog")["origin"]][0] >= len(wanted)


def test_what_a_standby_lacks_that_took_over_comes_back_from_the_lan(
    shop_and_server: tuple[Cluster, Running],
) -> None:
    made, running = shop_and_server
    (shop,), cloud, on = made.lan, made.clouds[0], running.address
    shop.put("stock", "kept", {"n": 1})
    eventually(lambda: stock(CLIENT, on).get("kept"), "it is in the database", 70.0)
    before = stock(CLIENT, on)
    running.copy("-R")
    shop.put("stock", "lost", {"n": 2})
    eventually(lambda: stock(CLIENT, on).get("lost"), "and the next, which the standby lacks", 70.0)
    server(on).close()
    running.put_back()
    running.run("pg_ctl", ("-w", "-D", str(running.data), "promote"))
    assert stock(CLIENT, on) == before
    shop.put("stock", "later", {"n": 3})
    wanted = {**before, "lost": {"n": 2}, "later": {"n": 3}}
    eventually(lambda: stock(CLIENT, on) == wanted, "the gateway brings what was lost", 100.0)
    known = tenant(cloud, "show", CLIENT)[1]["store"]["incarnations"]
    assert [one["why"] for one in known if one["why"]] == ["rolled-back"]
    assert cloud.is_up


@contextmanager
def no_room_for(tenant: str) -> Iterator[None]:
    """The server refuses each row of the log of one tenant, as where its disk is full."""
    with psycopg.connect(postgres.address(), autocommit=True) as other:
        other.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$"
        )
        other.execute(
            "CREATE TRIGGER no_room BEFORE INSERT ON entgldb_oplog FOR EACH ROW"
            f" WHEN (NEW.tenant = '{tenant}') EXECUTE FUNCTION no_room()"  # type: ignore[arg-type]  # no literal
        )
        try:
            yield
        finally:
            other.execute("DROP FUNCTION no_room CASCADE")


def test_a_tenant_that_the_server_takes_no_more_from_waits_alone(shops: Cluster) -> None:
    second = shops.lan[1]
    second.put("stock", "before", {"n": 1})
    eventually(lambda: stock(SECOND).get("before"), "it is served", 70.0)
    with no_room_for(SECOND):
        second.put("stock", "waits", {"n": 2})
        eventually(lambda: link(second).get("reason") == "storage-unavailable", "its shop is told", 60.0)
        assert "waits" not in stock(SECOND)
        _, told = tenant(shops.clouds[0], "list")
        assert {row["name"] for row in told["tenants"]} >= {SECOND}
    eventually(lambda: stock(SECOND).get("waits") == {"n": 2}, "and goes on with room", 70.0)
