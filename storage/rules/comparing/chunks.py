"""A snapshot as it travels: bounded, numbered chunks of rows, so that a broken one goes on at the last.

Chunk 0 is the head: ``[1, origins, clock, system]``, an origin being ``[name, seq, head hash, floor,
stamp of the head, public key, attestation, end, runs]``. The others are ``[kind, first, rows]``; rows name
their origin by its place in the head and are numbered from ``first`` on. A large row that makes such a chunk
too long travels as ``[2, left, piece]``: the chunks that follow each other down to ``left`` 0 hold the
pieces. The id of a snapshot is made of the digests of all its chunks: equal ids are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgpack

from entgldb.messages.errors import EntglError, ProtocolError
from entgldb.messages.limits import (
    CHUNK_BYTES_MAX,
    COUNT_MAX,
    DEPTH_MAX,
    ORIGINS_MAX,
    PACK_BYTES,
    ROW_BYTES_MAX,
    RUN_HASH_BYTES,
    RUNS_MAX,
    SIGNATURE_BYTES,
)
from entgldb.messages.model import Author, Origin, Vector, check_collection, check_key
from entgldb.storage.rules.authorship import fits
from entgldb.storage.rules.body import check_object
from entgldb.storage.rules.clock import HLC_MAX, MS_MAX
from entgldb.storage.rules.merging.changes import check_change
from entgldb.storage.rules.merging.stored import Tip, load_foreign

SNAPSHOT_FORMAT: Final = 1
DOCUMENTS: Final = 0
CONFLICTS: Final = 1
PIECE: Final = 2
MERGED: Final = b"merge"
ROWS_PER_CHUNK_MAX: Final = 4096
SEQ_MAX: Final = COUNT_MAX


class Mark(NamedTuple):
    """The sender's state of an origin."""

    name: Origin
    seq: int
    head: bytes
    floor: int
    """Newest seq whose log rows the sender has no more."""
    hlc: int
    """The stamp of the head."""
    public_key: bytes = b""
    """Empty where the sender has not been told it."""
    attestation: bytes = b""
    end: int | None = None
    """The seq behind which its own node has ended the log; None: it has not."""
    runs: Sequence[tuple[int, bytes]] = ()
    """Seq, and the beginning of the hash, of the newest entries that were their writer's first since it had
    opened its file; ascending."""


class Preface(NamedTuple):
    """Chunk 0."""

    marks: tuple[Mark, ...]
    clock: int
    """The sender's hybrid clock."""
    system: bool
    """Whether the system collections are in it, as far as the vector goes."""

    def vector(self) -> Vector:
        """The vector that the snapshot covers."""
        return {mark.name: (mark.seq, mark.head) for mark in self.marks if mark.seq}

    def authors(self) -> list[Author]:
        """The writers of these logs, as far as the sender has been told."""
        known = [mark for mark in self.marks if mark.public_key]
        return [Author(mark.name, mark.public_key, mark.attestation) for mark in known]


class Row(NamedTuple):
    """A document, a tombstone (``body`` None), or a version that lost to a concurrent one."""

    collection: str
    key: str
    body: bytes | None
    origin: int
    """Place in the head."""
    seq: int
    hlc: int
    stamps: bytes | None = None
    """Versions of fields, in collections that merge; of a conflict, MERGED where ``body`` is a change."""
    expires: int | None = None
    """The moment from which on nobody shows the version; left out where there is none."""


class Rows(NamedTuple):
    """Any other chunk."""

    kind: int
    first: int
    rows: list[Row]


def encode_preface(head: Preface) -> bytes:
    """The bytes of chunk 0."""
    return _packed([SNAPSHOT_FORMAT, head.marks, head.clock, head.system])


def encode_rows(kind: int, first: int, rows: Sequence[Sequence[Any]]) -> bytes:
    """The bytes of any other chunk."""
    return _packed([kind, first, rows])


def pieces(payload: bytes) -> list[bytes]:
    """The chunks as which an encoded chunk travels: itself, or its pieces."""
    if len(payload) <= 2 * CHUNK_BYTES_MAX:
        return [payload]
    starts = range(0, len(payload), CHUNK_BYTES_MAX)
    return [
        _packed([PIECE, len(starts) - 1 - number, payload[at : at + CHUNK_BYTES_MAX]])
        for number, at in enumerate(starts)
    ]


def decode_piece(payload: bytes) -> tuple[int, bytes] | None:
    """How many pieces follow, and this one; None for a chunk that is whole. Raises ProtocolError."""
    items = _unpacked(payload, 3)
    if items[0] != PIECE:
        return None
    left, piece = items[1:]
    _need(type(left) is int and 0 <= left <= ROW_BYTES_MAX, "piece")
    _need(type(piece) is bytes and len(piece) > 0, "piece")
    return left, piece


def snapshot_id(digests: Iterable[bytes]) -> str:
    """The name of what these chunks, in order, make."""
    return sha256(b"".join(digests)).hexdigest()[:32]


def cost(row: Sequence[Any]) -> int:
    """About how many bytes a row takes in a chunk."""
    return 40 + len(row[0]) + len(row[1]) + len(row[2] or b"") + len(row[6] or b"")


def full(rows: int, size: int) -> bool:
    """Whether a chunk takes no more rows."""
    return size >= CHUNK_BYTES_MAX or rows >= ROWS_PER_CHUNK_MAX


def decode_preface(payload: bytes) -> Preface:
    """Read and validate chunk 0. Raises ProtocolError."""
    items = _unpacked(payload, 4)
    _need(items[0] == SNAPSHOT_FORMAT, "format")
    _need(type(items[1]) is list and len(items[1]) <= ORIGINS_MAX, "list of origins")
    _need(type(items[2]) is int and 0 <= items[2] <= HLC_MAX and type(items[3]) is bool, "head")
    marks = tuple(_mark(one) for one in items[1])
    _need(len({mark.name for mark in marks}) == len(marks), "list of origins")
    _need(all(mark.hlc <= items[2] for mark in marks), "origin")
    return Preface(marks, items[2], items[3])


def decode_rows(payload: bytes, head: Preface) -> tuple[Rows, list[str | None]]:
    """Read and validate any other chunk: its rows, and the text of each body. Raises ProtocolError.

    No version in it is later than the clock of whoever gives it.
    """
    kind, first, rows = _unpacked(payload, 3)
    _need(kind in (DOCUMENTS, CONFLICTS) and type(first) is int and first > 0, "chunk")
    _need(type(rows) is list and 0 < len(rows) <= ROWS_PER_CHUNK_MAX, "list of rows")
    names: set[str] = set()
    origins = {mark.name for mark in head.marks}
    try:
        texts = [_checked(row, kind, head, names) for row in rows]
        for row, text in zip(rows, texts, strict=True):
            if kind == DOCUMENTS and row[6] is not None:
                tip = Tip(head.marks[row[3]].name, row[4], row[5], *row[7:])
                load_foreign(tip, text, row[6], origins, head.clock)
    except EntglError as fault:
        raise ProtocolError(f"a snapshot's row: {fault.text}") from None
    return Rows(kind, first, [Row(*row) for row in rows]), texts


def _checked(row: Any, kind: int, head: Preface, names: set[str]) -> str | None:
    """The text of a row's body, all else looked at."""
    _need(type(row) is list and len(row) in (7, 8), "row")
    collection, key, body, origin, seq, hlc, stamps, *moment = row
    _need(all(type(one) is int and 0 < one <= MS_MAX for one in moment), "moment")
    _need(type(collection) is str and type(key) is str, "name")
    if collection not in names:
        check_collection(collection, system=True)
        names.add(collection)
    check_key(key)
    _need(type(origin) is int and 0 <= origin < len(head.marks), "origin")
    _need(type(seq) is int and 0 < seq <= SEQ_MAX and type(hlc) is int and 0 <= hlc <= head.clock, "version")
    _need(stamps is None or (type(stamps) is bytes and len(stamps) <= ROW_BYTES_MAX), "stamps")
    if body is None:
        _need(kind == DOCUMENTS, "conflict")
        return None
    _need(type(body) is bytes, "body")
    # a document that was merged, or made of a merged one, may be larger than one that a writer may write
    if stamps is None or kind == DOCUMENTS:
        check_object(body, ROW_BYTES_MAX, DEPTH_MAX)
    else:
        _need(stamps == MERGED, "conflict")
        check_change(check_object(body, ROW_BYTES_MAX, DEPTH_MAX + 2), DEPTH_MAX + 1, (HLC_MAX, "~"))
    text: str = body.decode()
    return text


def _mark(item: Any) -> Mark:
    _need(type(item) is list and len(item) == 9, "origin")
    name, seq, head, floor, hlc, public_key, attestation, end, runs = item
    _need(
        type(name) is str and 0 < len(name) <= 128 and type(head) is bytes and len(head) in (0, 32), "origin"
    )
    _need(type(seq) is int and 0 <= seq <= SEQ_MAX and type(floor) is int and 0 <= floor <= seq, "origin")
    _need(type(hlc) is int and hlc >= 0 and bool(hlc) == bool(head) == bool(seq), "origin")
    _need(
        type(attestation) is bytes and len(attestation) in (0, SIGNATURE_BYTES, SIGNATURE_BYTES + 1),
        "attestation",
    )
    _need(end is None or (type(end) is int and seq <= end <= SEQ_MAX), "end of a log")
    _need(public_key == b"" or fits(Author(name, public_key, attestation)), "public key")
    return Mark(name, seq, head, floor, hlc, public_key, attestation, end, _runs(runs, seq))


def _runs(items: Any, head: int) -> tuple[tuple[int, bytes], ...]:
    _need(type(items) is list and len(items) <= RUNS_MAX, "list of runs")
    before = 0
    for item in items:
        _need(type(item) is list and len(item) == 2, "run")
        seq, digest = item
        _need(type(seq) is int and before < seq <= head, "run")
        _need(type(digest) is bytes and len(digest) == RUN_HASH_BYTES, "run")
        before = seq
    return tuple((seq, digest) for seq, digest in items)


def _packed(items: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(items, buf_size=PACK_BYTES)
    return packed


def _unpacked(payload: bytes, length: int) -> list[Any]:
    try:
        items = msgpack.unpackb(payload, raw=False, use_list=True, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as fault:
        raise ProtocolError(f"a snapshot's chunk is no msgpack array: {type(fault).__name__}") from None
    _need(type(items) is list and len(items) >= length, "chunk")
    found: list[Any] = items[:length]
    return found


def _need(good: bool, what: str) -> None:
    if not good:
        raise ProtocolError(f"a snapshot has a bad {what}")
