"""Two nodes on a network of their own, which has IPv6 alone or both: each in a network namespace.

No packet leaves them: two namespaces are joined by a pair of virtual interfaces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.system.support.cluster_fixture import Node
from tests.system.support.kernel_view import eventually

pytestmark = pytest.mark.slow
PORT: Final = 4001
LINK_SECONDS: Final = 30.0


class Place(NamedTuple):
    """A network namespace and its one interface."""

    namespace: str
    interface: str

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.namespace, *arguments)

    def link_local(self) -> str:
        """The address that the kernel has given the interface, once it is sure that nobody else has it."""

        def found() -> str:
            told = self.ip("-j", "-6", "addr", "show", "dev", self.interface, "scope", "link")
            rows = [row for each in json.loads(told) for row in each["addr_info"]]
            return next((row["local"] for row in rows if not row.get("tentative")), "")

        return eventually(found, f"{self.namespace} has a link-local address")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def places() -> Iterator[tuple[Place, Place]]:
    """Two places with a line between them, and no address but those that the kernel gives."""
    one, two = Place(f"entgl-{os.getpid()}-a", "wire"), Place(f"entgl-{os.getpid()}-b", "wire")
    with ExitStack() as stack:
        for place in (one, two):
            try:
                ip("netns", "add", place.namespace)
            except (OSError, subprocess.CalledProcessError):
                pytest.skip("network namespaces cannot be made here")
            stack.callback(ip, "netns", "del", place.namespace)
        pair = ("type", "veth", "peer", "name", two.interface, "netns", two.namespace)
        ip("link", "add", one.interface, "netns", one.namespace, *pair)
        for place in (one, two):
            place.ip("link", "set", "lo", "up")
            place.ip("link", "set", place.interface, "up")
        for place in (one, two):
            place.link_local()
        yield one, two


def linked(folder: Path, places: tuple[Place, Place], *options: tuple[str, ...]) -> str:
    """Start a node in each place and wait until they are linked; where the second reaches the first."""
    nodes = [Node(folder, name, PORT) for name in ("lan-1", "lan-2")]
    with ExitStack() as stack:
        for node, place, chosen in zip(nodes, places, options, strict=True):
            key = () if node is nodes[0] else ("--cluster-key-file", str(nodes[0].directory / "cluster.key"))
            node.within = ("ip", "netns", "exec", place.namespace)
            begin = ("init", "--dir", str(node.directory), "--node-id", node.name, "--port", str(PORT))
            # an address of the place can be looked at there alone
            done = subprocess.run(
                [*node.within, sys.executable, "-m", "entgldb", *begin, *key, *chosen],
                env=node.environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            stack.callback(node.stop)
            node.start()
        for node in nodes:
            node.wait_ready()
        nodes[0].put("users", "u1", {"n": 1})

        def reached() -> str:
            rows = nodes[1].run("status")[0]["sync"]["peers"]
            return next((row["address"] for row in rows if row["state"] == "connected"), "")

        found = eventually(reached, "the nodes are linked", LINK_SECONDS)
        eventually(
            lambda: nodes[1].document("users", "u1") == {"n": 1}, "the document is there", LINK_SECONDS
        )
        return found


def give(places: tuple[Place, Place], *prefixes: str) -> None:
    """Each place gets an address of each network."""
    for number, place in enumerate(places, 1):
        for prefix in prefixes:
            kind = ("nodad",) if ":" in prefix else ()
            place.ip("addr", "add", f"{prefix}{number}/{64 if kind else 24}", "dev", place.interface, *kind)


@pytest.mark.parametrize(
    "networks", [["fd77::"], ["fd77::", "10.77.0."]], ids=["IPv6 alone", "IPv6 and IPv4"]
)
def test_nodes_find_each_other_by_whatever_the_network_has(
    tmp_path: Path, places: tuple[Place, Place], networks: list[str]
) -> None:
    give(places, *networks)
    assert linked(tmp_path, places, (), ("--host", "::"))


def test_nodes_that_listen_at_one_address_each_are_linked_there(
    tmp_path: Path, places: tuple[Place, Place]
) -> None:
    give(places, "fd77::")
    found = linked(tmp_path, places, ("--host", "fd77::1"), ("--host", "fd77::2"))
    assert found == f"[fd77::1]:{PORT}"


@pytest.mark.parametrize("seeded", [False, True], ids=["found", "seeded"])
def test_link_local_addresses_alone_are_enough_and_keep_their_zone(
    tmp_path: Path, places: tuple[Place, Place], seeded: bool
) -> None:
    there = f"[{places[0].link_local()}%{places[1].interface}]:{PORT}"
    # a node that listens at loopback looks for nobody: the seed alone leads there
    seeds = ("--host", "::1", "--seed", there) if seeded else ()
    found = linked(tmp_path, places, (), seeds)
    address, _, zone = found.partition("%")
    assert address == there.partition("%")[0]
    assert zone
