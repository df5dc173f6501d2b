"""Two clusters on one cloud node that serves tenants: each has its own data there, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from entgldb.actors.tenants.context import TenantContext
from entgldb.actors.tenants.links import SyncTenants
from entgldb.actors.tenants.router import Tenants
from entgldb.launch.testing.network import End, Weather
from entgldb.messages import codec
from entgldb.messages.administration import PauseSync
from entgldb.messages.client import Commit, Report, RequestId, Write
from entgldb.messages.limits import FRAME_BYTES_MAX
from entgldb.messages.local.actors import Applied, Apply, Committed, PinCluster
from entgldb.messages.schema import Message
from entgldb.messages.tenants import ChangeTenant
from tests.simulation.events.clients import Acknowledged, Client
from tests.simulation.events.operators import Nobody
from tests.simulation.run import Run
from tests.simulation.test_calm import quiet
from tests.simulation.world.node import SimulatedNode
from tests.support.fake_context import FakeAsker

PLANTED = "planted-in-one-tenant"


class Shops:
    """Two clusters, ``ours`` and ``theirs``, whose gateways come to one cloud by two client ids."""

    def __init__(self, seed: int = 1, **settings: float) -> None:
        self.run = run = Run(seed, options=quiet(2, cloud=True))
        assert run.cloud is not None
        self.cloud = run.cloud
        self.cloud.tenants = "client"
        # the cloud's own file stays empty
        run.watch.members = lambda: run.lan
        for name, value in settings.items():
            setattr(self.cloud, name, value)
        self.said: dict[str, list[bytes]] = {}
        """Place -> the frames that it said and heard."""
        run.network.overhear = self._overhear
        run.network.weather = Weather(latency=0.001)
        for node in run.nodes:
            node.start()
        self.stranger = run._node("lan-9", "lan", 9)
        self.stranger.word = "another simulated cluster"
        self.ours, self.theirs = (
            run.clients[0],
            Client(run.world, self.stranger, Acknowledged(), keys=3, think=1),
        )
        self.ours.client_id, self.theirs.client_id = "shop-1", "shop-2"
        self.stranger.start()
        self.wait(8.0)

    def _overhear(self, end: End, message: Message) -> None:
        assert end.other is not None  # it is open
        payload = codec.encode(message)
        for place in (end.place, end.other.place):
            self.said.setdefault(place.address, []).append(payload)

    def wait(self, seconds: float) -> None:
        self.run.world.run(seconds)

    def pause(self, *, paused: bool) -> None:
        """Have the cloud keep no links to its clients, or keep them again."""
        assert self.cloud.ask("store", PauseSync("cloud", paused, 0.0), Nobody())
        self.wait(5.0)

    def come(self, *clients: Client) -> None:
        """Their clusters learn of the cloud."""
        for client in clients or (self.ours, self.theirs):
            client.put_peer(self.cloud.address, add=True, enabled=True)
        self.wait(3.0)

    def write(self, client: Client, key: str) -> None:
        client.write_now(key)
        self.wait(3.0)

    def has(self, tenant: str, key: str) -> bool:
        """Whether the cloud has a document among the data of a tenant."""
        disk = self.cloud.tenant_disks.disks.get(tenant)
        return disk is not None and disk.store.known("users", key)

    def link(self, node: SimulatedNode) -> tuple[str, str]:
        """State and reason of the gateway's link to the cloud."""
        row = self.row(node)
        return row.get("state", ""), row.get("reason", "")

    def row(self, node: SimulatedNode) -> dict[str, Any]:
        """The status of the gateway's link to the cloud; empty where it has none."""
        rows: Any = (self.run._ask(node, "gateway") or {}).get("links")
        return rows[0] if rows else {}

    def open(self) -> dict[str, set[str]]:
        """The tenants that are open, by actor."""
        assert self.cloud.host is not None
        found = {}
        for actor in ("store", "oplog"):
            router = self.cloud.host.behaviour(actor)
            assert isinstance(router, Tenants)
            found[actor] = set(router.open)
        return found

    def change(self, tenant: str, change: str, **quotas: int) -> None:
        """An administrator of the cloud says so."""
        asker = FakeAsker()
        assert self.cloud.ask("store", ChangeTenant(tenant, change, quotas=quotas), asker)
        self.wait(0.1)
        (answer,) = asker.answers
        assert isinstance(answer, Report), answer

    def end(self) -> list[str]:
        self.cloud.tenant_disks.close()
        self.stranger.crash()
        return self.run.world.violations


def test_each_of_two_clusters_has_its_tenant_and_nothing_of_the_other_is_in_any_frame_or_file() -> None:
    shops = Shops()
    shops.come()
    shops.write(shops.ours, PLANTED)
    shops.write(shops.theirs, "of-theirs")
    assert (shops.has("shop-1", PLANTED), shops.has("shop-2", PLANTED)) == (True, False)
    assert (shops.has("shop-1", "of-theirs"), shops.has("shop-2", "of-theirs")) == (False, True)
    assert not shops.cloud.store.known("users", PLANTED)
    word = PLANTED.encode()
    assert any(word in payload for payload in shops.said[shops.run.lan[0].address])
    assert not any(word in payload for payload in shops.said[shops.stranger.address])
    disks = shops.cloud.tenant_disks.disks
    assert word in disks["shop-1"].store.connection.serialize()
    assert word not in disks["shop-2"].store.connection.serialize()
    assert word not in shops.cloud.store.connection.serialize()
    assert word not in shops.stranger.image()
    # what a cluster has lost comes back from its own tenant
    clusters = {name: disk.store.pinned_cluster()[0] for name, disk in disks.items()}
    assert clusters == {"shop-1": shops.run.lan[0].cluster, "shop-2": shops.stranger.cluster}
    assert disks["shop-1"].store.origin != disks["shop-2"].store.origin
    # all that came was acknowledged, and what is new goes on at once: to the other half of a split cluster
    assert [shops.row(node)["behind_out"] for node in (shops.run.lan[0], shops.stranger)] == [0, 0]
    ours, other = shops.run.lan
    shops.run.network.cuts = {(ours.name, other.name), (other.name, ours.name)}
    shops.wait(15.0)
    shops.ours.write_now("across")
    shops.wait(0.8)
    assert other.store.known("users", "across")
    assert not shops.stranger.store.known("users", "across")
    assert shops.end() == []


def test_a_transaction_larger_than_a_frame_comes_to_its_tenant_as_a_whole() -> None:
    shops = Shops()
    shops.come()
    body = b'{"text": "%s"}' % (b"x" * (FRAME_BYTES_MAX // 3))
    writes = tuple(Write("users", f"large{number}", body) for number in range(4))
    assert shops.run.lan[0].ask("store", Commit(RequestId(b"l" * 16, 1), writes), FakeAsker())
    shops.wait(10.0)
    assert all(shops.has("shop-1", write.key) for write in writes)
    assert not any(shops.has("shop-2", write.key) for write in writes)
    assert shops.end() == []


def test_a_cluster_that_is_new_to_its_tenant_gets_a_snapshot_of_that_alone() -> None:
    shops = Shops()
    shops.come()
    for number in range(5):
        shops.write(shops.ours, f"old{number}")
    shops.write(shops.theirs, PLANTED)
    shops.cloud.forget_after(1e-4)
    shops.wait(45.0)
    assert shops.cloud.tenant_disks.disks["shop-1"].store.floors()
    # the whole cluster is lost, and begins anew with its key and its client id
    for node in shops.run.lan:
        node.crash()
    anew = shops.run._node("lan-8", "lan", 8)
    anew.start()
    client = Client(shops.run.world, anew, Acknowledged(), keys=3, think=1)
    client.client_id = "shop-1"
    shops.wait(6.0)
    client.put_peer(shops.cloud.address, add=True, enabled=True)
    shops.wait(20.0)
    assert all(anew.store.known("users", f"old{number}") for number in range(5))
    assert not anew.store.known("users", PLANTED)
    assert anew.log.floors()
    assert shops.end() == []


@pytest.mark.parametrize("actor", ["store", "oplog", "sync"])
def test_an_actor_that_dies_serves_the_tenants_again(actor: str) -> None:
    shops = Shops()
    shops.come()
    assert shops.cloud.host is not None
    shops.cloud.host.kill(actor)
    shops.wait(8.0)
    shops.write(shops.ours, "after")
    shops.write(shops.theirs, "after-too")
    shops.wait(8.0)
    assert shops.has("shop-1", "after")
    assert shops.has("shop-2", "after-too")
    assert shops.link(shops.stranger) == ("connected", "")
    assert shops.end() == []


def test_a_tenant_without_links_is_closed_after_a_while_and_comes_back_with_its_data() -> None:
    shops = Shops(tenant_idle=20.0)
    shops.come()
    shops.write(shops.ours, "before")
    shops.write(shops.theirs, "of-theirs")
    for node in shops.run.lan:
        node.crash()
    shops.wait(15.0)
    assert shops.open() == {"store": {"shop-1", "shop-2"}, "oplog": {"shop-1", "shop-2"}}
    shops.wait(20.0)
    assert shops.open() == {"store": {"shop-2"}, "oplog": {"shop-2"}}
    for node in shops.run.lan:
        node.start()
    shops.wait(20.0)
    shops.write(shops.ours, "after")
    assert shops.has("shop-1", "before")
    assert shops.has("shop-1", "after")
    assert shops.end() == []


def test_tenants_that_may_not_all_be_open_take_turns_and_lose_nothing() -> None:
    shops = Shops(tenants_open=1)
    shops.come(shops.ours)
    shops.write(shops.ours, "first")
    shops.come(shops.theirs)
    assert shops.link(shops.stranger)[1] == "too-many-tenants"
    assert shops.link(shops.run.lan[0]) == ("connected", "")
    shops.write(shops.theirs, "of-theirs")
    for _ in range(40):
        shops.wait(5.0)
        assert len(shops.open()["store"]) <= 1
        if shops.has("shop-2", "of-theirs") and shops.has("shop-1", "second"):
            break
        if shops.has("shop-2", "of-theirs"):
            shops.ours.write_now("second")
    assert shops.has("shop-2", "of-theirs")
    assert shops.has("shop-1", "second")
    assert sum((node.all_counts() for node in shops.run.lan), Counter())["tenant-closed"] > 0
    assert not shops.has("shop-2", "second")
    assert shops.end() == []


def test_a_suspended_tenant_is_told_so_others_go_on_and_it_comes_back_where_it_was() -> None:
    shops = Shops()
    shops.come()
    shops.write(shops.ours, "before")
    shops.change("shop-1", "suspend")
    shops.wait(3.0)
    assert shops.link(shops.run.lan[0])[1] == "tenant-suspended"
    shops.write(shops.ours, "meanwhile")
    shops.write(shops.theirs, "of-theirs")
    assert not shops.has("shop-1", "meanwhile")
    assert shops.has("shop-2", "of-theirs")
    shops.change("shop-1", "resume")
    shops.wait(70.0)
    assert shops.has("shop-1", "meanwhile")
    assert shops.end() == []


def test_a_deleted_tenant_is_gone_from_the_disk_also_where_the_power_went_meanwhile() -> None:
    shops = Shops()
    shops.come()
    shops.write(shops.ours, PLANTED)
    shops.change("shop-1", "delete")
    shops.wait(0.2)
    shops.cloud.crash()
    assert "shop-1" in shops.cloud.tenant_disks.disks
    shops.cloud.start()
    shops.wait(10.0)
    assert set(shops.cloud.tenant_disks.disks) == {"shop-2"}
    assert shops.link(shops.run.lan[0])[1] == "tenant-deleted"
    shops.write(shops.theirs, "of-theirs")
    assert shops.has("shop-2", "of-theirs")
    assert shops.end() == []


def test_a_new_token_of_another_tenant_ends_the_link() -> None:
    shops = Shops()
    shops.come()
    token = shops.run.authority.token
    shops.run.authority.token = lambda client: token("shop-2")  # type: ignore[method-assign]  # it errs
    shops.wait(20.0)
    assert shops.link(shops.run.lan[0])[1] in ("", "other-tenant", "wrong-cluster", "other-cluster")
    counts = shops.run.lan[0].all_counts() + shops.run.lan[1].all_counts()
    assert counts["other-tenant"] > 0
    assert not shops.has("shop-2", PLANTED)
    # as that tenant it is of another cluster
    assert counts["other-cluster"] > 0
    assert shops.end() == []


def misrouted(message: type[Message]) -> Callable[[TenantContext, str, Message], None]:
    """A context that says messages of one kind for another tenant."""
    tell = TenantContext.tell

    def told(self: TenantContext, actor: str, said: Message) -> None:
        if isinstance(said, message):
            self._tenant = {"shop-1": "shop-2", "shop-2": "shop-1"}[self._tenant]
        tell(self, actor, said)

    return told


@pytest.mark.parametrize("message", [Apply, Applied, Committed, PinCluster], ids=lambda kind: kind.__name__)
def test_a_message_that_is_led_to_the_wrong_tenant_is_noticed(
    message: type[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TenantContext, "tell", misrouted(message))
    with pytest.raises(AssertionError):
        test_each_of_two_clusters_has_its_tenant_and_nothing_of_the_other_is_in_any_frame_or_file()


def test_a_tenant_with_more_documents_than_it_may_have_is_told_so_may_delete_and_goes_on_with_more() -> None:
    shops = Shops()
    shops.come()
    shops.change("shop-1", "limit", documents=2)
    for key in ("one", "two", "three"):
        shops.write(shops.ours, key)
    assert shops.has("shop-1", "three")
    shops.write(shops.ours, "four")
    assert shops.link(shops.run.lan[0])[1] == "quota-documents"
    assert not shops.has("shop-1", "four")
    for number in range(4):
        shops.write(shops.theirs, f"of-theirs-{number}")
    assert shops.has("shop-2", "of-theirs-3")
    shops.change("shop-1", "limit", documents=20)
    shops.wait(70.0)
    assert shops.has("shop-1", "four")
    assert shops.link(shops.run.lan[0]) == ("connected", "")
    assert shops.end() == []


def test_what_expires_makes_room_in_a_quota_of_documents() -> None:
    shops = Shops()
    shops.come()
    shops.change("shop-1", "limit", documents=2)
    shops.ours.write_now("one", "two", "three", life_ms=20_000)
    shops.wait(5.0)
    shops.write(shops.ours, "four")
    assert shops.link(shops.run.lan[0])[1] == "quota-documents"
    shops.wait(90.0)
    assert shops.has("shop-1", "four")
    assert shops.link(shops.run.lan[0]) == ("connected", "")
    assert shops.end() == []


def test_a_cloud_that_is_paused_serves_no_tenant_over_restarts_and_then_all_again() -> None:
    shops = Shops()
    shops.come()
    shops.pause(paused=True)
    for restarted in (False, True):
        if restarted:
            shops.cloud.crash()
            shops.wait(1.0)
            shops.cloud.start()
            shops.wait(20.0)
        shops.write(shops.ours, f"meanwhile-{restarted}")
        assert not shops.has("shop-1", f"meanwhile-{restarted}")
        assert shops.link(shops.run.lan[0])[0] != "connected"
        assert shops.link(shops.stranger)[0] != "connected"
    shops.pause(paused=False)
    shops.wait(70.0)
    assert shops.has("shop-1", "meanwhile-True")
    assert shops.link(shops.stranger) == ("connected", "")
    assert shops.end() == []


def test_beyond_its_links_and_its_writes_a_tenant_is_told_so_and_comes_through_in_the_end() -> None:
    shops = Shops()
    shops.come(shops.ours)
    shops.change("shop-1", "limit", links=1, writes=1)
    ours, other = shops.run.lan
    shops.run.network.cuts = {(ours.name, other.name), (other.name, ours.name)}
    shops.wait(15.0)
    reasons = {shops.link(node)[1] for node in (ours, other)}
    assert "quota-links" in reasons
    shops.run.network.cuts = set()
    shops.wait(15.0)
    for number in range(30):
        shops.ours.write_now(f"many{number}")
        shops.wait(0.3)
    shops.wait(3.0)
    counts = sum((node.all_counts() for node in shops.run.lan), Counter())
    assert counts["quota-writes"] > 0
    shops.wait(90.0)
    assert all(shops.has("shop-1", f"many{number}") for number in range(30))
    assert shops.end() == []


def test_links_at_another_process_leave_no_room_here_until_they_end() -> None:
    shops = Shops()
    shops.come(shops.ours)
    shops.change("shop-1", "limit", links=1)
    assert shops.cloud.host is not None
    sync = shops.cloud.host.behaviour("sync")
    assert isinstance(sync, SyncTenants)
    shops.pause(paused=True)
    sync._guests["shop-1"].elsewhere = ("lan-of-another-half",)
    shops.pause(paused=False)
    shops.wait(15.0)
    (refused,) = (node.name for node in shops.run.lan if shops.link(node)[1] == "quota-links")
    # it was linked to another process, which has died or has not said yet that it is gone
    sync._guests["shop-1"].elsewhere = (refused,)
    shops.wait(60.0)
    shops.write(shops.ours, "after")
    assert shops.has("shop-1", "after")
    assert shops.end() == []


def test_through_lost_frames_killed_actors_crashes_and_suspensions_nothing_is_lost_or_mixed() -> None:
    """Both clusters write all the while, and the cloud may have one tenant open at a time."""
    shops = Shops(4, tenants_open=1)
    shops.come()
    random, cloud, network = shops.run.world.random, shops.cloud, shops.run.network
    network.weather = Weather(loss=0.05, duplication=0.05, reordering=0.1, latency=0.01)
    shops.run.world.lane_loss = 0.01
    for step in range(25):
        shops.ours.write_now(f"ours-{step}")
        shops.theirs.write_now(f"theirs-{step}")
        chance = random.random()
        if chance < 0.12 or not cloud.up:
            cloud.start() if not cloud.up else cloud.crash()
        elif chance < 0.3 and cloud.host is not None:
            cloud.host.kill(random.choice(["store", "oplog", "sync"]))
        elif chance < 0.4:
            cloud.ask("store", ChangeTenant("shop-1", random.choice(["suspend", "resume"])), FakeAsker())
        shops.wait(1.5)
    network.weather, shops.run.world.lane_loss = Weather(latency=0.001), 0.0
    cloud.start()
    shops.wait(3.0)
    cloud.ask("store", ChangeTenant("shop-1", "resume"), FakeAsker())
    written = {"shop-1": shops.run.lan[0], "shop-2": shops.stranger}
    for _ in range(60):
        shops.wait(5.0)
        lacks = {
            name: [key for key, _ in node.log.documents("users") if not shops.has(name, key)]
            for name, node in written.items()
        }
        if not any(lacks.values()):
            break
    assert lacks == {"shop-1": [], "shop-2": []}
    assert not any(shops.has("shop-1", f"theirs-{step}") for step in range(25))
    assert not any(shops.has("shop-2", f"ours-{step}") for step in range(25))
    assert shops.end() == []
