"""Entry headers: the bytes an origin made once, hashed, chained and relayed without a change.

A header is the msgpack array ``[1, origin, seq, hlc, collection, key, op, parent, group_index,
group_size, body_sha256, prev_hash]``, then ``seen`` and ``optional``, which are left out where they, and all
behind them, are empty; its hash is the SHA-256 of these bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgpack

from entgldb.messages.errors import InvalidError, ProtocolError
from entgldb.messages.limits import (
    COUNT_MAX,
    GROUP_ENTRIES_MAX,
    HEADER_BYTES_MAX,
    NAMED_MAX,
    OPTIONAL_BYTES_MAX,
    PACK_BYTES,
)
from entgldb.messages.model import SYSTEM_PREFIX, Origin, Version, check_collection, check_key
from entgldb.storage.rules.body import check_body
from entgldb.storage.rules.clock import HLC_MAX, MS_MAX
from entgldb.storage.rules.merging.row import read_merging

HEADER_FORMAT: Final = 1
PUT: Final = 0
DELETE: Final = 1
MERGE: Final = 2
"""Changed fields; the body is that of ``rules.merged``."""
OPTIONAL_NUMBER_MAX: Final = 65_535
"""The greatest number of an optional field."""
EXPIRES: Final = 1
"""The optional field with the moment from which on nobody shows the version, an integer."""
BEGINS: Final = 2
"""The optional field of its writer's first entry since the file was opened; its value, 1, means nothing."""
Optional = int | str | bytes
_FIELDS: Final = 12
_NAMES_KEPT: Final = 1_024
"""Origins, and collections, that were looked at lately: they stand in one header after the other."""
_ORIGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/[0-9a-f]{32}")
_ORIGIN_CHARS_MAX: Final = 97


class Header(NamedTuple):
    """One entry without its body."""

    origin: Origin
    seq: int
    """1, 2, 3... of this origin."""
    hlc: int
    collection: str
    key: str
    op: int
    """PUT, DELETE or MERGE."""
    parent: Version | None
    """The version the writer replaced."""
    group_index: int
    group_size: int
    """Entries of the origin's transaction."""
    body_sha256: bytes
    """Empty for a delete."""
    prev_hash: bytes
    """Hash of the origin's entry before; empty at seq 1."""
    seen: tuple[Version, ...] = ()
    """Versions beside the parent that the writer knew and that nobody had named: it replaces them too."""
    optional: tuple[tuple[int, Optional], ...] = ()
    """Number and value, in ascending order; a node that does not know a number passes the field on."""

    @property
    def version(self) -> Version:
        return Version(self.origin, self.seq)

    @property
    def expires(self) -> int:
        """The moment from which on nobody shows the version, in milliseconds since 1970; 0: none.

        A system collection keeps what it has.
        """
        if not self.optional or self.optional[0][0] != EXPIRES or self.collection.startswith(SYSTEM_PREFIX):
            return 0
        moment = self.optional[0][1]
        return moment if type(moment) is int and self.op != DELETE else 0

    @property
    def begins(self) -> bool:
        """Whether its writer had just opened its file."""
        return self.seq == 1 or any(number == BEGINS for number, _ in self.optional)

    @property
    def named(self) -> frozenset[Version]:
        """All versions that the writer says it knew."""
        return frozenset(self.seen if self.parent is None else (self.parent, *self.seen))


def encode(header: Header) -> bytes:
    """The bytes of a header; deterministic."""
    *fields, seen, optional = header
    if seen or optional:
        fields.append(seen)
    if optional:
        fields.append(optional)
    packed: bytes = msgpack.packb((HEADER_FORMAT, *fields), buf_size=PACK_BYTES)
    return packed


def expiring(moment: int) -> tuple[tuple[int, Optional], ...]:
    """The optional fields of a header of which the version expires at ``moment``; 0: it does not."""
    return ((EXPIRES, moment),) if moment else ()


def digest(data: bytes) -> bytes:
    """SHA-256, of header bytes or of a body."""
    return sha256(data).digest()


def decode(data: bytes) -> Header:
    """Read and validate header bytes from anywhere. Raises ProtocolError saying what is wrong."""
    if len(data) > HEADER_BYTES_MAX:
        raise ProtocolError(f"a header of {len(data)} bytes, {HEADER_BYTES_MAX} allowed")
    try:
        items = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as fault:
        raise ProtocolError(f"a header is no msgpack array: {type(fault).__name__}") from None
    if (
        type(items) is not list
        or len(items) < _FIELDS
        or type(items[0]) is not int
        or items[0] != HEADER_FORMAT
    ):
        raise ProtocolError(f"a header is an array of {_FIELDS} or more that begins with {HEADER_FORMAT}")
    # a newer release may append fields: they are stored and relayed as they came, and mean nothing here
    if len(items) == _FIELDS:
        return _checked(items, (), ())
    seen, optional, *_ = [*items[_FIELDS:], None]
    return _checked(items[:_FIELDS], _checked_seen(seen), _checked_optional(optional))


def body_matches(header: Header, body: bytes | None) -> bool:
    """Whether a body, if there is one, is the one the header was made for."""
    return body is None or digest(body) == header.body_sha256


def body_text(header: Header, body: bytes) -> str:
    """A body as text: a document, or what a merge says. Raises InvalidError or TooLargeError."""
    if header.op == MERGE:
        read_merging(body, (header.hlc, header.origin))
        return body.decode()
    return check_body(body)


def _checked(
    items: list[Any], seen: tuple[Version, ...], optional: tuple[tuple[int, Optional], ...]
) -> Header:
    # in line: a node reads each header twice, and a call for each field takes as long as all the rest
    _, origin, seq, hlc, collection, key, op, parent, index, size, body, prev = items
    bad = (
        (not is_origin(origin) and "origin")
        or (not (type(seq) is int and 1 <= seq <= COUNT_MAX) and "seq")
        or (not (type(hlc) is int and 0 <= hlc <= HLC_MAX) and "hlc")
        or (not (type(op) is int and PUT <= op <= MERGE) and "op")
        or (not (type(size) is int and 1 <= size <= GROUP_ENTRIES_MAX) and "group size")
        or (not (type(index) is int and 0 <= index < size) and "group index")
        or (not (type(body) is bytes and len(body) == (0 if op == DELETE else 32)) and "body hash")
        or (not (type(prev) is bytes and len(prev) == (0 if seq == 1 else 32)) and "previous hash")
        or (not (type(collection) is str and type(key) is str) and "collection or key")
    )
    if bad:
        raise ProtocolError(f"a header has a bad {bad}")
    try:
        _check_collection(collection)
        check_key(key)
    except InvalidError as fault:
        raise ProtocolError(f"a header: {fault.text}") from None
    parent = None if parent is None else _checked_version(parent)
    return Header(origin, seq, hlc, collection, key, op, parent, index, size, body, prev, seen, optional)


def _checked_version(parent: Any) -> Version:
    _need(type(parent) is list and len(parent) == 2, "parent")
    origin, seq = parent
    _need(is_origin(origin) and type(seq) is int and 1 <= seq <= COUNT_MAX, "parent")
    return Version(origin, seq)


def _checked_seen(seen: Any) -> tuple[Version, ...]:
    if seen is None:
        return ()
    _need(type(seen) is list and len(seen) <= NAMED_MAX, "list of versions seen")
    return tuple(_checked_version(one) for one in seen if one is not None)


def _checked_optional(optional: Any) -> tuple[tuple[int, Optional], ...]:
    if optional is None:
        return ()
    _need(type(optional) is list, "list of optional fields")
    before = 0
    for field in optional:
        _need(type(field) is list and len(field) == 2, "optional field")
        number, value = field
        _need(type(number) is int and before < number <= OPTIONAL_NUMBER_MAX, "number of an optional field")
        _need(type(value) in (int, str, bytes), "optional field")
        if number == EXPIRES:
            _need(type(value) is int and 0 < value <= MS_MAX, "moment of expiry")
        before = number
    _need(len(msgpack.packb(optional, buf_size=PACK_BYTES)) <= OPTIONAL_BYTES_MAX, "size of optional fields")
    return tuple((number, value) for number, value in optional)


@lru_cache(_NAMES_KEPT)
def _check_collection(name: str) -> None:
    check_collection(name, system=True)


def is_origin(value: Any) -> bool:
    """Whether a value is the name of a writer."""
    return type(value) is str and len(value) <= _ORIGIN_CHARS_MAX and _is_origin(value)


@lru_cache(_NAMES_KEPT)
def _is_origin(name: str) -> bool:
    return _ORIGIN.fullmatch(name) is not None


def _need(good: bool, field: str) -> None:
    if not good:
        raise ProtocolError(f"a header has a bad {field}")
