"""The keys of a cluster that followed its first one, documents of ``_system_keys``: which counts, who has it.

A document's key is the public key of the new CA, in hex: the header says it, so clouds hear of it by the
gateway. Its body has the new key once for each member, sealed to that member alone, and never under another
key of the cluster.

    {"By": node, "For": {node: {"Key": pinned key of its certificates, "Sealed": hex; empty: no box known}},
     "Chain": [[public key of the first CA, ""], [of the next one, signature of the one before], ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from entgldb.messages.model import Origin, node_of
from entgldb.messages.schema import Json
from entgldb.storage.rules.clock import ms_of

KEY_ID: Final = re.compile(r"[0-9a-f]{64}")
CHAIN_MAX: Final = 64
"""CAs of one cluster that a peer is told. Once there were more, the first ones are left out, and a cloud that
does not know the cluster cannot follow to the one that counts."""
MANY_KEYS: Final = 48
"""From so many on an alarm stands: who makes them without need is to be expelled before it is too late."""
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
KEY_WINDOW_MS: Final = 24 * 3600 * 1000
"""After a new key was made others than those for whom it was sealed may come by an older one for so long."""


class Rotation(NamedTuple):
    """A key of the cluster that took the place of another."""

    key_id: str
    """The public key of its CA, in hex."""
    by: str
    """The node that made it."""
    at_ms: int
    """By the stamp of its entry."""
    sealed: Mapping[str, tuple[str, str]]
    """Node id -> the key of its certificates that was pinned then, and the cluster key sealed to it."""
    chain: tuple[tuple[str, str], ...] = ()
    """The public keys of the CAs up to this one, in hex, each with the signature of the one before it."""

    def is_for(self, node_id: str, key: str) -> bool:
        """Whether the cluster key was sealed for the node that shows certificates with ``key``."""
        return self.sealed.get(node_id, ("", ""))[0] == key != ""

    @property
    def lacking(self) -> list[str]:
        """The members that had told no box to seal the key to, and come by the one before."""
        return sorted(name for name, (_, sealed) in self.sealed.items() if not sealed)

    def waits_for(self, nodes: Iterable[Mapping[str, Json]], out: Iterable[str]) -> list[str]:
        """The members that have not said that they hold the key; ``out``: those that are none any more."""
        gone = set(out)
        names = (str(node.get("NodeId")) for node in nodes if node.get("ClusterKey") != self.key_id)
        return sorted(name for name in names if name not in gone)

    def is_open(self, waiting: Iterable[str], expelled: Iterable[str], now_ms: int) -> bool:
        """Whether others than those for whom the key was made may come by an older one: once a node was
        expelled they may not, because that is how it would come under another name."""
        return any(waiting) and not any(expelled) and now_ms < self.at_ms + KEY_WINDOW_MS


def read_rotation(key_id: str, body: bytes, hlc: int) -> Rotation | None:
    """The rotation that a document of the collection tells of; None where it is none."""
    found = json.loads(body)
    if not KEY_ID.fullmatch(key_id) or not isinstance(found, dict) or not isinstance(found.get("For"), dict):
        return None
    members = {name: one for name, one in found["For"].items() if isinstance(one, dict)}
    sealed = {name: (str(one.get("Key")), str(one.get("Sealed"))) for name, one in members.items()}
    chain = chain_in(body)
    if len(chain) < 2 or chain[-1][0] != key_id:
        return None
    return Rotation(key_id, str(found.get("By")), ms_of(hlc), sealed, chain)


def chain_in(body: bytes | None) -> tuple[tuple[str, str], ...]:
    """The chain of CAs in the body of a document; empty where there is none, or more than ``Hello`` has room
    for: a member may write what it likes."""
    found = {} if body is None else json.loads(body)
    chain = found.get("Chain") if isinstance(found, dict) else None
    if not isinstance(chain, list) or not 0 < len(chain) <= CHAIN_MAX:
        return ()
    pairs = [(str(one[0]), str(one[1])) for one in chain if isinstance(one, list) and len(one) == 2]
    signed = all(_SIGNATURE.fullmatch(by) for _, by in pairs[1:])
    whole = len(pairs) == len(chain) and all(KEY_ID.fullmatch(key) for key, _ in pairs)
    # nobody reads the signature of the first one
    return ((pairs[0][0], ""), *pairs[1:]) if signed and whole else ()


def cas_in(body: bytes | None) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The public key of the first CA, and of those that followed it, as ``Hello`` has them."""
    chain = chain_in(body)
    if not chain:
        return b"", ()
    (first, _), *successors = chain
    return bytes.fromhex(first), tuple((bytes.fromhex(key), bytes.fromhex(by)) for key, by in successors)


def newest(rows: Iterable[tuple[str, bytes, int, Origin]]) -> Rotation | None:
    """The key that counts: of all that are known the one whose entry has the greatest (stamp, origin)."""
    for key_id, body, hlc, origin in sorted(rows, key=lambda row: row[2:], reverse=True):
        if (found := read_rotation(key_id, body, hlc)) is not None:
            # the body is its word, the log is signed: who made the key knows it, whoever else it names
            return found._replace(by=node_of(origin))
    return None
