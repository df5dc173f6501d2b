"""The demo's cloud as two processes over one PostgreSQL: how steps look at it, and the steps of it alone."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from entgldb.launch.demo.peers import NOTES, add
from entgldb.launch.demo.stage import Stage, check_secrets, command, digest, equal, linked, require, search
from entgldb.launch.demo.start import smallest_leads
from entgldb.launch.node.init import Plan, init
from entgldb.launch.playground.cluster import HOST, Member, wait_for
from entgldb.messages.errors import EntglError, NotFoundError
from entgldb.messages.model import SYSTEM_PREFIX

PLANTED: Final = "planted"
"""A document of the second tenant alone, and its collection."""
SECOND_SECONDS: Final = 30.0
_ACTORS: Final = ("store", "oplog", "sync", "election", "gateway", "node")


class Process(Member):
    """One of the processes of a cloud node. Its documents are those of the demo's first tenant."""

    dsn = tenant = ""

    def vector(self) -> dict[str, Any]:
        found: dict[str, Any] = self.db.tenants.status(self.tenant, "oplog")["vector"]
        return found

    def guests(self) -> list[dict[str, Any]]:
        try:
            peers: list[dict[str, Any]] = self.db.tenants.status(self.tenant, "sync")["peers"]
        except NotFoundError:
            return []  # nobody of the tenant came to this process yet
        return [peer for peer in peers if peer["state"] == "connected"]

    def collections(self) -> list[str]:
        names = self._log().connection.execute("SELECT name FROM _entgldb_collections ORDER BY name")
        return [name for (name,) in names if not name.startswith(SYSTEM_PREFIX)]

    def all_of(self, collection: str) -> dict[str, dict[str, Any]]:
        return stored(self.dsn, self.tenant, collection)

    def _log(self) -> Any:
        return _reader(self.dsn, self.tenant)


def stored(dsn: str, tenant: str, collection: str) -> dict[str, dict[str, Any]]:
    """The documents of a tenant, as PostgreSQL has them."""
    return {key: json.loads(body) for key, body in _reader(dsn, tenant).documents(collection)}


def _reader(dsn: str, tenant: str) -> Any:
    from entgldb.storage.postgres.store import LogReader

    return LogReader.connect(dsn, tenant)


class Hosted(Stage):
    """The stage with such a cloud."""

    dsn = ""
    other: Member
    """The lone node of another cluster, whose client is the second tenant."""
    other_client = ""
    word = ""
    """Stands in the document of the second tenant, and nowhere else."""


def nodes_up(stage: Stage) -> str:
    """An authorization server, two processes of one cloud node, three LAN nodes, one of another cluster."""
    assert isinstance(stage, Hosted), "the steps of a hosted demo have its stage"
    playground = stage.playground
    playground.start_authority()
    stage.secrets.append(playground.client_secret)
    stage.other_client, stage.word = f"other-{secrets.token_hex(4)}", secrets.token_hex(16)
    Process.dsn, Process.tenant = stage.dsn, playground.client_id
    playground.make_lan(3)
    for _ in range(2):
        playground.make_cloud(stage.dsn, Process)
    made = init(Plan(playground.root / "other-1", "other-1", HOST))
    stage.other = Member(made.directory, made.node_id, "other", made.port)
    playground.members.append(stage.other)
    begun = time.monotonic()
    playground.start()
    up = time.monotonic() - begun
    return f"6 nodes ready in {up:.1f} s, gateway {smallest_leads(stage)}"


def second_tenant(stage: Stage) -> str:
    """Another cluster comes to the other process; its document is in its tenant, and nowhere else."""
    assert isinstance(stage, Hosted), "the steps of a hosted demo have its stage"
    secret = secrets.token_urlsafe(24)
    stage.playground.control(client={"id": stage.other_client, "secret": secret})
    stage.secrets.append(secret)
    stage.other.db[PLANTED].put("one", {"word": stage.word})
    add(stage, stage.other, stage.playground.clouds[-1], client=(stage.other_client, secret))
    wait_for(
        "the document in its tenant",
        lambda: stored(stage.dsn, stage.other_client, PLANTED) == {"one": {"word": stage.word}},
        SECOND_SECONDS,
    )
    return f"{stage.other_client} has its document; {nowhere_else(stage)}"


def nowhere_else(stage: Hosted) -> str:
    """The word of the second tenant is in no file, table or status of others."""
    others = [member for member in stage.playground.members if member is not stage.other]
    files, _, found = search(others, [stage.word], stage.playground.client_id)
    require(not found, f"the second tenant's document stands in {found}")
    ours, theirs = (_copy(stage.dsn, name) for name in (stage.playground.client_id, stage.other_client))
    word = stage.word.encode()
    require(word in theirs, "a copy of its tenant does not have it, so the search proves nothing")
    require(word not in ours, "the first tenant has the second's document")
    for member in others:
        told = json.dumps([member.db.status(actor) for actor in _ACTORS])
        require(stage.word not in told, f"the status of {member.directory.name} tells it")
    return f"it is in none of {files} files, tables and outputs of others"


def _copy(dsn: str, tenant: str) -> bytes:
    from entgldb.storage.postgres.tenants import copy_out

    with tempfile.TemporaryDirectory() as folder:
        copy_out(dsn, tenant, Path(folder))
        return b"".join(file.read_bytes() for file in Path(folder).iterdir())


def other_process(stage: Stage) -> str:
    """The gateway is sent to the other process, which goes on where the first was."""
    first, second = stage.playground.clouds
    on, gateway = stage.others()[0], stage.gateway()
    command("update-peer", second.node_id, "--dir", str(on.directory), "--address", second.address)
    linked(stage, second, gateway)
    seconds = stage.linked_after(on)
    linked(stage, first, None)
    on.db[NOTES].put("after-the-move", {"by": on.node_id})
    equal([*stage.playground.lan, second], only=NOTES)
    return f"linked to {second.directory.name} in {seconds:.2f} s, which has all documents"


def process_killed(stage: Stage) -> str:
    """kill -9 of that process: the gateway is sent back to the first, and nothing is lost."""
    first, second = stage.playground.clouds
    on, gateway = stage.others()[0], stage.gateway()
    second.kill()
    on.db[NOTES].put("while-it-is-dead", {"by": on.node_id})
    command("update-peer", first.node_id, "--dir", str(on.directory), "--address", first.address)
    linked(stage, first, gateway)
    seconds = stage.linked_after(on)
    equal([*stage.playground.lan, first], only=NOTES)
    stage.playground.start([second])
    return f"linked to {first.directory.name} in {seconds:.2f} s, which has all documents"


def restart_all(stage: Stage) -> str:
    """All is stopped and started: nothing is lost, and nothing of the tenants has mixed."""
    assert isinstance(stage, Hosted), "the steps of a hosted demo have its stage"
    playground = stage.playground
    wanted = digest(stage.gateway())
    playground.stop()
    begun = time.monotonic()
    playground.start()
    linked(stage, playground.clouds[0], stage.gateway())
    seconds = time.monotonic() - begun
    equal([*playground.lan, playground.clouds[0]])
    require(digest(playground.lan[0]) == wanted, "documents differ from those before the restart")
    files = check_secrets(stage)
    return (
        f"all linked {seconds:.1f} s after start, secrets in none of {files} files; "
        f"of the second tenant: {nowhere_else(stage)}"
    )


def remove_tenants(stage: Hosted) -> None:
    """Leave nothing in a database that stays."""
    from entgldb.storage.postgres.tenants import TenantRows
    from entgldb.storage.tenants.files import TenantFiles

    rows = TenantRows(stage.dsn, TenantFiles(stage.playground.root))
    for tenant in filter(None, (stage.playground.client_id, stage.other_client)):
        try:
            while not rows.remove(tenant):
                pass
        except EntglError:
            return  # PostgreSQL has no tables yet, or has gone
