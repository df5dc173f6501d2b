"""Requests of one group whose rows are written together: few statements, and each undone alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.limits import SIGNED_BYTES_MAX
from entgldb.messages.model import Entry
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.rules.authorship import head_statement
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store

NOW = 1_800_000_000_000
LEAP_MS = 3_600_000


@pytest.fixture(name="store")
def _store() -> Store:
    """With one document, in the collection ``c``."""
    store = Store.memory("a", b"a", NOW)
    with store.group():
        put(store, 0)
    return store


def put(
    store: Store, number: int, *, key: str = "", collection: str = "c", now_ms: int = NOW, size: int = 1
) -> None:
    body = b'{"v":"%s"}' % (b"x" * size)
    store.write(RequestId(b"c" * 16, number), [Write(collection, key or f"k{number}", body)], now_ms)


def fail(store: Store, number: int, *, key: str = "", collection: str = "c") -> None:
    with suppress(RuntimeError), store.savepoint(lazily=True):
        put(store, number, key=key, collection=collection)
        raise RuntimeError


@contextmanager
def told(store: Store) -> Iterator[list[str]]:
    """The beginnings of the statements that SQLite is given meanwhile; one with many rows counts for each."""
    found: list[str] = []
    store.connection.set_trace_callback(lambda sql: found.append(" ".join(sql.split()[:3])))
    yield found
    store.connection.set_trace_callback(None)


def keys(store: Store) -> list[str]:
    return [decode(row.header).key for row in store.rows(1, 500)]


def signed(store: Store) -> list[int]:
    found = []
    for row in store.rows(1, 500):
        if row.signature is not None:
            assert is_signed(store.public_key(), head_statement(row.hash), row.signature)
            found.append(row.lsn)
    return found


def test_many_requests_of_a_group_are_few_statements(store: Store) -> None:
    numbers = range(1, 65)
    with told(store) as statements, store.group():
        store.look_up([("c", f"k{number}") for number in numbers])
        for number in numbers:
            with store.savepoint(lazily=True):
                put(store, number)
    assert statements[0] == "BEGIN IMMEDIATE"
    assert [one.split()[0] for one in statements[1:]] == ["SELECT", *["INSERT"] * 128, "COMMIT"]
    assert signed(store) == [1, 65]


def test_a_lone_request_has_its_signature_in_its_row(store: Store) -> None:
    with told(store) as statements, store.group(), store.savepoint(lazily=True):
        put(store, 1)
    assert [one.split()[0] for one in statements] == ["BEGIN", "SELECT", "INSERT", "INSERT", "COMMIT"]
    assert signed(store) == [1, 2]


def test_the_versions_that_entries_meet_are_looked_up_together(store: Store) -> None:
    with store.group():
        for number in range(1, 64):
            put(store, number)
    entries = [Entry(row.header, row.body, row.signature) for row in store.rows(1, 500)]
    taker = Store.memory("b", b"b", NOW)
    with told(taker) as statements, taker.group(), taker.savepoint():
        assert taker.apply(entries, NOW).refused == ""
    assert len(entries) == 64
    assert len([one for one in statements if one.startswith("SELECT d.key")]) == 1
    assert len([one for one in statements if one.startswith("SELECT o.name")]) == 0
    assert keys(taker) == keys(store)


def test_a_request_that_is_undone_harms_no_neighbour(store: Store) -> None:
    with store.group():
        for number, key in enumerate(("kept", "k0", "undone", "k0", "last"), 1):
            if key == "undone":
                fail(store, number, key="k0")
            else:
                with store.savepoint(lazily=True):
                    put(store, number, key=key)
    headers = [decode(row.header) for row in store.rows(1, 500)]
    assert keys(store) == ["k0", "kept", "k0", "k0", "last"]
    assert [header.seq for header in headers] == [1, 2, 3, 4, 5]
    assert [header.parent and header.parent.seq for header in headers] == [None, None, 1, 3, None]
    assert [len(header.prev_hash) for header in headers] == [0, 32, 32, 32, 32]
    assert store.status()["documents"] == 3
    assert signed(store) == [1, 5]
    again = Store.reopen(store, NOW)
    assert (again.vector(), again.status()["documents"]) == (store.vector(), 3)
    assert again.answered(RequestId(b"c" * 16, 3)) is None


def test_updates_meet_what_waits_to_be_written_and_are_undone_alone(store: Store) -> None:
    counter = [0]

    def write(*writes: Write) -> None:
        counter[0] += 1
        with store.savepoint(lazily=True):
            store.write(RequestId(b"u" * 16, counter[0]), writes, NOW)

    inc = Write("c", "n", None, update=b'{"$inc":{"n":1}}', upsert=True)
    with told(store) as statements, store.group():
        for number in range(1, 4):
            put(store, number)
        write(inc)
        write(inc, inc)
        with pytest.raises(EntglError, match="not an array"):
            write(inc, Write("c", "n", None, update=b'{"$push":{"n":1}}'))
        write(inc)
        write(Write("c", "n", b'{"n":10}'), inc)
    assert [one for one in statements if one.startswith("SAVEPOINT")] == []
    assert store.get("c", "n") == b'{"n":11}'
    assert keys(store) == ["k0", "k1", "k2", "k3", *["n"] * 6]
    assert [decode(row.header).seq for row in store.rows(1, 500)] == list(range(1, 11))


def test_a_request_that_is_undone_first_or_last_leaves_the_others(store: Store) -> None:
    with store.group():
        fail(store, 1)
        with store.savepoint(lazily=True):
            put(store, 2)
        fail(store, 3)
    assert keys(store) == ["k0", "k2"]
    assert signed(store) == [1, 2]


def test_a_request_that_makes_a_collection_is_undone_alone(store: Store) -> None:
    with told(store) as statements, store.group():
        with store.savepoint(lazily=True):
            put(store, 1)
        fail(store, 2, collection="made")
        with store.savepoint(lazily=True):
            put(store, 3)
    assert [one for one in statements if "request" in one] == [
        "SAVEPOINT request",
        "ROLLBACK TO request",
        "RELEASE request",
    ]
    assert keys(store) == ["k0", "k1", "k3"]
    assert "made" not in store.state.collections
    names = store.connection.execute("SELECT name FROM _entgldb_collections").fetchall()
    assert names == [("c",)]


def test_other_requests_meet_what_has_been_gathered(store: Store) -> None:
    with store.group():
        with store.savepoint(lazily=True):
            put(store, 1)
        with store.savepoint():
            assert store.get("c", "k1") is not None
            put(store, 2, key="k1")
        with store.savepoint(lazily=True):
            put(store, 3, key="k1")
    headers = [decode(row.header) for row in store.rows(2, 500)]
    assert [header.parent and header.parent.seq for header in headers] == [None, 2, 3]


def test_much_is_signed_and_written_in_between(store: Store) -> None:
    with store.group():
        with store.savepoint(lazily=True):
            put(store, 1, size=SIGNED_BYTES_MAX)
        assert store.get("c", "k1") is not None
        with store.savepoint(lazily=True):
            put(store, 2)
        assert store.get("c", "k2") is None
    assert signed(store) == [1, 2, 3]


def test_what_comes_before_a_leap_of_the_clock_is_signed_within_a_group(store: Store) -> None:
    with store.group():
        with store.savepoint(lazily=True):
            put(store, 1)
        with store.savepoint(lazily=True):
            put(store, 2, now_ms=NOW + LEAP_MS)
        with suppress(RuntimeError), store.savepoint(lazily=True):
            put(store, 3, now_ms=NOW + 2 * LEAP_MS)
            raise RuntimeError
        with store.savepoint(lazily=True):
            put(store, 4, now_ms=NOW + 3 * LEAP_MS)
    assert keys(store) == ["k0", "k1", "k2", "k4"]
    assert signed(store) == [1, 2, 3, 4]


@pytest.mark.parametrize("sql", ["ROLLBACK", "DELETE FROM _entgldb_documents"])
def test_a_request_that_cannot_be_undone_alone_takes_the_group_with_it(store: Store, sql: str) -> None:
    """The disk may end a transaction at any statement: nothing must be written outside of one."""

    def work() -> None:
        with store.savepoint(lazily=True):
            put(store, 1)
        with store.savepoint(lazily=True):
            put(store, 2)
            store.connection.execute(sql)
            raise RuntimeError

    with pytest.raises(EntglError) as failed, store.group():
        work()
    assert failed.value.code is ErrorCode.DISK_ERROR
    assert keys(store) == ["k0"]
    assert store.get("c", "k0") is not None
    with store.group(), store.savepoint(lazily=True):
        put(store, 3)
    assert keys(store) == ["k0", "k3"]


def test_a_concurrent_entry_has_its_row_read_and_nothing_else_while_log_rows_gather(store: Store) -> None:
    other, numbers = Store.memory("b", b"b", NOW), range(1, 33)
    for writer in (store, other):
        with writer.group():
            for number in numbers:
                put(writer, number)
    entries = [Entry(row.header, row.body, row.signature) for row in other.rows(1, 500)]
    with told(store) as statements, store.group():
        store.apply(entries, NOW)
    assert store.status()["conflicts"] == len(numbers)
    verbs = [one.split()[0] for one in statements]
    # beside the rows: the versions of all keys together, notes about successors once, and a new writer twice
    assert verbs.count("SELECT") == len(numbers) + 4
    logged = [at for at, one in enumerate(statements) if "_entgldb_oplog" in one]
    assert logged == list(range(logged[0], logged[0] + len(numbers)))


def test_a_conflict_within_a_batch_loses_nothing_that_was_looked_up_for_the_rest() -> None:
    givers = [Store.memory(name, name.encode(), NOW) for name in ("a", "b")]
    for giver in givers:
        with giver.group():
            put(giver, 0, key="k")
    with givers[1].group():
        for number in range(1, 20):
            put(givers[1], number)
    taker = Store.memory("t", b"t", NOW)
    entries = [Entry(row.header, row.body) for giver in givers for row in giver.rows(1, 500)]
    with told(taker) as found, taker.group():
        assert taker.apply(entries, NOW).refused == ""
    assert taker.status()["conflicts"] == 1
    assert taker.status()["documents"] == 20
    # the row of the one key that was written twice, and of no other
    assert len([one for one in found if one.startswith("SELECT o.name,")]) == 1
    assert len([one for one in found if one.startswith("SELECT d.key,")]) == 1
