"""Change feeds miss nothing: a document that becomes visible is told after every token given before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, TokenExpired
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.local.members import Prune
from entgldb.messages.model import REMOTE_PEERS, Entry, Version
from entgldb.messages.wire import Copy
from entgldb.storage.documents import feed
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.open import FILE
from entgldb.storage.log import apply
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.unit.storage.repair.test_healing import entries, forked, heal, put, take

NOW = 1_790_000_000_000


class Consumer:
    """Somebody who keeps a copy by the change feed alone."""

    def __init__(self, store: Store, collection: str | None = None) -> None:
        self._store, self._collection = store, collection
        self.token: str | None = None
        self.has: dict[str, object] = {}

    def read(self) -> list[str]:
        """The keys that the feed tells; the copy then holds the documents that the store shows."""
        found = Documents(self._store.connection).changes(self.token, collection=self._collection)
        keys = []
        for change in found:
            keys.append(change.key)
            self.has[change.key] = change.document
        self.token = found.token
        shown = {key: json.loads(body) for key, body in self._store.documents(self._collection or "users")}
        assert {key: document for key, document in self.has.items() if document is not None} == shown
        return keys


def made(name: str) -> Store:
    return Store.memory(name, name.encode() * 32, NOW)


def test_a_row_that_verification_has_mended_is_told() -> None:
    store = made("a")
    put(store, 1, "k1")
    put(store, 2, "k2")
    consumer = Consumer(store)
    consumer.read()
    (hlc,) = store.connection.execute("SELECT hlc FROM _entgldb_documents WHERE key = 'k1'").fetchone()
    store.connection.execute("UPDATE _entgldb_documents SET body = '{}' WHERE key = 'k1'")
    store.connection.execute("DELETE FROM _entgldb_oplog")
    body = b'{"by": "k1"}'
    with store.group():
        copy = Copy("users", "k1", store.origin, 1, hlc, body, digest(body))
        assert store.repair([copy], [], store.vector(), write=True) == ["take"]
    assert consumer.read() == ["k1"]


def test_an_entry_that_can_be_applied_at_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise EntglError("an older release cannot read it")

    store, other = made("a"), made("o")
    put(other, 1, "unfit")
    with monkeypatch.context() as once:
        once.setattr(apply, "body_text", fails)
        take(store, entries(other))
    put(store, 1, "k1")
    consumer = Consumer(store)
    consumer.read()
    with store.group():
        store.applying.retry(Version(other.origin, 1), NOW)
    assert consumer.read() == ["unfit"]


@pytest.mark.parametrize("before", [False, True])
def test_what_the_healing_of_a_fork_changes_is_told(*, before: bool) -> None:
    store = made("a")
    if before:
        put(store, 9, "k", NOW - 5_000, by="what shows again")
    fork = forked(store)
    put(store, 1, "k1")
    consumer = Consumer(store)
    consumer.read()
    assert heal(store, *fork) == 2
    assert sorted(set(consumer.read())) == ["k", "only-there"]
    assert consumer.read() == []


def test_what_was_only_recorded_is_told_when_it_is_supplied() -> None:
    store, other = made("a"), made("o")
    with other.group():
        write = Write(REMOTE_PEERS, "p", b'{"NodeId":"p"}')
        other.write(RequestId(b"c" * 16, 1), [write], NOW, system=True)
    with store.group():
        store.apply([Entry(entry.header, None) for entry in entries(other)], NOW, cloud=True)
    put(store, 1, "k1")
    consumer = Consumer(store, REMOTE_PEERS)
    consumer.read()
    with store.group():
        assert store.applying.supply(entries(other), NOW) == 1
    assert consumer.read() == ["p"]


@pytest.mark.parametrize("how", ["put back", "copied"])
def test_a_file_that_is_not_what_it_was_refuses_the_tokens_of_before(tmp_path: Path, how: str) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    store = Store.open(home, "a", NOW)
    put(store, 1, "k1")
    store.close()
    shutil.copytree(home, kept)
    store = Store.open(home, "a", NOW)
    put(store, 2, "k2")
    token = Documents(store.connection).token()
    store.close()
    if how == "put back":
        (home / FILE).write_bytes((kept / FILE).read_bytes())
    store = Store.open(home if how == "put back" else kept, "a", NOW)
    assert store.reborn is (Why.ROLLED_BACK if how == "put back" else Why.CLONED)
    for number in range(3, 9):
        put(store, number, f"k{number}")
    with pytest.raises(TokenExpired, match="another database file"):
        Documents(store.connection).changes(token)
    store.close()


def test_the_token_goes_with_the_node_where_nothing_matches() -> None:
    store = made("a")
    put(store, 1, "mine")
    quiet = Consumer(store, "quiet")
    assert quiet.read() == []
    assert quiet.token == Documents(store.connection).token()
    for number in range(50):
        put(store, 2 + number, f"k{number}")
    with store.group():
        store.write(RequestId(b"d" * 16, 1), [Write("users", f"k{n}", None) for n in range(50)], NOW)
    assert quiet.read() == []
    with store.group():
        store.prune(Prune({store.origin: 101}, {}, 2**40, 1, 0))
    with store.group():
        assert store.collect({store.origin: 101}, 0).rows == 50
    assert quiet.read() == []


def test_a_page_is_bounded_by_what_its_documents_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_PAGE_BYTES", 2_500)
    store = made("a")
    for number in range(7):
        put(store, number, f"k{number}", fill="x" * 1_000)
    consumer = Consumer(store)
    assert consumer.read() == [f"k{number}" for number in range(7)]
    assert [len(rows) for rows in pages(Documents(store.connection))] == [3, 3, 1]


def pages(reader: Documents) -> Iterator[list[tuple[object, ...]]]:
    lsn, more = 0, True
    while more:
        rows, more = reader.feed.changed(lsn)
        lsn = rows[-1][0]
        yield rows


def test_a_feed_from_the_beginning_notices_deletes_that_are_forgotten_meanwhile() -> None:
    store = made("a")
    count = PAGE_ROWS_MAX + 10
    with store.group():
        writes = [Write("users", f"k{number}", b"{}") for number in range(count)]
        store.write(RequestId(b"c" * 16, 1), writes, NOW)
    found = Documents(store.connection).changes()
    assert next(found).key == "k0"
    with store.group():
        store.write(RequestId(b"c" * 16, 2), [Write("users", "k0", None)], NOW)
    with store.group():
        store.prune(Prune({store.origin: count + 1}, {}, 2**40, 1, 0))
    with store.group():
        assert store.collect({store.origin: count + 1}, 0).rows == 1
    with pytest.raises(TokenExpired, match="forgotten"):
        list(found)


def test_a_delete_that_is_forgotten_while_a_feed_begins_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = made("a")
    put(store, 1, "k1")
    reader = Documents(store.connection)
    token, checked = reader.token(), feed.Feed._lsn
    with store.group():
        store.write(RequestId(b"d" * 16, 1), [Write("users", "k1", None)], NOW)

    def collected_behind(self: feed.Feed, since: str | None) -> int:
        lsn = checked(self, since)
        with store.group():
            store.prune(Prune({store.origin: 2}, {}, 2**40, 1, 0))
        with store.group():
            assert store.collect({store.origin: 2}, 0).rows == 1
        return lsn

    monkeypatch.setattr(feed.Feed, "_lsn", collected_behind)
    with pytest.raises(TokenExpired, match="forgotten"):
        list(reader.changes(token))
