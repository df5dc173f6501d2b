"""``_system_nodes``: the facts of a node that rarely change. Key = node id; written by each node about
itself.

    {"NodeId", "Incarnation", "PublicKey", "FirstSeen", "Version", "Retired", "Keys", "Accepted", "Box",
     "BoxProof", "ClusterKey"}

``Retired`` is the incarnation that ``retire-node`` has retired, or null: a node that comes back with another
incarnation has rejoined. ``Keys`` has the keys of certificates that the node has shown (SHA-256 of the
SubjectPublicKeyInfo, RFC 5280, in hex) and since when. One of them is pinned: see ``rules.members``.
``Accepted`` is the one that ``members --accept`` has put in its place. ``Box`` is the public key to which a
new cluster key is sealed for the node (X25519, in hex), ``BoxProof`` the public key of its certificates and
its signature of the box (in hex), ``ClusterKey`` the id of the one that counts there.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from entgldb._version import VERSION
from entgldb.actors.ports import KeyRing, LogReader, Store
from entgldb.messages.errors import InvalidError, NotFoundError
from entgldb.messages.model import NODE_ID, NODES, REMOTE_PEERS, Origin, incarnation_of, node_of
from entgldb.messages.remote_peers import PeerType
from entgldb.messages.schema import Json
from entgldb.storage.rules.members import KEY, pinned_key


def about_self(store: Store, now_ms: int, key: str = "", ring: KeyRing | None = None) -> bytes | None:
    """The document of this node as it should be, or None where it already is.

    ``key``: of the certificate that this node shows. It is not added beside another one that is pinned.
    ``ring``: the cluster keys that it holds.
    """
    node_id = node_of(store.origin)
    before = _read(store.get(NODES, node_id))
    wanted = {
        **before,
        "NodeId": node_id,
        "Incarnation": incarnation_of(store.origin),
        "PublicKey": b64encode(store.public_key()).decode(),
        "FirstSeen": before.get("FirstSeen", now_ms),
        "Version": VERSION,
        "Retired": before.get("Retired"),
    }
    if key and not pinned_key(before):
        wanted["Keys"] = {key: now_ms}
    if ring is not None:
        proof = ring.proof(node_id, str(before.get("BoxProof", "")))
        wanted |= {"Box": ring.box, "BoxProof": proof, "ClusterKey": ring.held()[0]}
    return None if wanted == before else _body(wanted)


def as_retired(store: Store, node_id: str) -> bytes | None:
    """The document of a node that is being retired; None where this incarnation already is.

    Raises InvalidError for this node itself, NotFoundError for one that nobody has heard of.
    """
    if node_id == node_of(store.origin):
        raise InvalidError("a node cannot retire itself", hint="run entgldb retire-node on a node that stays")
    before = _read(store.get(NODES, node_id))
    heard = store.members().get(node_id)
    incarnation = before.get("Incarnation") or (heard and incarnation_of(heard.row.origin))
    if not incarnation:
        raise NotFoundError(
            f"no node {node_id}", hint="entgldb nodes; a cloud peer that was never reached: remove-peer"
        )
    if before.get("Retired") == incarnation:
        return None
    return _body({"NodeId": node_id, "Incarnation": incarnation, **before, "Retired": incarnation})


def as_accepted(store: Store, node_id: str, key: str) -> bytes | None:
    """The document of a node whose pinned key is to be ``key``; None where it is. Raises InvalidError."""
    if not KEY.fullmatch(key):
        raise InvalidError(f"{key!r:.80} is no key of a certificate", hint="entgldb members shows them")
    before = _read(store.get(NODES, node_id))
    if pinned_key(before) == key:
        return None
    return _body({"NodeId": node_id, **before, "Accepted": key})


def is_retired(node: Mapping[str, Json]) -> bool:
    """Whether a document says that its node is retired, and has not rejoined since."""
    return bool(node.get("Retired")) and node.get("Retired") == node.get("Incarnation")


def retired_origins(nodes: Iterable[Mapping[str, Json]]) -> frozenset[Origin]:
    """Incarnations that are not spoken to."""
    return frozenset(f"{node.get('NodeId')}/{node['Retired']}" for node in nodes if node.get("Retired"))


class Roll(NamedTuple):
    """The names of all members, as far as this node knows."""

    members: set[str]
    """Nodes of the LAN and cloud peers, this node and retired ones included."""
    clouds: set[str]
    """The cloud peers among them."""
    retired: set[str]
    """Expelled ones, too."""


def call_roll(log: LogReader, heard: Iterable[str]) -> Roll:
    """The members by the system collections; ``heard``: names that have spoken."""
    nodes, peers = read_documents(log, NODES), read_documents(log, REMOTE_PEERS)
    clouds = {str(peer.get("NodeId")) for peer in peers if peer.get("Type") == PeerType.CLOUD_REMOTE.value}
    known = {str(node.get("NodeId")) for node in nodes}
    # a row without a document: a node that has just come, unless it is a cloud peer that was removed
    names = set(heard)
    names -= removed_clouds(log, names)
    retired = {str(node.get("NodeId")) for node in nodes if is_retired(node)}
    return Roll(known | clouds | names, clouds, retired | log.expelled())


def disabled_peers(log: LogReader) -> set[str]:
    """The remote peers that nobody is to speak with now."""
    return {
        str(peer.get("NodeId"))
        for peer in read_documents(log, REMOTE_PEERS)
        if peer.get("IsEnabled") is False
    }


def removed_clouds(log: LogReader, heard: Iterable[str]) -> set[str]:
    """The names that were those of cloud peers, and are not any more."""
    known = {
        str(found.get("NodeId")) for name in (NODES, REMOTE_PEERS) for found in read_documents(log, name)
    }
    return {name for name in heard if name not in known and log.known(REMOTE_PEERS, name)}


def read_documents(log: LogReader, collection: str) -> list[dict[str, Json]]:
    """The documents of a system collection that are JSON objects; of nodes: those under their own name."""
    found = [(key, _read(body)) for key, body in log.documents(collection)]
    return [body for key, body in found if collection != NODES or _is_of(key, body)]


def _is_of(node_id: str, body: Mapping[str, Json]) -> bool:
    return body.get("NodeId") == node_id and NODE_ID.fullmatch(node_id) is not None


def _read(body: bytes | None) -> dict[str, Json]:
    found = {} if body is None else json.loads(body)
    return found if isinstance(found, dict) else {}


def _body(document: dict[str, Json]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
