"""The bytes that signatures are made of, and what of a signature needs no key.

An origin signs the hash of a header: the chain covers all that came before. The cluster's CA signs who has
which key. Each kind of statement begins with a word of its own, so that none can be taken for another.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgpack

from entgldb.messages.limits import PUBLIC_KEY_BYTES
from entgldb.messages.model import Author, incarnation_of

_HEAD: Final = b"entgldb head 1\x00"
_AUTHOR: Final = b"entgldb author 1\x00"


def incarnation(public_key: bytes) -> str:
    """The incarnation that is made from a key."""
    return sha256(public_key).digest()[:16].hex()


def cluster_of(ca_key: bytes) -> str:
    """The name of a cluster: made of the CA's public key, it tells clusters apart and gives nothing away."""
    return sha256(ca_key).hexdigest()[:16]


def head_statement(header_hash: bytes) -> bytes:
    """An origin signs this to say that its log is its own up to the entry whose header has this SHA-256."""
    return _HEAD + header_hash


def author_statement(cluster: str, node_id: str, public_key: bytes) -> bytes:
    """The CA of a cluster signs this to say that the node writes with this key."""
    packed: bytes = msgpack.packb([cluster, node_id, public_key])
    return _AUTHOR + packed


def fits(author: Author) -> bool:
    """Whether the origin is made from the key."""
    key = author.public_key
    return len(key) == PUBLIC_KEY_BYTES and incarnation_of(author.origin) == incarnation(key)
