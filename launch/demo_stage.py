"""What the demo's steps share: the nodes, how to drive them, and how to look at them from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, Final

from entgldb.launch.child import environment
from entgldb.launch.playground import Member, Playground, wait_for
from entgldb.launch.processes import connections_to
from entgldb.messages.errors import EntglError

AIRPORTS: Final = "airports"
CLI_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 20.0
"""How long a step waits for what should take well under a second."""


class Stage:
    """The playground and what the steps hand on to each other."""

    def __init__(self, playground: Playground) -> None:
        self.playground = playground
        self.airports = 0
        self.import_begun = 0.0
        self.secrets: list[str] = []

    def nodes(self) -> list[dict[str, Any]]:
        """Who took part."""
        return [
            {"node_id": m.node_id, "role": m.role, "address": m.address, "directory": str(m.directory)}
            for m in self.playground.members
        ]

    def gateway(self) -> Member:
        """The one LAN node that all running LAN nodes call gateway, once they do."""
        running = [member for member in self.playground.lan if member.node is not None]

        def agreed() -> Member | None:
            seen = [member.db.status("election") for member in running]
            names = {state["gateway"] for state in seen}
            leading = [m for m, state in zip(running, seen, strict=True) if state["is_gateway"]]
            return leading[0] if len(leading) == 1 and names == {leading[0].node_id} else None

        found = wait_for("one gateway that all nodes agree on", agreed, SETTLE_SECONDS)
        assert found is not None
        return found

    def others(self) -> list[Member]:
        """The LAN nodes that are not the gateway."""
        gateway = self.gateway()
        return [m for m in self.playground.lan if m is not gateway and m.node is not None]


def command(*arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run the ``entgldb`` command with ``--json`` and give its object. Raises EntglError with its stderr."""
    done = subprocess.run(  # noqa: S603 -- this very program
        [sys.executable, "-m", "entgldb", *arguments, "--json"],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=CLI_SECONDS,
        check=False,
    )
    if done.returncode:
        raise EntglError(f"entgldb {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
    shown: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shown


def digest(member: Member) -> str:
    """A hash over all user documents of a node, read from its file."""
    made = hashlib.sha256()
    documents = member.db.documents
    for collection in documents.collections():
        for key, document in documents.find(collection):
            made.update(json.dumps([collection, key, document], sort_keys=True).encode())
    return made.hexdigest()


def vector(member: Member) -> dict[str, Any]:
    """Whose entries a node has, up to where, and the hashes at the heads."""
    found: dict[str, Any] = member.db.status("oplog")["vector"]
    return found


def equal(members: Iterable[Member], seconds: float = SETTLE_SECONDS) -> None:
    """Wait until the members have equal vectors, then see that their documents are equal too."""
    group = list(members)

    def same() -> bool:
        first, *rest = (vector(member) for member in group)
        return all(other == first for other in rest)

    wait_for("equal vectors on " + ", ".join(m.node_id for m in group), same, seconds)
    digests = {digest(member) for member in group}
    assert len(digests) == 1, f"documents differ although vectors are equal: {digests}"


def guests(cloud: Member) -> list[dict[str, Any]]:
    """Who is connected to a cloud node, in that node's own words."""
    peers = cloud.db.status("sync")["peers"]
    return [peer for peer in peers if peer["state"] == "connected"]


def sockets(cloud: Member, members: Iterable[Member]) -> dict[str, set[int]]:
    """Node id -> its established connections to a cloud node, from the kernel; nodes without are left out."""
    found = {member.node_id: connections_to(cloud.port, member.pids()) for member in members}
    return {node_id: ports for node_id, ports in found.items() if ports}


def linked(stage: Stage, cloud: Member, gateway: Member | None, seconds: float = SETTLE_SECONDS) -> None:
    """Wait until ``gateway`` alone (None: nobody) holds a link, as the cloud and as the kernel see it."""
    wanted = [] if gateway is None else [gateway.node_id]

    def seen() -> bool:
        return [peer["node_id"] for peer in guests(cloud)] == wanted and list(
            sockets(cloud, stage.playground.lan)
        ) == wanted

    wait_for(f"links to {cloud.node_id} from {wanted or 'nobody'}", seen, seconds)


def leaks(members: Iterable[Member], secret: str) -> list[str]:
    """Files of nodes that hold ``secret`` raw, in base64 at any offset, in hex, or in UTF-16."""
    raw = secret.encode()
    needles = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    needles |= {secret.encode("utf-16-le"), secret.encode("utf-16-be")}
    for shift in range(3):
        # the characters at both ends depend on the neighbours, those between do not
        text = base64.b64encode(b"\0" * shift + raw + b"\0" * (-(shift + len(raw)) % 3))
        inner = text[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
        needles |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    found = []
    for member in members:
        # a process that has a database open would lose its locks by opening the file another way
        member.db.close()
        for file in member.directory.rglob("*"):
            if file.is_file() and any(needle in file.read_bytes() for needle in needles):
                found.append(str(file))
    return found
