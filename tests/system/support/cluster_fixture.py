"""A cluster of real processes, driven through the verbs of ``entgldb`` and judged from outside.

A look at a node goes through the Python API, and a verb that must succeed runs in the process of the
tests: one of its own takes longer to begin than its work.
``with Cluster(folder, lan=3, clouds=1) as cluster``: every process that was started is ended when the
block ends, also when a test fails; if the test run itself is killed, the kernel ends them.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar
from unittest.mock import patch

from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.init import Plan, init, pick_port
from entgldb.messages.errors import EntglError
from entgldb.messages.remote_peers import RemotePeer
from tests.support.preloaded import killed_with_parent
from tests.system.support.kernel_view import MARK, Socket, established, eventually, kill_all, pids_of
from tests.unit.actors.gateway.server_certificate import issue_server_certificate

SOURCE: Final = Path(__file__).parents[3] / "src"
SECRET: Final = "correct-horse-battery-staple-0451"
CLIENT: Final = "lan-cluster-client"
AUDIENCE: Final = "entgldb-trial"
VERB_SECONDS: Final = 30.0
READY_SECONDS: Final = 40.0
_one_verb: Final = threading.Lock()

_T = TypeVar("_T")


def free_port() -> int:
    """A TCP port on loopback that is free now and stays free until a node binds it."""
    return pick_port("127.0.0.1")


class Started:
    """One process with a mark that all its descendants inherit."""

    def __init__(
        self,
        mark: str,
        log: Path,
        *arguments: str,
        environment: dict[str, str],
        within: tuple[str, ...] = (),
    ) -> None:
        """``within``: a command that runs the process in another surrounding."""
        self.mark = mark
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", "entgldb", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment, MARK: mark},
                start_new_session=True,
                preexec_fn=killed_with_parent,
            )

    def first_line(self, seconds: float = READY_SECONDS) -> str:
        """The first line that the process prints."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, f"{self.process.args} said nothing within {seconds} s"
        return self.process.stdout.readline().decode()

    def ask_to_end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def end(self, seconds: float = 5.0) -> None:
        """In good order if it can, by force if not; nothing with its mark is left."""
        self.ask_to_end()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(seconds)
        kill_all(self.mark)
        assert self.process.stdout is not None
        self.process.stdout.close()


def verb_here(arguments: list[str], stdin: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a verb that runs in this process, one at a time."""
    read = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
    told, errors = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, "utf-8", write_through=True) for stream in (told, errors))
    with _one_verb, patch.multiple(sys, stdin=read, stdout=out, stderr=err):
        code = run(command, arguments)
    return code, told.getvalue().decode(), errors.getvalue().decode()


class Node:
    """One node: its directory and, while it is up, its processes."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.name, self.port, self.directory = name, port, folder / name
        self.mark = f"{name}-{uuid.uuid4().hex}"
        self.environment = _environment()
        self.started: Started | None = None
        self.start_options: tuple[str, ...] = ()
        self.within: tuple[str, ...] = ()
        self._log = folder / f"{name}.log"

    def verb(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one verb of the command line on this node in a process of its own, whatever becomes of it."""
        verb, *others = arguments
        return subprocess.run(
            [sys.executable, "-m", "entgldb", verb, "--dir", str(self.directory), *others],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=VERB_SECONDS,
            env=self.environment,
        )

    def run(self, *arguments: str, stdin: str = "") -> list[dict[str, Any]]:
        """Run one verb with ``--json``; it must succeed. The objects it printed."""
        verb, *others = arguments
        code, told, errors = verb_here([verb, "--json", "--dir", str(self.directory), *others], stdin)
        assert code == 0, f"{self.name}: {arguments}: exit {code}: {errors}"
        return [json.loads(line) for line in told.splitlines()]

    def start(self) -> None:
        """Start and do not wait."""
        (self.directory / "node.json").unlink(missing_ok=True)
        options = ("start", "--dir", str(self.directory), *self.start_options)
        self.started = Started(
            self.mark, self._log, *options, environment=self.environment, within=self.within
        )

    def wait_ready(self) -> None:
        """Until ``node.json`` stands there, which is written when all actors serve."""

        def ready() -> bool:
            assert self.started is not None
            assert self.started.process.poll() is None, f"{self.name} ended:\n{self.said()}"
            return (self.directory / "node.json").exists()

        eventually(ready, f"{self.name} is ready", READY_SECONDS)

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    @property
    def is_up(self) -> bool:
        return self.started is not None and self.started.process.poll() is None

    def stop(self) -> None:
        if self.started is not None:
            self.started.end()
            self.started = None

    def kill(self) -> None:
        """kill -9 of every process of this node, as a power cut would."""
        kill_all(self.mark)
        self.stop()

    def pids(self) -> list[int]:
        return pids_of(self.mark)

    def links_to(self, other: Node) -> list[Socket]:
        """Connections that processes of this node hold to the TLS port of ``other``, as the kernel says."""
        return established(self.pids(), other.port)

    def open(self) -> Database:
        """Its documents, and its actors while it is up."""
        return Database(self.directory, timeout=VERB_SECONDS)

    def ask(self, actor: str) -> dict[str, Any]:
        """The status of an actor; empty while the node does not answer."""
        with suppress(EntglError), self.open() as db:
            return db.status(actor)
        return {}

    def peers(self) -> list[RemotePeer]:
        """All remote peers that it lists."""
        with self.open() as db:
            return db.peers.get_all_remote_peers()

    def document(self, collection: str, key: str) -> dict[str, Any] | None:
        """None where there is no such document."""
        with self.open() as db:
            return db[collection].get(key)

    def put(self, collection: str, key: str, document: dict[str, Any]) -> None:
        with self.open() as db:
            db[collection].put(key, document)


class Cluster:
    """``lan`` nodes of one key on loopback, seeded with each other; a dev-authority; cloud nodes."""

    def __init__(
        self,
        folder: Path,
        *,
        lan: int = 3,
        clouds: int = 0,
        settings: str = "",
        host: str = "127.0.0.1",
        one_key: bool = True,
        discovery: bool = False,
    ) -> None:
        self.folder = folder
        self.lan = [Node(folder, f"lan-{i + 1}", free_port()) for i in range(lan)]
        self.clouds = [Node(folder, f"cloud-{i + 1}", free_port()) for i in range(clouds)]
        self.authority: Started | None = None
        self.issuer = self.control_url = ""
        self.ca_file = folder / "ca.pem"
        self._settings = settings
        self._host, self._one_key, self._discovery = host, one_key, discovery

    @property
    def nodes(self) -> list[Node]:
        return self.lan + self.clouds

    def __enter__(self) -> Cluster:
        try:
            self._begin()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _begin(self) -> None:
        for node in self.lan:
            self._init_lan(node)
        if self.clouds:
            self.start_authority()
            made = issue_server_certificate(self.folder)
            self.ca_file.write_text(made.ca_pem)
            for node in self.clouds:
                self._init_cloud(node, str(made.certificate), str(made.key))
        self.prepare()
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready()

    def prepare(self) -> None:
        """For a trial that changes something between init and start."""

    def _init_lan(self, node: Node) -> None:
        shared = self._one_key and node is not self.lan[0]
        key = self.lan[0].directory / "cluster.key" if shared else None
        seeds = tuple(f"127.0.0.1:{other.port}" for other in self.lan if other is not node)
        init(Plan(node.directory, node.name, self._host, node.port, seeds, key))
        file = node.directory / "entgldb.toml"
        text, found = re.subn(
            r"(?m)^discovery = \w+$", f"discovery = {str(self._discovery).lower()}", file.read_text()
        )
        assert found == 1, text
        file.write_text(text + self._settings)

    def _init_cloud(self, node: Node, certificate: str, key: str) -> None:
        options = ["--node-id", node.name, "--host", self._host, "--port", str(node.port)]
        options += ["--role", "cloud", "--tls-cert", certificate, "--tls-key", key]
        node.run("init", *options, "--authority", self.issuer, "--audience", AUDIENCE)

    def start_authority(self, port: int = 0) -> None:
        """With keys of its own; 0: at a port that the kernel picks."""
        client = f"{CLIENT}:{SECRET}"
        mark = f"authority-{uuid.uuid4().hex}"
        options = ("dev-authority", "--json", "--client", client, "--audience", AUDIENCE, "--port", str(port))
        self.authority = Started(mark, self.folder / "authority.log", *options, environment=_environment())
        facts = json.loads(self.authority.first_line())
        self.issuer, self.control_url = facts["authority"], facts["control"]

    def control(self, **wanted: Any) -> dict[str, Any]:
        """Change the authorization server, or only look at its state."""
        body = json.dumps(wanted).encode() if wanted else None
        request = urllib.request.Request(self.control_url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def end(self) -> None:
        for node in self.nodes:
            if node.started is not None:
                node.started.ask_to_end()
        for node in self.nodes:
            node.stop()
        if self.authority is not None:
            self.authority.end()
            self.authority = None

    # --- what the trials ask ----------------------------------------------------------------------

    def add_cloud(self, on: Node, cloud: Node, address: str = "", client: str = CLIENT) -> None:
        """``add-cloud-peer`` on one node; secret by stdin. ``address``: of a proxy before it."""
        reached_at = address or f"127.0.0.1:{cloud.port}"
        options = ["--node-id", cloud.name, "--address", reached_at, "--client-id", client]
        options += ["--authority", self.issuer, "--audience", AUDIENCE, "--ca-file", str(self.ca_file)]
        on.run("add-cloud-peer", *options, "--client-secret-stdin", stdin=SECRET)

    @property
    def up(self) -> list[Node]:
        """The running LAN nodes."""
        return [node for node in self.lan if node.is_up]

    def gateway(self, seconds: float = 20.0) -> Node:
        """The gateway that all running LAN nodes agree on."""

        def agreed() -> Node | None:
            named = set(on_each(self.up, lambda node: node.ask("election").get("gateway")))
            return next((node for node in self.lan if {node.name} == named), None)

        found = eventually(agreed, "all nodes agree on one gateway", seconds)
        assert found is not None
        return found

    def members(self) -> list[Node]:
        """The running LAN nodes that are not gateway."""
        gateway = self.gateway()
        return [node for node in self.up if node is not gateway]

    def holders(self, cloud: Node) -> list[Node]:
        """The LAN nodes with a connection to this cloud's TLS port, as the kernel says."""
        return [node for node in self.lan if node.links_to(cloud)]

    def until_held_by(self, cloud: Node, holder: Node | None, seconds: float = 15.0) -> float:
        """Wait until exactly ``holder`` has a connection; then until the cloud says so too.

        ``seconds`` bounds the first; the seconds it took.
        """
        begun = time.monotonic()
        wanted = [] if holder is None else [holder]
        said = "nobody" if holder is None else holder.name
        eventually(lambda: self.holders(cloud) == wanted, f"{cloud.name} is held by {said}", seconds)
        took = time.monotonic() - begun
        names = [] if holder is None else [holder.name]
        eventually(lambda: sessions(cloud) == names, f"{cloud.name} says it is held by {said}")
        return took

    def until_everywhere(self, check: Callable[[Node], object], what: str, seconds: float = 15.0) -> None:
        """Wait until ``check(node)`` is true on every running LAN node."""
        on_each(self.up, lambda node: eventually(lambda: check(node), f"{node.name}: {what}", seconds))

    def until_same_list(self, seconds: float = 15.0) -> list[RemotePeer]:
        """Wait until all running LAN nodes list the same remote peers; that list."""

        def same() -> list[list[RemotePeer]] | None:
            lists = on_each(self.up, Node.peers)
            return lists if all(found == lists[0] for found in lists) else None

        found = eventually(same, "the same list on all nodes", seconds)
        assert found is not None
        return found[0]


def on_each(nodes: Iterable[Node], call: Callable[[Node], _T]) -> list[_T]:
    """``call`` on several nodes at once; the first error is raised when all have ended."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(call, nodes))


def sessions(cloud: Node) -> list[str]:
    """The node ids of all sessions that the cloud itself reports."""
    return [row["node_id"] for row in cloud.ask("sync").get("peers", [{"node_id": "no answer"}])]


def _environment() -> dict[str, str]:
    """Ours, without what would decide for the node under trial."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENTGLDB_")}
    return {**kept, "PYTHONPATH": str(SOURCE)}
