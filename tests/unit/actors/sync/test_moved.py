"""Nodes whose addresses change under those who remember them: on real TLS, without discovery."""

from __future__ import annotations

from pathlib import Path

from entgldb.messages.local.actors import KnownPeers
from tests.unit.actors.host.live_node import LiveNode, until


def test_two_nodes_that_have_swapped_their_addresses_meet_again_by_a_third(tmp_path: Path) -> None:
    """Each of the two remembers the other at the address that is its own now."""
    third = LiveNode(tmp_path / "c", "c")
    at_c = f"127.0.0.1:{third.links.port()}"
    one, other = LiveNode(tmp_path / "a", "a"), LiveNode(tmp_path / "b", "b")
    nodes = [third, one, other]
    try:
        for node, absent in ((one, "b"), (other, "a")):
            own = f"127.0.0.1:{node.links.port()}"
            node.inbox.append(("sync", KnownPeers({absent: own, "c": at_c})))
        remembered = {"a": f"127.0.0.1:{other.links.port()}", "b": f"127.0.0.1:{one.links.port()}"}
        third.inbox.append(("sync", KnownPeers(remembered)))
        until(nodes, lambda: all(len(node.sync._peers) == 2 for node in nodes), 10.0)
        for node in nodes:
            assert node.sync.counts["wrong-node"] <= 2
    finally:
        for node in nodes:
            node.stop()
