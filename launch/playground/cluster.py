"""Several nodes of one machine as real processes: what ``entgldb cluster`` and ``entgldb demo`` run on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from entgldb.client.database import Database
from entgldb.launch.node.child import end, environment
from entgldb.launch.node.handle import Node
from entgldb.launch.node.init import CloudOptions, Plan, init, pick_port
from entgldb.launch.node.process import START_SECONDS
from entgldb.launch.playground.certificate import make_server_certificate
from entgldb.launch.playground.processes import tree
from entgldb.messages.errors import EntglError, NoAnswerError

AUDIENCE: Final = "entgldb"
HOST: Final = "127.0.0.1"
POLL_SECONDS: Final = 0.02
AUTHORITY_SECONDS: Final = 10.0
HTTP_SECONDS: Final = 5.0
_T = TypeVar("_T")


def wait_for(what: str, look: Callable[[], _T], seconds: float) -> _T:
    """Call ``look`` until it gives something true; NoAnswerError naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        try:
            found = look()
        except EntglError as fault:
            said = f" ({fault.text})"
        else:
            if found:
                return found
            said = ""
        if time.monotonic() > deadline:
            raise NoAnswerError(f"not within {seconds:.0f} s: {what}{said}")
        time.sleep(POLL_SECONDS)


class Member:
    """One node of the playground: its directory, its process, its database."""

    def __init__(self, directory: Path, node_id: str, role: str, port: int) -> None:
        self.directory, self.node_id, self.role, self.port = directory, node_id, role, port
        self.node: Node | None = None
        self.http: str | None = None
        """Where it serves HTTP from its next start on; None: nowhere."""
        self.db: Final = Database(directory)

    @property
    def address(self) -> str:
        """The address of its TLS port."""
        return f"{HOST}:{self.port}"

    def vector(self) -> dict[str, Any]:
        """Its version vector: each origin, its newest seq, and the hash at its head."""
        found: dict[str, Any] = self.db.status("oplog")["vector"]
        return found

    def guests(self) -> list[dict[str, Any]]:
        """The peers that are connected to it, in its own words."""
        return [peer for peer in self.db.status("sync")["peers"] if peer["state"] == "connected"]

    def collections(self) -> list[str]:
        """Those of users."""
        return self.db.collections()

    def all_of(self, collection: str) -> dict[str, dict[str, Any]]:
        """Key -> document of a collection, by key."""
        return dict(self.db.documents.find(collection))

    def start(self) -> None:
        """Begin to start; ``Playground.start`` waits for all."""
        self.node = Node(self.directory, with_parent=True, http=self.http)

    def pids(self) -> set[int]:
        """All its processes."""
        return set() if self.node is None else tree(self.node.process.pid)

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        assert self.node is not None
        pids = self.pids()
        # stopped first, so that nobody in the tree notices a death and reacts before its own
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.stop()

    def stop(self) -> None:
        """End in good order; harmless when it does not run."""
        self.db.let_go()
        if self.node is not None:
            self.node.stop()
        self.node = None


class Playground:
    """A LAN cluster, cloud nodes and an authorization server under one directory; a context manager."""

    def __init__(
        self, root: Path, *, settings: dict[str, dict[str, bool | int | float]] | None = None
    ) -> None:
        self.root = root.resolve()
        self.members: list[Member] = []
        self.authority = ""
        self.client_id, self.client_secret = "", ""
        self._settings = settings or {}
        self._authority: subprocess.Popen[str] | None = None

    def __enter__(self) -> Playground:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lan(self) -> list[Member]:
        return [member for member in self.members if member.role == "lan"]

    @property
    def clouds(self) -> list[Member]:
        return [member for member in self.members if member.role == "cloud"]

    @property
    def ca_file(self) -> Path:
        """The CA that signed the cloud nodes' certificate."""
        return self.root / "tls" / "ca.pem"

    def make_lan(self, count: int) -> None:
        """Directories ``lan-1``... of one cluster, each with the others as seeds."""
        ports = list({pick_port(HOST): None for _ in range(2 * count)})[:count]  # none twice
        key = None
        for number, port in enumerate(ports, 1):
            seeds = tuple(f"{HOST}:{other}" for other in ports if other != port)
            directory = self.root / f"lan-{number}"
            plan = Plan(directory, f"lan-{number}", HOST, port, seeds, key, settings=self._settings)
            made = init(plan)
            key = key or made.key_file
            self.members.append(Member(directory, made.node_id, "lan", port))

    def make_cloud(self, hosts: str = "", kind: type[Member] = Member) -> Member:
        """One more directory ``cloud-N``; needs the authorization server.

        ``hosts``: the PostgreSQL of its tenants; then it is one more process of the node ``cloud-1``.
        """
        if not self.ca_file.exists():
            make_server_certificate(self.ca_file.parent, ("localhost", HOST))
        tls = self.ca_file.parent
        number = len(self.clouds) + 1
        cert, key, way = str(tls / "cert.pem"), str(tls / "key.pem"), "client" if hosts else ""
        cloud = CloudOptions(cert, key, self.authority, AUDIENCE, tenants=way, storage=hosts)
        node_id = "cloud-1" if hosts else f"cloud-{number}"
        made = init(Plan(self.root / f"cloud-{number}", node_id, HOST, cloud=cloud))
        member = kind(made.directory, made.node_id, "cloud", made.port)
        self.members.append(member)
        return member

    def start_authority(self) -> None:
        """Start ``entgldb dev-authority``; it makes up one client, whose secret stands in no argument."""
        self._authority = subprocess.Popen(  # noqa: S603 -- this very program
            [
                sys.executable,
                "-m",
                "entgldb",
                "dev-authority",
                "--json",
                "--with-parent",
                "--audience",
                AUDIENCE,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        assert self._authority.stdout is not None
        line = self._authority.stdout.readline()
        if not line:
            raise EntglError("the development authority did not start")
        facts = json.loads(line)
        self.authority = facts["authority"]
        self.client_id, self.client_secret = next(iter(facts["clients"].items()))

    def control(self, **wanted: Any) -> dict[str, Any]:
        """Change the authorization server while it runs; its state after."""
        request = urllib.request.Request(  # noqa: S310 -- our own server on loopback
            f"{self.authority}/control",
            data=json.dumps(wanted).encode() if wanted else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310 -- as above
            state: dict[str, Any] = json.load(answer)
        return state

    def start(self, members: list[Member] | None = None, seconds: float = START_SECONDS) -> None:
        """Start all, or those given, together; return when all serve, within so many seconds."""
        starting = [member for member in members or self.members if member.node is None]
        for member in starting:
            member.start()
        for member in starting:
            assert member.node is not None
            member.node.wait_ready(seconds)

    def stop(self, members: list[Member] | None = None) -> None:
        """Stop all, or those given."""
        stopping = members or self.members
        for member in stopping:
            if member.node is not None:
                member.node.process.terminate()
        for member in stopping:
            member.stop()

    def close(self) -> None:
        """Leave no process."""
        self.stop()
        if self._authority is not None:
            end(self._authority, AUTHORITY_SECONDS)
            if self._authority.stdout is not None:
                self._authority.stdout.close()
            self._authority = None
