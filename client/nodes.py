"""``db.nodes``: the members of the cluster, the keys and the entries that each has, and those that will not
come back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from entgldb._version import VERSION
from entgldb.messages.administration import AcceptKey, ExpelNode, RetireNode, RotateKey
from entgldb.messages.client import CommitDone
from entgldb.messages.errors import InvalidError, NotFoundError
from entgldb.messages.model import EXPELLED, NODES, REMOTE_PEERS, incarnation_of, node_of
from entgldb.messages.remote_peers import SEALED, read_peer
from entgldb.storage.rules.ended import is_any_log, read_ending, said_in
from entgldb.storage.rules.members import pinned_key

if TYPE_CHECKING:
    from entgldb.client.door import Door

LIVE_MS: Final = 100_000
"""A node heard of within that time counts as live; an idle one says something every 30 s."""


class NodeRow(NamedTuple):
    """One node as this one sees it. Times in milliseconds since 1970; None is unknown."""

    node_id: str
    incarnation: str | None
    version: str | None
    first_seen: int | None
    """Told of each node of the LAN that had a link, and of no cloud peer."""
    last_seen: int | None
    """By its own clock."""
    behind: int | None
    """Operations that we have and it has not acknowledged."""
    state: str
    """``live``, ``absent``, ``retired`` or ``expelled``."""
    holds_back: dict[str, Any] | None
    """The data that is kept for its sake: ``entries``, ``tombstones``, ``since``; None: nothing."""


class MemberRow(NamedTuple):
    """One member of the cluster, by its key. Times in milliseconds since 1970; None is unknown."""

    node_id: str
    key: str | None
    """SHA-256 of the SubjectPublicKeyInfo of its certificates, 64 hex digits. No other key counts for it."""
    since: int | None
    """It has been noted by this key; None: not yet, as it had no link."""
    last_seen: int | None
    state: str
    """``member``, ``retired`` or ``expelled``."""
    told: tuple[str, ...] = ()
    """The nodes that have said that it is expelled, and so give it no link."""
    moved: bool = True
    """Whether it has taken the cluster key that counts, as far as this node knows."""


class KeyState(NamedTuple):
    """The key of the cluster that counts. Times in milliseconds since 1970."""

    key: str
    """Its id, the public key of its CA: 64 hex digits."""
    by: str
    """The node that made it."""
    at: int
    until: int | None
    """Until then nodes for which it was not made may come by an older key; None: they may not any more."""
    held: str
    """The id of the key that this node has taken."""
    waiting: tuple[str, ...]
    """The members that have not taken it, as far as this node knows."""
    lacking: tuple[str, ...] = ()
    """Those for which it could not be sealed when it was made: they run an earlier release, or were not
    linked since. The key before it is kept for them; they get another once each has told how."""


class Nodes:
    """A list made of ``_system_nodes`` and of what heartbeats have told."""

    def __init__(self, database: Door) -> None:
        self._database = database

    def all(self) -> list[NodeRow]:
        """Every node that was ever heard of, this one and cloud peers included, by id."""
        documents = self._documents()
        sync, oplog = self._database.status("sync"), self._database.status("oplog")
        rows = {row["name"].partition("/")[0]: row for row in sync.get("members", [])}
        linked = {peer["node_id"] for peer in sync.get("peers", [])}
        ours = {origin: head[0] for origin, head in oplog.get("vector", {}).items()}
        held = oplog.get("held_back_by", {})
        own = str(oplog.get("origin", "")).partition("/")[0]
        # members were heard at times of that clock
        now_ms = sync.get("now_ms", 0)
        expelled = self._database.documents.expelled()
        found = []
        for node_id in sorted(documents.keys() | rows.keys() | held.keys()):
            row = _row(node_id, documents.get(node_id, {}), rows.get(node_id), ours, now_ms)
            if node_id == own:
                row = row._replace(last_seen=now_ms or None, behind=0)
            here = node_id in linked or node_id == own
            state = "live" if here and row.state != "retired" else row.state
            state = "expelled" if node_id in expelled else state
            found.append(row._replace(holds_back=held.get(node_id), state=state))
        return found

    def members(self) -> list[MemberRow]:
        """Every node of the LAN that the cluster knows, by id."""
        sync, own = self._database.status("sync"), node_of(self._database.documents.origin())
        documents = {} if "cluster" in sync else self._documents()
        found = [_member(row, documents[row.node_id]) for row in self.all() if row.node_id in documents]
        told, key = self._told(), self.cluster_key()
        waiting = () if key is None else key.waiting
        return [
            row._replace(
                # nobody has seen that of a node which had no link yet: it is the one that it will show
                key=row.key or (sync.get("key") if row.node_id == own else None),
                told=told.get(row.node_id, ()),
                moved=row.node_id not in waiting,
            )
            for row in found
        ]

    def _told(self) -> dict[str, tuple[str, ...]]:
        """Node that is expelled -> the nodes that have said so."""
        return {
            node_of(end[0]): tuple(sorted(said_in(json.dumps(body))["Said"]))
            for key, body in self._database.documents.find(EXPELLED)
            if (end := read_ending(key)) is not None and is_any_log(end[0])
        }

    def _documents(self) -> dict[str, dict[str, Any]]:
        """Node id -> what it says of itself. This one does so with its first link, and is known before."""
        documents = {key: dict(body) for key, body in self._database.documents.find(NODES)}
        origin = self._database.documents.origin()
        documents.setdefault(node_of(origin), {"Incarnation": incarnation_of(origin), "Version": VERSION})
        return documents

    def refused(self) -> list[dict[str, Any]]:
        """Machines that came here lately with a certificate of the cluster and were refused.

        Each has ``node_id``, ``key``, ``reason`` and ``at_ms``.
        """
        return list(self._database.status("sync").get("refused", []))

    def accept(self, node_id: str, key: str = "") -> str:
        """Let a node that was made anew come under its old name: on all nodes its new key counts.

        ``key``: the new one; empty: the one that was refused here lately. Gives the key that counts now.
        Raises NotFoundError where none was refused, InvalidError where several were.
        """
        if not key:
            keys = sorted({row["key"] for row in self.refused() if row["node_id"] == node_id})
            if not keys:
                raise NotFoundError(
                    f"no other key of {node_id} was refused here lately",
                    hint="start that machine and wait until it was refused, or give its key",
                )
            if len(keys) > 1:
                raise InvalidError(
                    f"{len(keys)} machines came as {node_id}: {', '.join(keys)}", hint="give the key of one"
                )
            (key,) = keys
        self._database.request(AcceptKey(self._database.next_request(), node_id, key))
        return key

    def cluster_key(self) -> KeyState | None:
        """The key of the cluster that counts; None while it is the first one."""
        found = self._database.status("sync").get("cluster_key")
        if not found:
            return None
        key, by, at, until, held = (found[name] for name in ("key", "by", "at_ms", "until_ms", "held"))
        return KeyState(key, by, at, until, held, tuple(found["waiting"]), tuple(found["lacking"]))

    def rotate_key(self) -> None:
        """Make a new key of the cluster, sealed to each member that is not expelled or retired.

        Each takes it as soon as it hears of it; links and the name of the cluster stay.
        """
        self._database.request(RotateKey(self._database.next_request()))

    def known_secrets(self) -> list[str]:
        """The remote peers whose client secret lies sealed in their list.

        Each member knows it, as does one that has been expelled since it was set.
        """
        found = []
        for key, body in self._database.documents.find(REMOTE_PEERS):
            try:
                peer = read_peer(dict(body))
            except InvalidError:
                continue
            if peer.oauth2 is not None and peer.oauth2.client_secret.startswith(SEALED):
                found.append(key)
        return found

    def expel(self, node_id: str) -> bool:
        """Say that a node is no member any more, for good; False when this node has said so already.

        Each node that hears of it cuts its links with that node at the next heartbeat, and takes nothing that
        it has written since. A machine that is to come back does so under another id. Raises NotFoundError
        for a node nobody has heard of, InvalidError for the node that is asked itself.
        """
        answer = self._database.request(ExpelNode(self._database.next_request(), node_id))
        return isinstance(answer, CommitDone) and answer.lsn > 0

    def retire(self, node_id: str) -> bool:
        """Say that a node will not come back as it was; False when it is retired already.

        From then on nothing is kept for it, on any node, and it is refused until it rejoins. Raises
        NotFoundError for a node nobody has heard of, InvalidError for the node that is asked itself.
        """
        answer = self._database.request(RetireNode(self._database.next_request(), node_id))
        return isinstance(answer, CommitDone) and answer.lsn > 0


def _member(row: NodeRow, document: Mapping[str, Any]) -> MemberRow:
    key = pinned_key(document) or None
    keys = document.get("Keys")
    since = keys.get(key) if isinstance(keys, Mapping) else None
    state = row.state if row.state in ("retired", "expelled") else "member"
    return MemberRow(row.node_id, key, since or row.first_seen, row.last_seen, state)


def _row(
    node_id: str,
    document: Mapping[str, Any],
    row: Mapping[str, Any] | None,
    ours: Mapping[str, int],
    now_ms: int,
) -> NodeRow:
    incarnation = document.get("Incarnation") or (None if row is None else incarnation_of(row["origin"]))
    retired = bool(document.get("Retired")) and document.get("Retired") == incarnation
    heard = row is not None and now_ms - row["heard_ms"] < LIVE_MS
    behind = None
    if row is not None:
        behind = sum(max(0, seq - row["vector"].get(origin, 0)) for origin, seq in ours.items())
    return NodeRow(
        node_id,
        incarnation,
        document.get("Version"),
        document.get("FirstSeen"),
        None if row is None else row["seen_ms"],
        behind,
        "retired" if retired else "live" if heard else "absent",
        None,
    )
