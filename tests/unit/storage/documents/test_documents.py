"""Documents as clients read them, from their own connection."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError, NotFoundError, TokenExpired
from entgldb.messages.limits import CONFLICTS_KEPT_MS_MAX
from entgldb.messages.model import REMOTE_PEERS, Entry
from entgldb.storage.documents.feed import Change
from entgldb.storage.documents.query import Documents
from entgldb.storage.file.collections import VIEWS_MAX, view_names
from entgldb.storage.file.open import FILE
from entgldb.storage.store import Store
from tests.support.compacting import compacted

NOW = 1_790_000_000_000


class Node:
    """A store and a client of its file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store.open(directory, "lan-1", NOW)
        self.documents = Documents.open(directory)
        self.counter = 0

    def put(self, collection: str, **documents: object) -> None:
        self.counter += 1
        writes = [
            Write(collection, key, None if body is None else json.dumps(body).encode())
            for key, body in documents.items()
        ]
        with self.store.group():
            self.store.write(RequestId(b"c" * 16, self.counter), writes, NOW, system=True)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.documents.close()
    made.store.close()


def brief(changes: Iterator[Change]) -> list[tuple[str, str, object]]:
    return [(change.collection, change.key, change.document) for change in changes]


def test_a_document_is_read_while_another_thread_searches(node: Node) -> None:
    node.put("users", ada={"age": 36}, alan={"age": 41})
    documents, searches, may_go_on = node.documents, threading.Event(), threading.Event()

    def held_up() -> int:
        searches.set()
        return 0 if may_go_on.wait(60) else 1

    documents.finder._put_to(lambda connection: connection.set_progress_handler(held_up, 1))
    with ThreadPoolExecutor(2) as pool:
        found = pool.submit(documents.count, "users", {"age": {"$gt": 40}})
        try:
            assert searches.wait(60)
            assert pool.submit(documents.get, "users", "ada").result(30) == {"age": 36}
            assert not found.done()
        finally:
            may_go_on.set()
        assert found.result(60) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=FILE):
        Documents.open(tmp_path)


def test_reading(node: Node) -> None:
    node.put("users", ada={"age": 36}, alan={"age": 41}, gone={})
    node.put("users", gone=None)
    documents = node.documents
    assert documents.get("users", "ada") == {"age": 36}
    assert documents.get("users", "gone") is None
    assert documents.get("users", "never") is None
    assert documents.count("users") == 2
    assert documents.count("others") == 0
    assert list(documents.find("others")) == []
    with pytest.raises(InvalidError, match="Unicode"):
        documents.get("users", "\ud800")
    with pytest.raises(InvalidError, match="not a collection name"):
        documents.count("x' OR 1 --")


def test_a_reader_that_has_the_file_mapped_reads_on_when_it_shrinks(node: Node) -> None:
    (mapped,) = node.documents._connection.execute("PRAGMA mmap_size").fetchone()
    assert mapped > 2**20
    large = {f"k{number}": {"v": "x" * 100_000} for number in range(60)}
    node.put("c", **large)
    node.store.checkpoint()
    assert len(list(node.documents.find("c"))) == 60
    node.put("c", **dict.fromkeys(large))
    node.store.connection.execute("DELETE FROM _entgldb_oplog")
    before, after = compacted(node.store)
    assert after < before // 4
    assert list(node.documents.find("c")) == []
    node.put("c", **large)
    node.store.checkpoint()
    assert node.documents.get("c", "k59") == large["k59"]
    compacted(node.store)
    assert len(list(node.documents.find("c"))) == 60


def test_documents_of_many_writers_have_their_versions(node: Node) -> None:
    node.put("c", mine={"n": 0})
    for other in ("b", "c"):
        far = Store.memory(other, other.encode(), NOW)
        with far.group():
            far.write(RequestId(b"f" * 16, 1), [Write("c", other, b' {"n":1}\n')], NOW)
        with node.store.group():
            node.store.apply([Entry(row.header, row.body, row.signature) for row in far.rows(1, 9)], NOW)
    read = dict(node.documents.read_all("c", limit=9))
    assert [read[key].version.origin.partition("/")[0] for key in ("mine", "b", "c")] == ["lan-1", "b", "c"]
    assert read == dict(node.documents.read_all("c"))
    assert read["b"] == node.documents.read("c", "b")
    assert node.documents.get("c", "b") == {"n": 1}
    assert dict(node.documents.find("c")) == {"mine": {"n": 0}, "b": {"n": 1}, "c": {"n": 1}}


def test_a_client_cannot_write(node: Node) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        node.documents._connection.execute("DELETE FROM _entgldb_documents")


def test_long_results_come_page_by_page_without_an_open_transaction(node: Node) -> None:
    node.put("many", **{f"k{i:04}": {"n": i} for i in range(1200)})
    found = node.documents.find("many", {"n": {"$gte": 10}}, sort="-n")
    assert next(found) == ("k1199", {"n": 1199})
    assert not node.documents._connection.in_transaction
    node.put("many", k0100={"n": 1}, k0200=None, k0300={"n": 300, "new": True})
    rest = dict(found)
    assert len(rest) == 1200 - 10 - 1 - 2
    assert "k0100" not in rest
    assert "k0200" not in rest
    assert rest["k0300"] == {"n": 300, "new": True}
    assert node.documents.count("many") == 1199
    assert [k for k, _ in node.documents.find("many", limit=600, skip=598)][:2] == ["k0599", "k0600"]


def test_changes_give_each_key_once_and_go_on_from_a_token(node: Node) -> None:
    node.put("users", ada={"v": 1}, alan={"v": 1})
    node.put("users", ada={"v": 2})
    node.put(REMOTE_PEERS, p={"v": 3})
    documents = node.documents
    assert brief(documents.changes()) == [("users", "alan", {"v": 1}), ("users", "ada", {"v": 2})]
    assert brief(documents.changes(collection=REMOTE_PEERS)) == [(REMOTE_PEERS, "p", {"v": 3})]
    first = next(documents.changes())
    assert first.version == (node.store.origin, 2)
    assert first.at_ms == NOW
    assert brief(documents.changes(first.token)) == [("users", "ada", {"v": 2})]
    now = documents.token()
    assert brief(documents.changes(now)) == []
    node.put("users", alan=None)
    node.put("things", t={"v": 4})
    assert brief(documents.changes(now)) == [("users", "alan", None), ("things", "t", {"v": 4})]
    assert brief(documents.changes(now, collection="things")) == [("things", "t", {"v": 4})]


def test_changes_span_pages(node: Node) -> None:
    for start in range(0, 1300, 650):
        node.put("many", **{f"k{i}": {"n": i} for i in range(start, start + 650)})
    assert [c.key for c in node.documents.changes()] == [f"k{i}" for i in range(1300)]


@pytest.mark.parametrize("token", ["", "x", "x.", "x.-1", "x.1e3", "x." + "9" * 30])
def test_a_malformed_token_is_refused_at_the_call(node: Node, token: str) -> None:
    with pytest.raises(InvalidError, match="not a change token"):
        node.documents.changes(token)


def test_a_token_of_another_file_says_how_to_start_over(node: Node) -> None:
    for token in ("0" * 32 + ".1", f"{node.documents.feed.file_id}.1"):
        with pytest.raises(TokenExpired, match="another database file") as caught:
            node.documents.changes(token)
        assert "since=None" in caught.value.hint


def test_somebody_committed(node: Node) -> None:
    before = node.documents.data_version()
    assert node.documents.data_version() == before
    node.put("users", ada={})
    assert node.documents.data_version() != before


def test_conflicts_are_listed(node: Node) -> None:
    node.put("users", ada={"by": "lan-1"})
    other = Store.memory("lan-2", b"2", NOW)
    with other.group():
        other.write(RequestId(b"o" * 16, 1), [Write("users", "ada", b'{"by":"lan-2"}')], NOW + 9)
    with node.store.group():
        node.store.apply([Entry(row.header, row.body) for row in other.rows(1, 9)], NOW)
    (conflict,) = node.documents.conflicts()
    assert conflict[:4] == ("users", "ada", (node.store.origin, 1), {"by": "lan-1"})
    assert conflict.at_ms == NOW
    assert node.documents.conflicts("users") == [conflict]
    assert node.documents.conflicts("others") == []
    assert node.documents.get("users", "ada") == {"by": "lan-2"}
    for seconds, now in ((0, NOW + 2 * CONFLICTS_KEPT_MS_MAX), (CONFLICTS_KEPT_MS_MAX // 1000, NOW)):
        node.store.live(float(seconds))
        with node.store.group():
            node.store.release_held(now)
        assert node.documents.conflicts() == [conflict]
    node.store.live(CONFLICTS_KEPT_MS_MAX / 1000 + 70)
    with node.store.group():
        node.store.release_held(NOW)
    assert node.documents.conflicts() == []
    assert node.store.status()["conflicts"] == 0
    other.close()


def test_collections_have_views_for_people(node: Node) -> None:
    node.put("Users", a={"v": 1})
    shell = sqlite3.connect(f"file:{node.directory / FILE}?mode=ro", uri=True)
    assert shell.execute('SELECT * FROM "Users"').fetchall() == [("a", '{"v": 1}')]
    node.put("users", b={"v": 2}, gone={})
    node.put("users", gone=None)
    node.put("with.dots-2", c={})
    assert node.documents.collections() == ["Users", "users", "with.dots-2"]
    assert node.documents.collections(system=True) == ["Users", "users", "with.dots-2"]
    assert shell.execute('SELECT * FROM "users"').fetchall() == [("b", '{"v": 2}')]
    assert shell.execute('SELECT * FROM "Users_2"').fetchall() == [("a", '{"v": 1}')]
    assert shell.execute('SELECT count(*) FROM "with.dots-2"').fetchall() == [(1,)]
    shell.close()


@pytest.mark.parametrize("order", list(itertools.permutations(["Users", "users", "USERS", "users_2"])))
def test_views_are_the_same_in_whatever_order_collections_are_written(
    order: tuple[str, ...], node: Node
) -> None:
    for name in order:
        node.put(name, k={"name": name})
    shell = sqlite3.connect(f"file:{node.directory / FILE}?mode=ro", uri=True)
    views = shell.execute(
        "SELECT name FROM sqlite_master WHERE type = 'view' AND name NOT GLOB '_*' ORDER BY name"
    ).fetchall()
    shown = {
        view: json.loads(shell.execute(f'SELECT body FROM "{view}"').fetchone()[0])["name"]
        for (view,) in views
    }
    shell.close()
    assert shown == {"USERS_3": "USERS", "Users_4": "Users", "users": "users", "users_2": "users_2"}


def test_no_more_views_than_open_quickly_and_the_same_ones_everywhere() -> None:
    names = [f"c{number:04}" for number in range(VIEWS_MAX + 5)]
    assert view_names(reversed(names)) == {name: name for name in names[:VIEWS_MAX]}
    clash = [*"abcABC", "a_2", "A_2"]
    assert len({view.lower() for view in view_names(clash).values()}) == len(clash)


def test_peers(node: Node) -> None:
    good = {"NodeId": "p1", "Address": "127.0.0.1:9000", "Type": 1, "OAuth2Json": None, "IsEnabled": True}
    node.put(REMOTE_PEERS, p1=good, p2={"NodeId": "p2"})
    (peer,) = node.documents.peers()
    assert (peer.node_id, peer.address, peer.enabled) == ("p1", "127.0.0.1:9000", True)
    assert node.documents.collections() == []
