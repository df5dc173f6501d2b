"""The stage that the demo's steps share: the nodes, how to drive them, and how to look at them from
outside."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

from entgldb.launch.demo.figures import Figures, since_peer_change
from entgldb.launch.node.child import environment
from entgldb.launch.playground.cluster import Member, Playground, wait_for
from entgldb.launch.playground.processes import connections_to
from entgldb.messages.errors import EntglError

AIRPORTS: Final = "airports"
CLI_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 20.0
"""How long a step waits for what should take well under a second."""


def require(holds: bool, what: str) -> None:
    """Fail the step unless it ``holds``: an ``assert`` would be gone under ``python -O``."""
    if not holds:
        raise EntglError(what)


class Stage:
    """The playground and what the steps hand on to each other."""

    def __init__(self, playground: Playground, takeover_delay: float) -> None:
        self.playground = playground
        self.takeover_delay = takeover_delay
        """Seconds, as configured."""
        self.airports = 0
        self.import_begun = 0.0
        self.secrets: list[str] = []
        """Every client secret there has been."""
        self.figures = Figures()

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that took part, and the resources that each had used when all was done."""
        used = {row["directory"]: row for row in self.figures.usage}
        return [
            {
                "node_id": m.node_id,
                "role": m.role,
                "address": m.address,
                **used.get(str(m.directory), {"directory": str(m.directory)}),
            }
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

    def linked_after(self, member: Member) -> float:
        """Seconds from the last change of a remote peer to now, when its link was seen to have changed."""
        seconds = since_peer_change(member)
        self.figures.link_changes.append(seconds)
        return seconds

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


def digest(member: Member, only: str = "") -> str:
    """A hash over the user documents of a node, of all or ``only`` one collection, read from its file."""
    made = hashlib.sha256()
    for collection in [only] if only else member.collections():
        for key, document in member.all_of(collection).items():
            made.update(json.dumps([collection, key, document], sort_keys=True).encode())
    return made.hexdigest()


def equal(members: Iterable[Member], seconds: float = SETTLE_SECONDS, only: str = "") -> float:
    """Wait until the members have equal vectors, then see that their documents are equal too.

    With ``only`` the documents of that collection, where no other can have changed.

    Gives the monotonic time when the vectors were.
    """
    group = list(members)

    def same() -> bool:
        first, *rest = (member.vector() for member in group)
        return all(other == first for other in rest)

    wait_for("equal vectors on " + ", ".join(m.node_id for m in group), same, seconds)
    at = time.monotonic()
    digests = {digest(member, only) for member in group}
    require(len(digests) == 1, f"documents differ although vectors are equal: {digests}")
    return at


def sockets(cloud: Member, members: Iterable[Member]) -> dict[str, set[int]]:
    """Node id -> its established connections to a cloud node, from the kernel; nodes without are left out."""
    found = {member.node_id: connections_to(cloud.port, member.pids()) for member in members}
    return {node_id: ports for node_id, ports in found.items() if ports}


def linked(stage: Stage, cloud: Member, gateway: Member | None, seconds: float = SETTLE_SECONDS) -> None:
    """Wait until ``gateway`` alone (None: nobody) holds a link, as the cloud and as the kernel see it."""
    wanted = [] if gateway is None else [gateway.node_id]

    def seen() -> bool:
        return [peer["node_id"] for peer in cloud.guests()] == wanted and list(
            sockets(cloud, stage.playground.lan)
        ) == wanted

    wait_for(f"links to {cloud.node_id} from {wanted or 'nobody'}", seen, seconds)


def check_secrets(stage: Stage) -> int:
    """No client secret there has been stands in any file of any node; the number of files read.

    Looked for raw, in base64 at any offset, in hex and in UTF-16.
    """
    files, controls, found = search(stage.playground.members, stage.secrets, stage.playground.client_id)
    require(controls > 0, "the search does not even find the client id, so it proves nothing")
    require(not found, f"a client secret stands in {found}")
    return files


def search(members: Iterable[Member], secrets: list[str], control: str) -> tuple[int, int, list[str]]:
    """The number of files of the members, of those that hold ``control``, and those with a secret."""
    needles = {needle for secret in secrets for needle in forms(secret)}
    files, controls, found = 0, 0, []
    for member in members:
        # a process that has a database open would lose its locks by opening the file another way
        member.db.let_go()
        for file in member.directory.rglob("*"):
            try:
                content = file.read_bytes() if file.is_file() else b""
            except FileNotFoundError:
                continue  # such as a write-ahead log that was just folded in
            files, controls = files + file.is_file(), controls + (control.encode() in content)
            found += [str(file)] if any(needle in content for needle in needles) else []
    return files, controls, found


def forms(secret: str) -> set[bytes]:
    """All that ``secret`` may look like in a file."""
    raw = secret.encode()
    made = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    made |= {secret.encode("utf-16-le"), secret.encode("utf-16-be")}
    for shift in range(3):
        # the characters at both ends depend on the neighbours, those between do not
        text = base64.b64encode(b"\0" * shift + raw + b"\0" * (-(shift + len(raw)) % 3))
        inner = text[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
        made |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return made
