"""The two sides of W1, W6 and W8, timed by the same code: ours by the public API, and the floor."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from entgldb.client.aio import database as aio
from entgldb.client.database import Database
from entgldb.launch.embedded import opening
from entgldb.launch.playground.cluster import Playground

COLLECTION: Final = "bench"
INDEXED: Final = "group"
QUERY_ROWS: Final = 100
IN_FLIGHT: Final = 64
FILL_DOCUMENTS: Final = 50_000
"""So many are in memory at a time."""
STRIDE: Final = 7_919
"""A prime: reads visit the documents in an order that has nothing to do with that of their writing."""


def document(number: int, groups: int = 1_000) -> dict[str, Any]:
    """About 200 bytes of JSON; the field ``group`` has ``groups`` different values."""
    text = "the quick brown fox jumps over the lazy dog, " * 3
    return {"number": number, INDEXED: number % groups, "name": f"document {number}", "text": text}


def key(number: int) -> str:
    """Keys come in no order, as those that people and programs choose: Knuth's multiplicative hash."""
    return f"{number * 2654435761 % 2**32:08x}"


class Side(ABC):
    """The work that either side can do, and the measuring of its speed."""

    def __init__(self) -> None:
        self._written = 0
        self._filled = 0
        self._groups = 1_000

    @abstractmethod
    def put(self, name: str, fields: dict[str, Any]) -> object:
        """Store one document durably."""

    @abstractmethod
    def put_many(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> object:
        """Store documents durably, PART_DOCUMENTS in a transaction."""

    @abstractmethod
    def put_in_flight(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> object:
        """Store documents durably, each asked for by itself, IN_FLIGHT of them at any time."""

    @abstractmethod
    def index(self) -> None:
        """Index the field ``group``."""

    @abstractmethod
    def get(self, name: str) -> object:
        """One document."""

    @abstractmethod
    def query(self, group: int) -> Sequence[object]:
        """The documents of one group, by key."""

    def fill(self, documents: int) -> None:
        """Before the clock runs: so many documents, indexed."""
        self.write(documents)
        self.index()

    def write(self, documents: int) -> None:
        """So many documents, each QUERY_ROWS of one group."""
        self._filled, self._groups = documents, max(1, documents // QUERY_ROWS)
        for first in range(0, documents, FILL_DOCUMENTS):
            self.bulk(min(FILL_DOCUMENTS, documents - first))

    def single(self, amount: int) -> float:
        """Documents a second, a commit for each."""
        fresh = self._fresh(amount)
        return _rate(amount, lambda: [self.put(name, fields) for name, fields in fresh])

    def bulk(self, amount: int) -> float:
        """Documents a second, a commit for every 500."""
        fresh = self._fresh(amount)
        return _rate(amount, lambda: self.put_many(fresh))

    def in_flight(self, amount: int) -> float:
        """Documents a second, each a request of its own, IN_FLIGHT of them unanswered."""
        fresh = self._fresh(amount)
        return _rate(amount, lambda: self.put_in_flight(fresh))

    def gets(self, amount: int) -> float:
        """Documents a second, one by one."""
        names = [key(number * STRIDE % self._filled) for number in range(amount)]
        return _rate(amount, lambda: _all_found(self.get(name) for name in names))

    def queries(self, amount: int) -> float:
        """Queries a second, each by an index, each with QUERY_ROWS documents where ``fill`` had enough."""
        groups = [number * STRIDE % self._groups for number in range(amount)]
        return _rate(amount, lambda: _all_found(self.query(group) for group in groups))

    def _fresh(self, amount: int) -> list[tuple[str, dict[str, Any]]]:
        first, self._written = self._written, self._written + amount
        return [(key(number), document(number, self._groups)) for number in range(first, self._written)]


class NodeSide(Side):
    """A running node, or an open directory, through the client API."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.directory: Final = database.directory
        self._collection = database[COLLECTION]

    def put(self, name: str, fields: dict[str, Any]) -> object:
        return self._collection.put(name, fields)

    def put_many(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> object:
        return self._collection.put_many(documents)

    def put_in_flight(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> object:
        return asyncio.run(self._put_in_flight(documents))

    async def _put_in_flight(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> None:
        waiting = iter(documents)
        async with aio.connect(self.directory) as database, asyncio.TaskGroup() as group:

            async def put_next() -> None:
                for name, fields in waiting:
                    await database[COLLECTION].put(name, fields)

            for _ in range(IN_FLIGHT):
                group.create_task(put_next())

    def index(self) -> None:
        self._collection.create_index(INDEXED)
        while not all(index.ready for index in self._collection.indexes()):
            time.sleep(0.05)

    def get(self, name: str) -> object:
        return self._collection.get(name)

    def query(self, group: int) -> Sequence[object]:
        return list(self._collection.find({INDEXED: group}, limit=QUERY_ROWS))


@contextmanager
def lone_node(root: Path, documents: int = 0) -> Iterator[NodeSide]:
    """A node without peers that holds so many documents."""
    with Playground(root) as playground:
        playground.make_lan(1)
        playground.start()
        side = NodeSide(playground.lan[0].db)
        if documents:
            side.fill(documents)
        yield side


@contextmanager
def opened(directory: Path, documents: int) -> Iterator[NodeSide]:
    """No node: a directory that is open in this process and holds so many documents."""
    with opening.open(directory) as database:
        side = NodeSide(database)
        side.fill(documents)
        yield side


def _rate(amount: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return amount / (time.perf_counter() - begun)


def _all_found(answers: Iterable[object]) -> None:
    for answer in answers:
        assert answer, "a document that was written is not found"
