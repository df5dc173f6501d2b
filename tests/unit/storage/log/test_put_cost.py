"""The cost of one put by what does not depend on the machine: pages of the write-ahead log, calls, memory."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file.open import FILE
from entgldb.storage.store import Store
from tests.support.calls import calls_of

NOW = 1_790_000_000_000
PAGE_BYTES = 4096
FRAME_BYTES = PAGE_BYTES + 24
BODY = b'{"name":"name","n":1,"group":5,"text":"' + b"x" * 60 + b'"}'


def put(store: Store, number: int, key: int) -> None:
    with store.group(), store.savepoint():
        store.write(RequestId(b"c" * 16, number), [Write("c", f"k{key:06}", BODY)], NOW + number)


@pytest.mark.parametrize(("keys", "pages"), [(10_000, 6.5), (120, 5.0)], ids=["new keys", "old keys"])
def test_a_put_writes_few_pages(keys: int, pages: float, tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "n", NOW)) as store:
        for number in range(120):
            put(store, number, number)
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for number in range(120, 240):
            put(store, number, number * 7919 % keys)
        size = (tmp_path / f"{FILE}-wal").stat().st_size
        assert store.connection.execute("PRAGMA page_size").fetchone() == (PAGE_BYTES,)
    assert 2 < size / FRAME_BYTES / 120 < pages


def cost(store: Store, number: int) -> tuple[int, int]:
    """Calls of Python functions, and the most memory that was taken meanwhile."""
    calls = calls_of(lambda: put(store, number, number))
    tracemalloc.start()
    try:
        put(store, number + 1, number + 1)
        return calls, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_put_costs_the_same_however_many_origins_are_known() -> None:
    store = Store.memory("n", b"n" * 32, NOW)
    for number in range(20):
        put(store, number, number)
    few = cost(store, 100)
    with store.group():
        for number in range(4_000):
            store.state.known(store.connection, f"o{number}/" + "0" * 32)
    put(store, 200, 200)
    many = cost(store, 300)
    assert many[0] <= few[0] + 2
    # a copy of what is known of 4,000 origins would take hundreds of kilobytes
    assert many[1] < few[1] + 20_000
