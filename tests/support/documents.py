"""A reader of documents that a test names, with the indexes that it names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entgldb.messages.client import RequestId, Write
from entgldb.storage.documents.query import Documents
from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.building import build_step
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


@contextmanager
def reader_of(
    directory: Path, bodies: Mapping[str, Mapping[str, Any]], *indexes: tuple[str, str]
) -> Iterator[Documents]:
    """``bodies``: collection -> key -> document; ``indexes``: collection and path."""
    store = Store.open(directory, "lan-1", NOW)
    with store.group():
        writes = [
            Write(collection, key, json.dumps(body).encode())
            for collection, some in bodies.items()
            for key, body in some.items()
        ]
        store.write(RequestId(b"c" * 16, 1), writes, NOW)
        for collection, path in indexes:
            store.indexes.create(define(collection, (path,)))
    building = True
    while building:
        with store.group():
            building = store.indexes.tend()
    documents = Documents.open(directory)
    yield documents
    documents.close()
    store.close()


def make_index(connection: sqlite3.Connection, collection: str, *paths: str, **kind: Any) -> None:
    """Make an index and build it."""
    catalogue.create(connection, define(collection, paths, **kind))
    while build_step(connection):
        pass
