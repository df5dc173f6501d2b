"""Every claim of the requirement "Remote Peer Configuration - Automatic Synchronization", one test each.

Real nodes, real TLS, real tokens; what changes a node is the command line. The tests read the holder of a
cloud link from the kernel's sockets and from the cloud's own status, never from the LAN node's word.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from entgldb.messages.remote_peers import RemotePeer
from tests.support.seed_block import SEED_BLOCK
from tests.system.support.cluster_fixture import CLIENT, SECRET, Cluster, Node, on_each, sessions
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100, method="signal")]

SYNC_INTERVAL = 2.0
FAILOVER_SECONDS = 5.0
COLLECTION = "_system_remote_peers"
FIELDS = ("NodeId", "Address", "Type", "OAuth2Json", "IsEnabled")


class SilentCluster(Cluster):
    """Only lan-2 has the requirement's configuration file, and the secret in its environment."""

    def prepare(self) -> None:
        file = self.folder / "appsettings.json"
        file.write_text(SEED_BLOCK)
        node = self.lan[1]
        node.start_options = ("--config", str(file))
        node.environment["SECRET_FROM_ENV"] = SECRET


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three LAN nodes and two cloud nodes, for the whole file."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, lan=3, clouds=2, settings="\n[election]\ntakeover_delay = 1.0\n") as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The shared cluster, brought back to: all nodes up, lan-1 gateway, no remote peers."""
    for node in running.nodes:
        if not node.is_up:
            node.start()
            node.wait_ready()
    first = running.lan[0]
    eventually(lambda: running.gateway() is first, "lan-1 leads", 30)
    for peer in running.until_same_list():
        first.run("remove-peer", peer.node_id)
    on_each(running.clouds, lambda cloud: running.until_held_by(cloud, None))
    running.until_everywhere(lambda node: node.peers() == [], "no remote peers are left")
    return running


@pytest.fixture
def linked(cluster: Cluster) -> Cluster:
    """The same with cloud-1 added on a node that is not the gateway, and connected."""
    cluster.add_cloud(cluster.lan[2], cluster.clouds[0])
    cluster.until_held_by(cluster.clouds[0], cluster.lan[0])
    return cluster


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three LAN nodes that never push: what is written travels only when vectors are compared."""
    folder = tmp_path_factory.mktemp("silent")
    settings = f"\n[sync]\nlive_push = false\ninterval = {SYNC_INTERVAL}\n"
    with SilentCluster(folder, lan=3, settings=settings) as cluster:
        yield cluster


def lists(name: str, *, enabled: bool = True) -> Callable[[Node], bool]:
    """A check: the node lists this peer, in this state."""

    def check(node: Node) -> bool:
        return any(peer.node_id == name and peer.enabled is enabled for peer in node.peers())

    return check


def has_note(key: str) -> Callable[[Node], bool]:
    """A check: the node has this document."""
    return lambda node: node.document("notes", key) is not None


def addresses(node: Node) -> list[str]:
    """Of all peers the node lists, by node id."""
    return [peer.address for peer in node.peers()]


# --- how it works -----------------------------------------------------------------------------------


def test_remote_peer_list_is_automatically_synchronized(linked: Cluster) -> None:
    """Configurations are stored in _system_remote_peers, replicated across all nodes."""
    linked.until_everywhere(lists("cloud-1"), "lists cloud-1")
    found = [node.document(COLLECTION, "cloud-1") for node in linked.lan]
    assert found[0] is not None
    assert found[0] == found[1] == found[2]


def test_schema_each_remote_peer_is_a_document_with_node_id_as_primary_key(linked: Cluster) -> None:
    """The five fields of the requirement, with the types it shows; the secret in clear in none."""
    document = linked.lan[2].document(COLLECTION, "cloud-1")
    assert document is not None
    assert set(FIELDS) <= set(document)
    assert document["NodeId"] == "cloud-1"
    assert document["Address"] == f"127.0.0.1:{linked.clouds[0].port}"
    assert (document["Type"], document["IsEnabled"]) == (2, True)
    oauth2 = json.loads(document["OAuth2Json"])
    assert (oauth2["authority"], oauth2["clientId"]) == (linked.issuer, CLIENT)
    assert SECRET not in json.dumps(document)


def test_documents_are_oplog_entries_with_hlc_timestamps(linked: Cluster) -> None:
    """The same entry of the same origin, with the same time, is what every node applied."""
    linked.until_everywhere(lists("cloud-1"), "lists cloud-1")
    entries = []
    for node in linked.lan:
        last = [change for change in node.run("changes", COLLECTION) if change.get("key") == "cloud-1"][-1]
        entries.append((last["version"]["origin"], last["version"]["seq"], last["at_ms"]))
    assert entries[0] == entries[1] == entries[2]
    origin, _, at_ms = entries[0]
    assert origin.startswith("lan-3/")
    assert abs(at_ms - time.time() * 1000) < 100_000


def test_any_lan_node_can_be_elected_as_the_cloud_gateway(linked: Cluster) -> None:
    """Each of the three leads in turn, and the link moves with the office."""
    cloud = linked.clouds[0]
    for resigning, successor in ((0, 1), (1, 2)):
        linked.lan[resigning].run("tell", "election", "StandDown", "seconds=60")
        linked.until_held_by(cloud, linked.lan[successor])
        assert linked.gateway() is linked.lan[successor]
    for node in linked.lan[:2]:
        node.run("tell", "election", "StandDown", "seconds=0")
    linked.until_held_by(cloud, linked.lan[0], 30)


def test_only_the_elected_leader_connects_to_remote_cloud_nodes(linked: Cluster) -> None:
    """With two clouds both links are the gateway's; the members have no connection at all."""
    linked.add_cloud(linked.lan[1], linked.clouds[1])
    gateway = linked.gateway()
    for cloud in linked.clouds:
        linked.until_held_by(cloud, gateway)
    for member in linked.members():
        assert [member.links_to(cloud) for cloud in linked.clouds] == [[], []]
    assert [len(gateway.links_to(cloud)) for cloud in linked.clouds] == [1, 1]


def test_the_gateway_speaks_to_the_cloud_with_oauth2(linked: Cluster) -> None:
    """The cloud names the client of the token and its end; documents flow both ways."""
    cloud = linked.clouds[0]
    [row] = cloud.ask("sync")["peers"]
    assert row["client_id"] == CLIENT
    assert row["token_expires"] > time.time()
    linked.lan[1].put("notes", "up", {"from": "lan-2"})
    eventually(lambda: has_note("up")(cloud), "the cloud has what a member wrote")
    cloud.put("notes", "down", {"from": "cloud-1"})
    linked.until_everywhere(has_note("down"), "has what the cloud wrote")


# --- deployment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 1, 2])
def test_just_add_on_any_node(cluster: Cluster, where: int) -> None:
    """Gateway or not: on which node it is added makes no difference."""
    cluster.add_cloud(cluster.lan[where], cluster.clouds[0])
    cluster.until_held_by(cluster.clouds[0], cluster.lan[0])
    cluster.until_everywhere(lists("cloud-1"), "lists cloud-1")


def test_verification_query_on_any_node_returns_the_same_list(linked: Cluster) -> None:
    """NodeId, Address, Type and Enabled, the same on every node."""
    linked.add_cloud(linked.lan[0], linked.clouds[1])
    linked.until_everywhere(lists("cloud-2"), "lists cloud-2")
    found, *others = [node.run("list-peers")[0]["peers"] for node in linked.lan]
    assert others == [found, found]
    shown = [(peer["node_id"], peer["address"], peer["type"], peer["enabled"]) for peer in found]
    assert shown == [(cloud.name, f"127.0.0.1:{cloud.port}", 2, True) for cloud in linked.clouds]
    assert SECRET not in json.dumps(found)


def test_configuration_file_for_initial_setup_is_applied_once(silent: Cluster) -> None:
    """The block taken verbatim reaches all nodes; once removed, no restart brings it back."""
    silent.until_everywhere(lists("cloud-node-1"), "lists the initial peer")
    [peer] = silent.until_same_list()
    assert (peer.address, peer.type) == ("remote.entgldb.com:9000", 2)
    document = silent.lan[2].document(COLLECTION, "cloud-node-1")
    assert document is not None
    oauth2 = json.loads(document["OAuth2Json"])
    assert oauth2["authority"] == "https://identity.example.com"
    assert oauth2["clientSecret"].startswith("sealed:")

    silent.lan[0].run("remove-peer", "cloud-node-1")
    silent.until_everywhere(lambda node: node.peers() == [], "the peer is gone")
    configured = silent.lan[1]
    configured.stop()
    configured.start()
    configured.wait_ready()

    def met_its_peers() -> bool:
        rows = configured.ask("sync").get("peers", [])
        return len(rows) == 2 and all(row["behind_in"] == 0 for row in rows)

    # the block is applied after the first completed session; what it did then reaches the others
    eventually(met_its_peers, "lan-2 has completed its sessions")
    silent.lan[2].run("add-static-peer", "--node-id", "marker", "--address", "127.0.0.1:9")
    silent.until_everywhere(lists("marker"), "lists the marker")
    assert [peer.node_id for peer in silent.until_same_list()] == ["marker"]
    silent.lan[2].run("remove-peer", "marker")


# --- dynamic management -----------------------------------------------------------------------------


def test_peers_are_managed_at_runtime_without_restarting_nodes(linked: Cluster) -> None:
    """Add, disable, enable, modify and remove, each on another node, and every process lives on."""
    before = {node.name: node.ask("node")["pids"] for node in linked.lan}
    first, second, third = linked.lan
    linked.add_cloud(second, linked.clouds[1])
    linked.until_everywhere(lists("cloud-2"), "lists cloud-2")
    third.run("disable-peer", "cloud-2")
    linked.until_everywhere(lists("cloud-2", enabled=False), "cloud-2 is disabled")
    first.run("enable-peer", "cloud-2")
    linked.until_everywhere(lists("cloud-2"), "cloud-2 is enabled")
    address = f"localhost:{linked.clouds[1].port}"
    second.run("update-peer", "cloud-2", "--address", address)
    linked.until_everywhere(lambda node: address in addresses(node), "cloud-2 has its new address")
    linked.until_held_by(linked.clouds[1], first)
    third.run("remove-peer", "cloud-2")
    linked.until_everywhere(lambda node: len(node.peers()) == 1, "cloud-2 is gone")
    linked.until_held_by(linked.clouds[1], None)
    assert {node.name: node.ask("node")["pids"] for node in linked.lan} == before


def test_a_modified_peer_is_dialled_again(linked: Cluster) -> None:
    """A new address and a new secret: the old connection ends, a new one stands."""
    gateway, cloud = linked.lan[0], linked.clouds[0]
    [old] = gateway.links_to(cloud)
    linked.control(client={"id": CLIENT, "secret": "another-secret-7781"})
    try:
        options = ("--address", f"localhost:{cloud.port}", "--client-secret-stdin")
        linked.lan[1].run("update-peer", "cloud-1", *options, stdin="another-secret-7781")

        def renewed() -> bool:
            links = gateway.links_to(cloud)
            return len(links) == 1 and links[0].inode != old.inode

        eventually(renewed, "the link was dialled again")
        linked.until_held_by(cloud, gateway)
    finally:
        linked.control(client={"id": CLIENT, "secret": SECRET})


def test_all_changes_are_synchronized_within_seconds_depending_on_sync_interval(silent: Cluster) -> None:
    """With every push dropped a change is on all nodes within twice the sync interval."""
    writer = silent.lan[2]
    eventually(lambda: len(writer.ask("sync").get("peers", [])) == 2, "lan-3 has both its peers")
    for change in (
        ("add-static-peer", "--node-id", "far", "--address", "127.0.0.1:9"),
        ("disable-peer", "far"),
        ("remove-peer", "far"),
    ):
        writer.run(*change)
        due = time.monotonic() + 2 * SYNC_INTERVAL
        wanted = writer.peers()

        def arrived(node: Node, wanted: list[RemotePeer] = wanted) -> bool:
            return node.peers() == wanted

        silent.until_everywhere(arrived, f"has {change}", due - time.monotonic())


# --- use cases --------------------------------------------------------------------------------------


def test_use_case_1_add_cloud_node_to_existing_cluster(cluster: Cluster) -> None:
    """A running 3-node cluster with data gains cloud connectivity; what it had reaches the cloud."""
    for node in cluster.lan:
        node.put("notes", f"before-{node.name}", {"by": node.name})
    cluster.add_cloud(cluster.lan[1], cluster.clouds[0])
    cluster.until_everywhere(lists("cloud-1"), "lists cloud-1")
    cluster.until_held_by(cluster.clouds[0], cluster.lan[0])
    for node in cluster.lan:
        check = has_note(f"before-{node.name}")
        eventually(lambda check=check: check(cluster.clouds[0]), f"the cloud has what {node.name} wrote")


def test_use_case_2_temporary_disable_cloud_sync(linked: Cluster) -> None:
    """Disabled on any node: the leader stops connecting. Enabled again: it resumes, nothing is lost."""
    cloud = linked.clouds[0]
    linked.lan[1].run("disable-peer", "cloud-1")
    linked.until_held_by(cloud, None)
    linked.lan[0].put("notes", "meanwhile", {"n": 1})
    linked.until_everywhere(has_note("meanwhile"), "has the document")
    assert linked.holders(cloud) == []
    assert cloud.document("notes", "meanwhile") is None
    linked.lan[2].run("enable-peer", "cloud-1")
    linked.until_held_by(cloud, linked.lan[0])
    eventually(lambda: has_note("meanwhile")(cloud), "the cloud has what was written meanwhile")


def test_use_case_3_replace_cloud_node(linked: Cluster) -> None:
    """Add the new one while the old is active, disable the old, remove it after verification."""
    old, new = linked.clouds
    linked.lan[0].put("notes", "kept", {"n": 1})
    linked.add_cloud(linked.lan[1], new)
    for cloud in linked.clouds:
        linked.until_held_by(cloud, linked.lan[0])
    linked.lan[2].run("disable-peer", old.name)
    linked.until_held_by(old, None)
    eventually(lambda: has_note("kept")(new), "the new cloud has the data")
    linked.lan[1].run("remove-peer", old.name)
    linked.until_everywhere(lambda node: addresses(node) == [f"127.0.0.1:{new.port}"], "one peer is left")
    assert sessions(new) == ["lan-1"]


# --- benefits ---------------------------------------------------------------------------------------


def test_zero_configuration_drift(cluster: Cluster) -> None:
    """Changes on all nodes, each disabling what another has added, end in one list."""
    for node in cluster.lan:
        node.run("add-static-peer", "--node-id", f"site-{node.name}", "--address", "127.0.0.1:9")
    for node, other in zip(cluster.lan, [*cluster.lan[1:], cluster.lan[0]], strict=True):
        check = lists(f"site-{other.name}")
        eventually(lambda node=node, check=check: check(node), f"{node.name} lists site-{other.name}")
        node.run("disable-peer", f"site-{other.name}")

    def all_disabled(node: Node) -> bool:
        return [peer.enabled for peer in node.peers()] == [False] * 3

    cluster.until_everywhere(all_disabled, "lists three disabled peers")
    names = [peer.node_id for peer in cluster.until_same_list()]
    assert names == ["site-lan-1", "site-lan-2", "site-lan-3"]


def test_conflict_resolution_uses_last_write_wins(cluster: Cluster) -> None:
    """Two nodes that cannot hear each other change one peer: the later change stands on all nodes."""
    first, second, third = cluster.lan
    first.run("add-static-peer", "--node-id", "contested", "--address", "127.0.0.1:9")
    cluster.until_everywhere(lists("contested"), "lists contested")
    third.run("tell", "sync", "Isolate", "seconds=600")
    eventually(lambda: third.ask("sync").get("isolated") is True, "lan-3 is isolated")
    first.run("update-peer", "contested", "--address", "127.0.0.1:10")
    third.run("update-peer", "contested", "--address", "127.0.0.1:11")
    eventually(lambda: addresses(second) == ["127.0.0.1:10"], "lan-2 has the earlier one")
    assert addresses(third) == ["127.0.0.1:11"]
    third.run("tell", "sync", "Isolate", "seconds=0")
    cluster.until_everywhere(lambda node: addresses(node) == ["127.0.0.1:11"], "has the later one")
    for node in cluster.lan:
        lost = [row["document"]["Address"] for row in node.run("conflicts", COLLECTION)]
        assert lost == ["127.0.0.1:10"], node.name


def test_consistent_leader_election_leader_always_knows_about_all_remote_peers(linked: Cluster) -> None:
    """The gateway is killed: its successor dials every cloud peer without being told of any."""
    linked.add_cloud(linked.lan[1], linked.clouds[1])
    for cloud in linked.clouds:
        linked.until_held_by(cloud, linked.lan[0])
    linked.until_same_list()
    linked.lan[0].kill()
    on_each(linked.clouds, lambda cloud: linked.until_held_by(cloud, linked.lan[1], FAILOVER_SECONDS))
    assert linked.gateway() is linked.lan[1]


def test_high_availability_no_single_point_of_failure_for_configuration(linked: Cluster) -> None:
    """With any one node gone the others manage peers; when it returns it learns of it."""
    for absent in (1, 0):
        gone = linked.lan[absent]
        gone.kill()
        name = f"while-{gone.name}-was-away"
        check = lists(name)
        linked.lan[2].run("add-static-peer", "--node-id", name, "--address", "127.0.0.1:9")
        linked.until_everywhere(check, f"lists {name}")
        gone.start()
        gone.wait_ready()
        eventually(lambda gone=gone, check=check: check(gone), f"{gone.name} has learned of {name}")
    linked.until_held_by(linked.clouds[0], linked.lan[0], 30)
