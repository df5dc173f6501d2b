"""Values as PostgreSQL's columns hold them, one by one and a column at a time, and as an answer has them.

A statement that waits for its turn gives its answer later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from struct import Struct
from typing import Any, Final, NamedTuple

from psycopg import pq
from psycopg.adapt import Dumper

from entgldb.storage.postgres.translate import Rows, Translated

_HEAD: Final = Struct("!iiIii")
"""Of an array: dimensions, whether there are nulls, the type of its elements, how many, the first index."""
_LENGTH: Final = Struct("!i")
_NUMBER: Final = Struct("!iq")
_NUMBER_BYTES: Final = 8
_NULL: Final = _LENGTH.pack(-1)
TYPES: Final = {"BIGINT": 20, "TEXT": 25, "BYTEA": 17}
"""Name -> number of a type, as PostgreSQL has always had it."""


class Cursor:
    """The answer to one statement; its rows are all here."""

    def __init__(
        self,
        rows: Iterable[tuple[Any, ...]] = (),
        rowcount: int = -1,
        settle: Callable[[], object] | None = None,
    ) -> None:
        """``settle`` has a statement that waits carried out."""
        self._rows = iter(rows)
        self._settle = settle
        self._told: tuple[int, int | None] = rowcount, None

    @property
    def rowcount(self) -> int:
        return self._answer()[0]

    @property
    def lastrowid(self) -> int | None:
        return self._answer()[1]

    def tell(self, rowcount: int, lastrowid: int | None) -> None:
        """The statement was carried out."""
        self._settle, self._told = None, (rowcount, lastrowid)

    def _answer(self) -> tuple[int, int | None]:
        if self._settle is not None:
            self._settle()
        return self._told

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def close(self) -> None:
        self._rows = iter(())


class Waiting(NamedTuple):
    """A statement that changes rows and was not sent yet."""

    sql: str
    given: Sequence[Any]
    numbers: bool = False
    counts: bool = True
    """Whether its rows have still to be counted."""
    cursor: Cursor | None = None


class Array(bytes):
    """An array in PostgreSQL's binary format (``array_send``): its statement says of which type it is."""

    @classmethod
    def of(cls, kind: str, column: Sequence[Any]) -> Array:
        """All values of a column of the type ``BIGINT``, ``TEXT`` or ``BYTEA``, a truth as 0 or 1."""
        parts, nulls = _PARTS[kind](column), None in column
        return cls(_HEAD.pack(1, nulls, TYPES[kind], len(column), 1) + b"".join(parts))


class ArrayDumper(Dumper):
    """Gives an ``Array`` as it is."""

    format = pq.Format.BINARY

    def dump(self, obj: Array) -> Array:
        return obj


def _numbers(column: Sequence[Any]) -> Iterable[bytes]:
    if None in column:
        return [_NULL if one is None else _NUMBER.pack(_NUMBER_BYTES, one) for one in column]
    return map(_NUMBER.pack, repeat(_NUMBER_BYTES), column)


def _texts(column: Sequence[Any]) -> Iterable[bytes]:
    return _blobs([None if one is None else one.encode() for one in column])


def _blobs(column: Sequence[Any]) -> Iterable[bytes]:
    if None in column:
        return [_NULL if one is None else _LENGTH.pack(len(one)) + one for one in column]
    return chain.from_iterable(zip(map(_LENGTH.pack, map(len, column)), column, strict=True))


_PARTS: Final[dict[str, Callable[[Sequence[Any]], Iterable[bytes]]]] = {
    "BIGINT": _numbers,
    "TEXT": _texts,
    "BYTEA": _blobs,
}


def stored(value: Any) -> Any:
    """A value as a column of text holds it: bytes, and text with NUL, as hexadecimal digits."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, str) and ("\x00" in value or value.startswith("\\")):
        return "\\t" + value.encode().hex()
    return value


def stored_as_bytes(value: Any) -> Any:
    """A value as a column of bytes holds it: ``read`` tells it from a text that was copied there."""
    return f"\\x{value.hex()}".encode() if isinstance(value, bytes) and value.startswith(b"\\") else value


def read(value: Any) -> Any:
    """The value that ``stored`` or ``stored_as_bytes`` had got."""
    if isinstance(value, bytes):
        return bytes.fromhex(value[2:].decode()) if value.startswith(b"\\") else value
    if isinstance(value, str) and value.startswith("\\"):
        found = bytes.fromhex(value[2:])
        return found if value[1] == "x" else found.decode()
    return value


def given_to(known: Translated, parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
    """The parameters in order, those that go into text as text can be."""
    if known.names is not None:
        assert isinstance(parameters, Mapping)
        return [parameters[name] for name in known.names]
    assert isinstance(parameters, Sequence)
    if not known.texts and not known.blobs:
        return parameters
    given = list(parameters)
    for place in known.texts:
        given[place] = stored(given[place])
    for place in known.blobs:
        given[place] = stored_as_bytes(given[place])
    return given


def arrays_of(known: Translated, how: Rows, rows: Sequence[Sequence[Any]]) -> list[Array]:
    """A column of parameters each, of many rows that one statement writes."""
    arrays = []
    for place, kind in how.columns:
        column = [row[place] for row in rows]
        if place in known.texts:
            column = [*map(stored, column)]
        elif place in known.blobs:
            column = [*map(stored_as_bytes, column)]
        arrays.append(Array.of(kind, column))
    return arrays


def as_stored(row: tuple[Any, ...], known: Translated) -> tuple[Any, ...]:
    """A row of the result as SQLite would give it."""
    made = list(row)
    for place in known.marked:
        made[place] = read(made[place])
    for place in known.as_bytes:
        value = read(made[place])
        made[place] = value.encode() if isinstance(value, str) else value
    return tuple(made)
