"""Two store actors over one PostgreSQL: what one writes or decides, the other takes up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.tenants.fellows import RIVAL_SECONDS, Fellows
from entgldb.actors.tenants.keeper import REMOVE_SECONDS, StoreTenants
from entgldb.actors.tenants.router import Opened
from entgldb.messages import codec
from entgldb.messages.client import Report, RequestId, Status, Write
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.local.actors import Committed
from entgldb.messages.local.tenants import (
    AdmitTenant,
    ForTenant,
    TenantJudged,
    TenantLink,
    TenantsWanted,
    WrittenElsewhere,
)
from entgldb.messages.schema import Channel
from entgldb.messages.tenants import ChangeTenant, ListTenants, Tenant
from entgldb.storage.authorship.authors import authorities
from entgldb.storage.authorship.keys import Signer, public_of
from entgldb.storage.postgres.catalogue import Catalogue
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.processes import Processes
from entgldb.storage.postgres.server import Server
from entgldb.storage.postgres.store import Store, as_sqlite
from entgldb.storage.postgres.tenants import TenantRows
from entgldb.storage.rules.authorship import cluster_of, successor_statement
from entgldb.storage.tenants.files import TenantFiles
from tests.support import postgres
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_store_keeper import Bench

ISSUER = "https://id.example"


class Cloud(Catalogue):
    """The store actor of one process."""

    def __init__(self, directory: Path) -> None:
        files = TenantFiles(directory)
        super().__init__(postgres.address(), files.names)
        self.bench, self.told, self.gone = Bench("cloud-1", role="cloud"), list[tuple[str, int]](), False
        self.files = files
        rows = TenantRows(postgres.address(), files)
        processes = Processes(self, str(directory))
        fellows = Fellows(
            self.look, self.tell, processes.publish, processes.gateways, processes.others, self.restored
        )
        self.store = StoreTenants(self.bench.keeper, self._open, self, rows, fellows)
        self.server = Server(postgres.address())
        self.ctx = FakeContext()
        self.ctx.behaviour = self.store
        self.store.start(self.ctx)

    def tell(self, tenant: str, lsn: int) -> None:
        self.told.append((tenant, lsn))

    def look(self, tenants: Collection[str]) -> dict[str, tuple[Tenant, int]]:
        if self.gone:
            raise EntglError("PostgreSQL has gone")
        return super().look(tenants)

    def _open(self, tenant: str) -> Opened:
        self.files.make(tenant)
        Store.connect(postgres.address(), tenant, "cloud-1", 0)
        made = Store(as_sqlite(Connection(self.server, tenant)), None)
        made.serve()
        keeper = StoreKeeper(self.bench.keeper.settings, made, self.bench.keeper.secrets)
        return Opened(keeper, made.connection.close, follow=made.follow)

    def admit(self, tenant: str) -> str:
        self.ctx.hand(AdmitTenant(tenant, ISSUER))
        return self.ctx.take(TenantJudged, "sync")[-1].reason

    def own(self, tenant: str) -> Store:
        store = self.store._store(tenant)
        assert isinstance(store, Store)
        return store

    def write(self, tenant: str, number: int) -> None:
        """As a gateway's batch would."""
        with self.own(tenant).group():
            self.own(tenant).write(
                RequestId(b"c" * 16, number), [Write("c", f"k{number}", b"{}")], self.ctx.now_ms()
            )
        self.store._touched[tenant] = None
        self.store.flush(self.ctx)

    def committed(self) -> list[Committed]:
        """The rows of which its sync was told."""
        inner = [codec.decode(one.payload, Channel.LOCAL).message for one in self.ctx.take(ForTenant, "sync")]
        return [one for one in inner if isinstance(one, Committed)]


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[tuple[Cloud, Cloud]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    both = Cloud(tmp_path / "a"), Cloud(tmp_path / "b")
    yield both
    for one in both:
        one.server.close()


def test_what_one_process_writes_the_sessions_of_the_other_hear_of_at_once(
    clouds: tuple[Cloud, Cloud],
) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    assert (one.admit(tenant), other.admit(tenant)) == ("", "")
    other.committed()
    one.told.clear()
    one.write(tenant, 1)
    one.write(tenant, 2)
    assert one.told == [(tenant, 1), (tenant, 2)]
    other.ctx.hand(WrittenElsewhere({"somebody-else": 7, tenant: 2}))
    assert other.committed() == [Committed(1, 2, 0)]
    other.ctx.run(2.0)
    assert other.own(tenant).vector() == one.own(tenant).vector()
    # what it has heard of it does not tell on
    assert other.told == []


def test_where_nobody_wakes_it_a_process_looks_each_interval(clouds: tuple[Cloud, Cloud]) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    for each in clouds:
        each.admit(tenant)
    other.committed()
    one.write(tenant, 1)
    other.gone = True
    other.ctx.run(2.0)
    assert other.committed() == []
    other.gone = False
    other.ctx.run(2.0)
    assert other.committed() == [Committed(1, 1, 0)]
    assert other.store.counts[Reason.STORAGE_UNAVAILABLE] == 1


def test_the_gateways_of_a_tenant_are_shown_over_all_processes(clouds: tuple[Cloud, Cloud]) -> None:
    tenant, another = postgres.fresh_tenant(), postgres.fresh_tenant()
    for number, one in enumerate(clouds):
        one.admit(tenant)
        links = (
            TenantLink(tenant, f"lan-{number}", 3 + number, "192.0.2.1:7"),
            TenantLink(another, "x", 1, ""),
        )
        one.ctx.run(10.0)
        one.ctx.hand(TenantsWanted((tenant,), links))
    for one in clouds:
        answer = one.ctx.ask(ListTenants(name=tenant))
        assert isinstance(answer, Report)
        (row,) = answer.body["tenants"]
        assert [(link["node_id"], link["epoch"], link["address"]) for link in row["gateways"]] == [
            ("lan-0", 3, "192.0.2.1:7"),
            ("lan-1", 4, "192.0.2.1:7"),
        ]
        assert len({link["process"] for link in row["gateways"]}) == 2
    clouds[0].ctx.run(10.0)
    clouds[0].ctx.hand(TenantsWanted((tenant,), ()))
    answer = clouds[1].ctx.ask(ListTenants(name=tenant))
    assert isinstance(answer, Report)
    assert [link["node_id"] for link in answer.body["tenants"][0]["gateways"]] == ["lan-1"]


def halves(clouds: tuple[Cloud, Cloud], tenant: str, *nodes: str) -> None:
    """Each process says, ten seconds later, which gateway of a tenant it has; empty: none."""
    for one, node in zip(clouds, nodes, strict=True):
        links = (TenantLink(tenant, node, 3, "192.0.2.1:7"),) if node else ()
        one.ctx.run(10.0)
        one.ctx.hand(TenantsWanted((tenant,), links))


def rivals(cloud: Cloud, tenant: str) -> list[str]:
    answer = cloud.ctx.ask(Status())
    assert isinstance(answer, Report)
    found = [one for one in answer.body["alarms"] if one["code"] == "rival-gateways"]
    return [one["text"] for one in found if one["subject"] == tenant]


def test_gateways_that_stand_side_by_side_at_two_processes_are_an_alarm_at_both(
    clouds: tuple[Cloud, Cloud],
) -> None:
    tenant = postgres.fresh_tenant()
    for one in clouds:
        one.admit(tenant)
    # another gateway took over: the one that was before is shown for a moment
    halves(clouds, tenant, "lan-0", "lan-1")
    halves(clouds, tenant, "lan-0", "lan-0")
    for _ in range(int(RIVAL_SECONDS / 10)):
        assert [rivals(one, tenant) for one in clouds] == [[], []]
        halves(clouds, tenant, "lan-0", "lan-1")
    # the first hears of the second ten seconds after that has heard of it
    halves(clouds, tenant, "lan-0", "lan-1")
    halves(clouds, tenant, "lan-0", "lan-1")
    for one in clouds:
        (text,) = rivals(one, tenant)
        assert text.startswith(f"tenant {tenant} has 2 gateways, lan-0 in epoch 3 at ")
        assert text.endswith(f"its cluster is split: entgldb tenant show {tenant}")
    halves(clouds, tenant, "lan-0", "")
    halves(clouds, tenant, "lan-0", "")
    assert [rivals(one, tenant) for one in clouds] == [[], []]


def test_links_at_other_processes_count_for_the_quota(clouds: tuple[Cloud, Cloud]) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    one.ctx.ask(ChangeTenant(tenant, "add", ISSUER, {"links": 2}))
    for each in clouds:
        each.admit(tenant)
    halves(clouds, tenant, "lan-0", "")
    judged = other.ctx.take(TenantJudged, "sync")[-1]
    assert (judged.tenant, judged.issuer, judged.links, judged.elsewhere) == (tenant, "", 2, ("lan-0",))
    # whoever comes next is told the same
    other.ctx.hand(AdmitTenant(tenant, ISSUER))
    assert other.ctx.take(TenantJudged, "sync")[-1].elsewhere == ("lan-0",)
    halves(clouds, tenant, "", "")
    halves(clouds, tenant, "", "")
    assert other.ctx.take(TenantJudged, "sync")[-1].elsewhere == ()


def test_writes_of_all_processes_count_for_the_quota(clouds: tuple[Cloud, Cloud]) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    one.ctx.ask(ChangeTenant(tenant, "add", ISSUER, {"writes": 1}))
    for each in clouds:
        each.admit(tenant)
    for number in range(1, 11):
        one.write(tenant, number)
    assert other.admit(tenant) == ""
    other.ctx.hand(WrittenElsewhere({tenant: 10}))
    assert other.admit(tenant) == Reason.QUOTA_WRITES.value


def test_a_tenant_that_was_shut_by_one_process_is_shut_by_all_and_deleted_everywhere(
    clouds: tuple[Cloud, Cloud],
) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    for each in clouds:
        each.admit(tenant)
    one.told.clear()
    one.ctx.ask(ChangeTenant(tenant, "limit", quotas={"links": 3}))
    other.ctx.hand(WrittenElsewhere({tenant: 0}))
    assert [judged.links for judged in other.ctx.take(TenantJudged, "sync")] == [3]
    one.ctx.ask(ChangeTenant(tenant, "suspend"))
    assert one.told == [(tenant, 0), (tenant, 0)]
    other.ctx.run(2.0)
    assert other.store.open == {}
    assert [judged.reason for judged in other.ctx.take(TenantJudged, "sync")] == ["tenant-suspended"]
    other.ctx.ask(ChangeTenant(tenant, "delete"))
    assert (tenant in one.files.names(), tenant in other.files.names()) == (True, True)
    other.ctx.run(REMOVE_SECONDS + 30)
    one.ctx.run(REMOVE_SECONDS + 30)
    assert (tenant in one.files.names(), tenant in other.files.names()) == (False, False)
    found = one.get(tenant)
    assert found is not None
    assert found.state == "deleted"
    assert one.admit(tenant) == "tenant-deleted"


def test_the_word_that_the_database_was_restored_closes_the_tenant_everywhere_until_it_is_opened_anew(
    clouds: tuple[Cloud, Cloud],
) -> None:
    one, other = clouds
    tenant = postgres.fresh_tenant()
    for each in clouds:
        each.admit(tenant)
    one.write(tenant, 1)
    origin = one.own(tenant).origin
    one.told.clear()
    answer = one.ctx.ask(ChangeTenant(tenant, "restored"))
    assert isinstance(answer, Report)
    assert (answer.body["tenant"]["state"], one.told, one.store.open) == ("active", [(tenant, 0)], {})
    other.ctx.hand(WrittenElsewhere({tenant: 0}))
    for each in clouds:
        assert each.ctx.take(TenantJudged, "sync")[-1].reason == Reason.STORAGE_UNAVAILABLE.value
    # sync ends the links, and has it closed
    other.ctx.hand(TenantsWanted(()))
    assert [each.admit(tenant) for each in clouds] == ["", ""]
    assert one.own(tenant).origin == other.own(tenant).origin != origin
    assert len(one.own(tenant).vector()) == 1
    one.ctx.ask(ChangeTenant(tenant, "delete"))
    refused = one.ctx.ask(ChangeTenant(tenant, "restored"))
    assert refused.code == "not-allowed"  # type: ignore[attr-defined]  # a Refused


def test_a_tenant_that_was_restored_to_before_a_new_cluster_key_learns_it_by_the_next_hello(
    clouds: tuple[Cloud, Cloud],
) -> None:
    seeds = b"1" * 32, b"2" * 32
    first, second = (public_of(seed) for seed in seeds)
    cluster, tenant = cluster_of(first), postgres.fresh_tenant()
    chain = ((second, Signer(seeds[0]).sign(successor_statement(cluster, second))),)
    for each in clouds:
        each.admit(tenant)

    def hears(each: Cloud, successors: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, str]:
        store = each.own(tenant)
        with store.group():
            store.pin_cluster(cluster, "shop")
            store.trust(cluster, first, successors)
        return authorities(store.connection)

    assert hears(clouds[0], ()) == {first: cluster}
    assert hears(clouds[0], chain) == {first: cluster, second: cluster}
    # the database goes back to the moment between the two
    with clouds[0].own(tenant).group():
        rows = clouds[0].own(tenant).connection
        names = [name for (name,) in rows.execute("SELECT name FROM _entgldb_meta") if second.hex() in name]
        rows.execute("DELETE FROM _entgldb_meta WHERE name = ?", names)
    clouds[0].ctx.ask(ChangeTenant(tenant, "restored"))
    clouds[1].ctx.hand(WrittenElsewhere({tenant: 0}))
    clouds[1].ctx.hand(TenantsWanted(()))
    assert [each.admit(tenant) for each in clouds] == ["", ""]
    for each in clouds:
        assert each.own(tenant).pinned_cluster() == (cluster, "shop")
    # a gateway that still comes by the old key changes nothing, one that has the new one brings the chain
    assert hears(clouds[1], ()) == {first: cluster}
    assert hears(clouds[1], chain) == {first: cluster, second: cluster}
    assert authorities(clouds[0].own(tenant).connection) == {first: cluster, second: cluster}


def test_without_its_catalogue_a_process_answers_and_serves_nobody_new(
    clouds: tuple[Cloud, Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, tenant = clouds[0], postgres.fresh_tenant()
    one.admit(tenant)
    monkeypatch.setattr(Server, "lease", _refuse)
    assert one.admit(tenant + "x") == Reason.STORAGE_UNAVAILABLE.value
    assert one.store.told()["tenants"]["states"] == {}
    assert one.ctx.ask(ChangeTenant(tenant, "suspend")).code == "disk-error"  # type: ignore[attr-defined]  # a Refused
    assert one.ctx.ask(ListTenants()).code == "disk-error"  # type: ignore[attr-defined]  # a Refused
    one.ctx.run(REMOVE_SECONDS)
    monkeypatch.undo()
    assert one.admit(tenant + "x") == ""


def _refuse(self: Server) -> None:
    raise EntglError("PostgreSQL has gone", code=ErrorCode.DISK_ERROR)
