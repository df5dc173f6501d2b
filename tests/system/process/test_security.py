"""The peers that a node lets in and the ports at which it can be reached, judged from outside."""

from __future__ import annotations

import re
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.messages.framing import frame
from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import bound_udp, eventually, listeners

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90, method="signal")]

ANSWER_SECONDS = 30.0
"""Patience: who is let in hears an answer, who is not an alert or the end; silence is neither."""
NO_MESSAGE = b"\xc1"
"""The one byte that msgpack never uses."""


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes that dial each other, each on a key of its own."""
    with Cluster(tmp_path, lan=2, one_key=False) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), lan=2, clouds=1, host="0.0.0.0") as made:
        made.add_cloud(made.lan[1], made.clouds[0])
        made.until_held_by(made.clouds[0], made.lan[0])
        yield made


def test_a_second_node_on_another_key_is_refused_by_both_sides(strangers: Cluster) -> None:
    """Both dial each other and both refuse, again and again; neither gets the other as peer."""

    def refusals(node: Node) -> int:
        found: int = node.ask("sync").get("counts", {}).get("tls-refused", 0)
        return found

    for node in strangers.lan:
        eventually(lambda node=node: refusals(node) >= 3, f"{node.name} has refused the other")
        status = node.ask("sync")
        assert status["peers"] == []
        assert set(status["counts"]) <= {"tls-refused", "peer-closed", "unreachable"}
    first, second = strangers.lan
    first.put("notes", "mine", {"n": 1})
    assert refusals(second) >= 3
    assert second.document("notes", "mine") is None
    for node in strangers.lan:
        eventually(
            lambda node=node: node.ask("election").get("gateway") == node.name, f"{node.name} leads itself"
        )


def test_the_certificate_of_another_key_is_refused_by_the_listening_side(strangers: Cluster) -> None:
    """Also where the dialling side would accept anything, so that the listener must decide."""
    first, second = strangers.lan
    for listener, stranger in ((first, second), (second, first)):
        assert not lets_in(listener, certificate_of(stranger))
        assert lets_in(listener, certificate_of(listener))


def test_nodes_of_one_key_are_peers(cluster: Cluster) -> None:
    """The other side of the test above: what refuses a stranger lets a member in."""
    for node, other in zip(cluster.lan, reversed(cluster.lan), strict=True):
        assert [row["node_id"] for row in node.ask("sync")["peers"]] == [other.name]


def test_nothing_of_a_node_listens_beyond_loopback_but_the_tls_port(cluster: Cluster) -> None:
    """The kernel's table of listeners of all its processes, with the TLS port open to the network."""
    for node in cluster.nodes:
        found = listeners(node.pids())
        open_ports = [row.port for row in found if not row.is_loopback]
        assert open_ports == [node.port], found
        # the actors do listen, on loopback: an empty table would mean that nothing was looked at
        assert len(found) > 1
        assert [row for row in bound_udp(node.pids()) if not row.is_loopback] == []


def test_discovery_takes_datagrams_at_the_port_of_mdns_alone(tmp_path: Path) -> None:
    """With discovery on, which is the default on a LAN."""
    with Cluster(tmp_path, lan=1, host="0.0.0.0", discovery=True) as alone:
        [node] = alone.nodes
        assert [row.port for row in listeners(node.pids()) if not row.is_loopback] == [node.port]

        def announced() -> set[int]:
            return {row.port for row in bound_udp(node.pids()) if not row.is_loopback}

        assert eventually(announced, "the node takes part in mDNS") == {5353}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_certificate_is_refused(cluster: Cluster, version: ssl.TLSVersion) -> None:
    """Older TLS is refused in the handshake, TLS 1.3 as soon as the missing certificate is noticed."""
    assert not lets_in(cluster.lan[0], trusting(version))


def test_older_tls_is_refused_even_with_a_good_certificate(cluster: Cluster) -> None:
    """The certificate is lan-2's own, which TLS 1.3 lets in."""
    assert lets_in(cluster.lan[0], certificate_of(cluster.lan[1]))
    assert not lets_in(cluster.lan[0], certificate_of(cluster.lan[1], ssl.TLSVersion.TLSv1_2))


def test_the_tls_port_takes_no_plaintext(cluster: Cluster) -> None:
    """A whole, well-formed frame without TLS is answered with an alert or nothing, never with a frame."""
    for node in cluster.nodes:
        with socket.create_connection(("127.0.0.1", node.port), 5) as plain:
            plain.sendall(b"\0\0\0\x05\x93\x01\x00\xc0\xc0")
            answer = plain.recv(4096)
        # 0x15 is the TLS record type of an alert
        assert answer[:1] in (b"", b"\x15"), answer


def test_the_cloud_neither_learns_nor_changes_the_configuration(cluster: Cluster) -> None:
    """Its link is open and documents flow, but no remote peer is ever known there."""
    cloud = cluster.clouds[0]
    cluster.lan[0].put("notes", "n", {"n": 1})
    eventually(lambda: cloud.document("notes", "n"), "the cloud has the document")
    assert cloud.peers() == []
    assert cloud.document("_system_remote_peers", "cloud-1") is None


def test_no_process_of_a_node_leaves_its_memory_in_a_file(cluster: Cluster) -> None:
    least = min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64)
    for node in cluster.nodes:
        for pid in node.pids():
            limits = Path(f"/proc/{pid}/limits").read_text()
            # 1 and not 0: a program that takes dumps gets none either
            assert re.search(rf"Max core file size +{least} +{least} ", limits), limits


def trusting(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """For a client that accepts whatever certificate it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


def certificate_of(node: Node, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """For such a client that shows the certificate of ``node``."""
    context = trusting(version)
    context.load_cert_chain(node.directory / "node.crt", node.directory / "node.key")
    return context


def lets_in(node: Node, context: ssl.SSLContext) -> bool:
    """Whether the TLS port of ``node`` reads what a client says: it answers a frame that is no message."""
    with socket.create_connection(("127.0.0.1", node.port), ANSWER_SECONDS) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                secure.sendall(frame(NO_MESSAGE))
                return secure.recv(1) != b""
        except (ssl.SSLError, ConnectionError):
            return False
