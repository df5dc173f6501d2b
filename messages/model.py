"""The nouns of replication, in plain types."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import KEY_BYTES_MAX, NAME_CHARS_MAX
from entgldb.messages.schema import Count, Record, record

Origin = str
"""The writer of a log: ``<node id>/<incarnation, 32 hex digits>``. A log has one writer, ever."""
Vector = dict[str, tuple[Count, bytes]]
"""Version vector: origin -> (newest contiguous seq, its header hash)."""
Place = tuple[str, str]
"""The place of a document: collection and key."""

SYSTEM_PREFIX: Final = "_system_"
REMOTE_PEERS: Final = "_system_remote_peers"
NODES: Final = "_system_nodes"
COLLECTIONS: Final = "_system_collections"
"""Settings of collections: key = collection, body ``{"Collection", "Conflict": "lww" | "merge"}``."""
INDEXES: Final = "_system_indexes"
"""Indexes that every node has: key = ``<collection>/<name>``, body its definition."""
EXPELLED: Final = "_system_expelled"
"""Nodes that were expelled: key = ``<origin>/<last seq that counts>``, body the nodes that have said so."""
KEYS: Final = "_system_keys"
"""Keys of the cluster: key = the public key of the CA in hex, body the cluster key sealed to each member."""
ALWAYS_MERGED: Final = frozenset((REMOTE_PEERS, NODES, EXPELLED))
"""System collections whose documents merge field by field."""
HEALED: Final = "_system_healed"
"""Decisions about forked logs, by origin."""
ENDED: Final = "_system_ended"
"""Logs that their own node has ended: key = ``<origin>/<last seq>``."""
NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
COLLECTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SYSTEM_COLLECTION: Final = re.compile(r"_system_[a-z0-9_]{1,56}")


class Version(NamedTuple):
    """One version of a document: the entry that wrote it."""

    origin: Origin
    seq: int


@record
class Entry(Record):
    """An oplog entry as it travels: the header as its origin made it, the body if not filtered."""

    header: bytes
    body: bytes | None
    signature: bytes | None = None
    """Its origin's, of the chain up to this entry; not every entry has one."""

    @property
    def size(self) -> int:
        """Bytes of header and body."""
        return len(self.header) + len(self.body or b"")


@record
class Author(Record):
    """The proof that an origin is a writer of this cluster."""

    origin: Origin
    public_key: bytes
    """The first 16 bytes of its SHA-256 are the incarnation."""
    attestation: bytes
    """The signature by which the cluster's CA says that the node has this key; empty: nobody has said so."""


def node_of(origin: Origin) -> str:
    """The node id inside an origin."""
    return origin.rpartition("/")[0]


def incarnation_of(origin: Origin) -> str:
    """The incarnation inside an origin."""
    return origin.rpartition("/")[2]


def check_node_id(node_id: str, field: str = "node id") -> str:
    """Give ``node_id`` back, or raise InvalidError naming ``field``."""
    if not NODE_ID.fullmatch(node_id):
        raise InvalidError(
            f"{field} {node_id!r:.80} is not a node id",
            hint=f"use 1 to {NAME_CHARS_MAX} letters, digits, '_', '.', '-'; the first a letter or digit",
        )
    return node_id


def check_text(value: object, what: str) -> str:
    """Give back a text that a program has given. Raises InvalidError for a value of another type."""
    if not isinstance(value, str):
        raise InvalidError(f"{what} is a text, not {value!r:.40}, of type {type(value).__name__}")
    return value


def check_collection(name: str, *, system: bool = False) -> str:
    """Give ``name`` back, or raise InvalidError; system collections only where ``system`` is true."""
    check_text(name, "the name of a collection")
    if COLLECTION.fullmatch(name) and not name.lower().startswith("sqlite_"):
        return name
    if system and SYSTEM_COLLECTION.fullmatch(name):
        return name
    raise InvalidError(
        f"collection {name!r:.80} is not a collection name",
        hint=f"use 1 to {NAME_CHARS_MAX} letters, digits, '_', '.', '-'; names that begin with '_' "
        "or 'sqlite_' are reserved",
    )


def check_key(key: str) -> str:
    """Give ``key`` back, or raise InvalidError."""
    if type(key) is not str:
        check_text(key, "a key")
    if key.isascii() and 0 < len(key) <= KEY_BYTES_MAX and "\x00" not in key:
        return key
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidError("the key is not valid Unicode text") from None
    if not 0 < size <= KEY_BYTES_MAX or "\x00" in key:
        raise InvalidError(
            f"a key of {size} bytes", hint=f"use 1 to {KEY_BYTES_MAX} bytes of UTF-8 without NUL"
        )
    return key


def whole_number(text: str, most: int) -> int | None:
    """The number that ASCII digits say, from 0 to ``most``; None for every other text.

    ``int`` raises ValueError for more than 4,300 digits, and takes digits of all scripts, signs, blanks and
    underscores.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None
