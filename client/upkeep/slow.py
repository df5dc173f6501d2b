"""Queries that took long, noted beside the log of the node: their form and their plan, never a value.

A query is answered in the process that asks, from the file; so each such process adds its lines here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.storage.documents.query import Documents

FILE: Final = "slow-queries.log"
FILE_BYTES_MAX: Final = 256 * 1024
"""A file that has more becomes the old one, in place of the one before."""
LINE_BYTES_MAX: Final = 4096
PARTS_MAX: Final = 16
"""Elements of an array whose form is told."""


def note(
    directory: Path,
    documents: Documents,
    verb: str,
    collection: str,
    filter: Mapping[str, Any] | None,
    sort: str | Sequence[str] | None,
    collation: str | None,
    seconds: float,
) -> None:
    """Add a line, where a node has its log. It is no fault of the query where that cannot be written."""
    log = directory / "log"
    row = {
        "at": time.strftime("%FT%TZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "verb": verb,
        "collection": collection,
        "filter": form(filter),
        "sort": sort if sort is None or isinstance(sort, str) else list(sort),
    }
    with suppress(OSError, EntglError, sqlite3.Error):
        if log.is_dir():
            from entgldb.storage.documents.explaining import outline

            plan = outline(documents.finder, collection, filter, sort, collation)
            _add(log / FILE, _line({**row, **plan}))


def form(value: Any) -> Any:
    """A filter with the kind of each value in its place.

    >>> form({"age": {"$gte": 30}, "name": "Ada"})
    {'age': {'$gte': 'number'}, 'name': 'text'}
    """
    if isinstance(value, Mapping):
        return {str(key): form(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        told = [form(one) for one in value[:PARTS_MAX]]
        return [*told, f"and {len(value) - PARTS_MAX} more"] if len(value) > PARTS_MAX else told
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "number" if isinstance(value, int | float) else "text"


def _line(row: dict[str, Any]) -> bytes:
    line = json.dumps(row).encode()
    if len(line) > LINE_BYTES_MAX:
        line = json.dumps({**row, "filter": "too long to be told", "sort": None, "missing": []}).encode()
    return line + b"\n"


def _add(file: Path, line: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, line)
        if os.fstat(handle).st_size > FILE_BYTES_MAX:
            file.replace(file.with_name(f"{FILE}.1"))
    finally:
        os.close(handle)
