"""The keys of simulated nodes: of their cluster, by which links are made, and their own."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from entgldb.actors.cluster_key import CLUSTER_KEY_BYTES, ClusterKeys
from entgldb.actors.tls.attestation import CaOfCluster, renewal
from entgldb.actors.tls.certificates import ca_keys, cluster_name, name_of
from entgldb.launch.testing.world import World
from entgldb.messages.model import Author
from entgldb.messages.secret import Secret


class Holder(Protocol):
    """A node that holds keys, over all of its lives."""

    name: str
    word: str
    taken: ClusterKeys | None
    """Its cluster keys; None: the first one, made of ``word``."""
    stolen_by: str
    """Another machine that shows certificates of its name, by a key of its own; empty: there is none."""


def keys_of(node: Holder) -> ClusterKeys:
    """The cluster keys that a node holds."""
    return node.taken or ClusterKeys((Secret(sha256(node.word.encode()).digest()),))


def own_key(node: Holder) -> str:
    """The key of its certificates."""
    return sha256(f"certificates of {node.name} {node.stolen_by}".encode()).hexdigest()


def held_by(node: Holder) -> str:
    """The id of the cluster key that counts there."""
    return id_of(keys_of(node).keys[0])


def common_key(dials: Holder, answers: Holder) -> str:
    """The id of the newest key of the one that dials that the other side holds, too; empty: there is none."""
    theirs = keys_of(answers).keys
    return next((id_of(key) for key in keys_of(dials).keys if key in theirs), "")


def id_of(key: Secret) -> str:
    """The public key of its CA, in hex."""
    return ca_keys(ClusterKeys((key,)))[0].hex()


def proof_of(key: str, box: str, node_id: str) -> str:
    """The word of a node's own key for a box; no simulated node makes up that of another."""
    return sha256(f"{key} signs {box} of {node_id}".encode()).hexdigest()


class VirtualRing:
    """Implements ``ports.KeyRing``. A sealed key is a text that only the owner of the box reads."""

    def __init__(self, node: Holder, world: World) -> None:
        self._node, self._world = node, world
        self._ca = CaOfCluster(lambda: keys_of(node))

    @property
    def box(self) -> str:
        """Follows from the node's own key."""
        return sha256(f"box of {own_key(self._node)}".encode()).hexdigest()

    def proof(self, node_id: str, before: str) -> str:
        return proof_of(own_key(self._node), self.box, node_id)

    def proves(self, proof: str, box: str, node_id: str, pinned: str) -> bool:
        return proof == proof_of(pinned, box, node_id)

    def held(self) -> tuple[str, ...]:
        return tuple(id_of(key) for key in keys_of(self._node).keys)

    def is_first(self) -> bool:
        keys = keys_of(self._node)
        return name_of(keys) == cluster_name(keys.keys[0])

    def new(self) -> tuple[str, Secret]:
        made = Secret(self._world.random.randbytes(CLUSTER_KEY_BYTES))
        return id_of(made), made

    def seal(self, key: Secret, box: str, node_id: str) -> str:
        if not box:
            raise ValueError("no box")
        return f"{box}{key.reveal().hex()}"

    def open(self, sealed: str, key_id: str, node_id: str) -> Secret | None:
        if not sealed.startswith(self.box):
            return None
        key = Secret(bytes.fromhex(sealed.removeprefix(self.box)))
        return key if len(key) == CLUSTER_KEY_BYTES and id_of(key) == key_id else None

    def of_held(self, key_id: str) -> Secret | None:
        return next((one for one in keys_of(self._node).keys if id_of(one) == key_id), None)

    def take(self, key: Secret) -> None:
        keys = keys_of(self._node)
        self._node.taken = keys.followed_by(key, name_of(keys))

    def drop_older(self) -> None:
        keys = keys_of(self._node)
        self._node.taken = ClusterKeys(keys.keys[:1], name_of(keys))

    def vouch(self, key_id: str) -> str:
        return self._ca.vouch(bytes.fromhex(key_id)).hex()

    def attested(self, author: Author) -> Author:
        return self._ca.attested(author)

    def renewal(self, key: Secret) -> Callable[[Author], bytes | None]:
        return renewal(keys_of(self._node), key)
