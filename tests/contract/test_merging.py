"""``Store`` where collections merge: rules, conflicts, histories, deleted documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, NotFoundError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, MERGE_BYTES_MAX
from entgldb.messages.model import COLLECTIONS, REMOTE_PEERS, Entry, Version
from entgldb.storage.documents import history as documents_history
from entgldb.storage.documents.conflicts import Conflict
from entgldb.storage.documents.history import History, history
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, store_of

Make = Callable[[str], "Node"]


class Node:
    """A store, and the little that tests do with it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent = 0
        self.counter = 0

    def request(self) -> RequestId:
        self.counter += 1
        return RequestId(b"c" * 16, self.counter)

    def write(self, *writes: Write, system: bool = False) -> list[Version]:
        with self.store.group():
            written, _ = self.store.write(self.request(), writes, NOW, system=system)
        return [one.version for one in written]

    def put(self, document: dict[str, Any] | None, collection: str = "c", key: str = "k") -> Version:
        body = None if document is None else json.dumps(document).encode()
        (version,) = self.write(Write(collection, key, body), system=collection.startswith("_"))
        return version

    def rule(self, conflict: str) -> None:
        self.write(Write(COLLECTIONS, "c", rule_document("c", conflict)), system=True)

    def get(self, collection: str = "c", key: str = "k") -> Any:
        body = self.store.get(collection, key)
        return None if body is None else json.loads(body)

    def entries(self) -> list[Entry]:
        return [Entry(row.header, row.body) for row in self.store.rows(1, 500)]

    def take(self, *others: Node) -> None:
        """Everything that others have."""
        for other in others:
            with self.store.group():
                assert self.store.apply(other.entries(), NOW).refused == ""

    def conflicts(self) -> list[Conflict]:
        return Documents(self.store.connection).conflicts()

    def history(self) -> History:
        return history(self.store.connection, "c", "k")

    def resolve(self, lost: Conflict, take: str, body: bytes | None = None) -> None:
        with self.store.group():
            self.store.resolve(self.request(), (lost.collection, lost.key), lost.version, take, body, NOW)

    def undelete(self) -> None:
        with self.store.group():
            self.store.undelete(self.request(), "c", "k", NOW)


@pytest.fixture(params=["memory", "file", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: list[Store] = []

    def one(name: str) -> Node:
        made.append(store_of(request.param, tmp_path, name))
        return Node(made[-1])

    yield one
    for store in made:
        store.close()


def pair(make: Make, rule: str = "merge", document: dict[str, Any] | None = None) -> tuple[Node, Node]:
    """Two nodes that agree on the rule and on a first document."""
    a, b = make("a"), make("b")
    a.rule(rule)
    a.put({"name": "Ada", "age": 36} if document is None else document)
    b.take(a)
    return a, b


def test_different_fields_written_at_once_are_both_kept(make: Make) -> None:
    a, b = pair(make)
    a.put({"name": "Ada", "age": 37})
    b.put({"name": "Ada L.", "age": 36, "tags": ["x"]})
    a.take(b)
    b.take(a)
    assert a.get() == b.get() == {"name": "Ada L.", "age": 37, "tags": ["x"]}
    assert a.conflicts() == b.conflicts() == []


def test_a_put_that_changes_nothing_has_the_version_that_is_there(make: Make) -> None:
    a, _ = pair(make)
    last = a.store.last_lsn()
    before = a.put({"name": "Bob", "age": 36})
    assert a.put({"age": 36, "name": "Bob"}) == before
    assert a.store.last_lsn() == last + 1
    several = a.write(
        *(Write("c", "k", body) for body in (b'{"name":"Bob","age":36}', b'{"x":1}', b'{"x":1}'))
    )
    assert several == [before, Version(before.origin, before.seq + 1), Version(before.origin, before.seq + 1)]
    assert a.put({"x": 1.0}) != several[2]


def test_enabling_a_peer_here_and_its_new_address_there_both_survive(make: Make) -> None:
    a, b = make("a"), make("b")
    peer = {"NodeId": "cloud", "Address": "old:1", "Type": 2, "OAuth2Json": None, "IsEnabled": False}
    a.put(peer, REMOTE_PEERS, "cloud")
    b.take(a)
    a.put(peer | {"IsEnabled": True}, REMOTE_PEERS, "cloud")
    b.put(peer | {"Address": "new:2"}, REMOTE_PEERS, "cloud")
    a.take(b)
    b.take(a)
    assert a.get(REMOTE_PEERS, "cloud") == peer | {"IsEnabled": True, "Address": "new:2"}
    assert b.get(REMOTE_PEERS, "cloud") == a.get(REMOTE_PEERS, "cloud")
    assert [decode(entry.header).op for entry in a.entries()] == [2, 2, 2]


def test_an_edit_that_did_not_know_of_a_delete_finds_the_document_whole(make: Make) -> None:
    a, b = pair(make)
    a.put(None)
    b.put({"name": "Ada", "age": 37})
    b.put({"name": "Ada", "age": 38})
    a.take(b)
    b.take(a)
    assert a.get() == b.get() == {"name": "Ada", "age": 38}
    a.put(None)
    b.take(a)
    a.put({"new": 1})
    b.take(a)
    assert b.get() == {"new": 1}
    assert a.store.status()["documents"] == b.store.status()["documents"] == 2


def test_what_was_overwritten_unseen_is_a_conflict_with_both_sides_and_the_rule(make: Make) -> None:
    a, b = pair(make)
    lost = a.put({"name": "Lost", "age": 1})
    b.put({"name": "x", "age": 36})
    kept = b.put({"name": "Kept", "age": 36})
    a.take(b)
    b.take(a)
    (found,) = a.conflicts()
    assert b.conflicts() == [found]
    assert (found.version, found.document, found.rule) == (lost, {"name": "Lost", "age": 1}, "merge")
    assert (found.winner, found.winner_document) == (kept, {"name": "Kept", "age": 1})


@pytest.mark.parametrize("rule", ["lww", "merge"])
@pytest.mark.parametrize(
    ("take", "wanted"), [("loser", {"name": "Lost"}), ("winner", {"name": "Kept"}), ("", {"name": "Third"})]
)
def test_resolving_settles_a_conflict_on_every_node(make: Make, rule: str, take: str, wanted: Any) -> None:
    a, b = pair(make, rule, {"name": "Ada"})
    a.put({"name": "Lost"})
    b.put({"name": "x"})
    b.put({"name": "Kept"})
    a.take(b)
    b.take(a)
    (lost,) = b.conflicts()
    assert lost.rule == rule
    with pytest.raises(NotFoundError):
        b.resolve(lost._replace(version=lost.winner), "loser")  # type: ignore[arg-type]  # there is a winner
    with pytest.raises(InvalidError):
        b.resolve(lost, "")
    b.resolve(lost, take, None if take else b'{"name":"Third"}')
    c = make("c")
    c.take(b)
    a.take(b)
    for node in (a, b, c):
        assert (node.get(), node.conflicts()) == (wanted, [])
    # the resolution is a write like any other: what follows is no conflict with it
    a.put({"name": "Later"})
    b.take(a)
    assert (b.get(), b.conflicts()) == ({"name": "Later"}, [])


@pytest.mark.parametrize(("life", "moment"), [(None, 0), (180_000, NOW + 180_000)])
def test_a_loser_that_is_chosen_lives_as_long_as_it_would_have(
    make: Make, life: int | None, moment: int
) -> None:
    a, b = make("a"), make("b")
    a.write(Write("c", "k", b'{"lost":1}', expire_after=life))
    for _ in range(2):
        b.write(Write("c", "k", b'{"kept":1}', expire_after=60_000))
    a.take(b)
    (lost,) = a.conflicts()
    a.resolve(lost, "loser")
    assert a.get() == {"lost": 1}
    assert decode(a.entries()[-1].header).expires == moment


def test_a_change_lost_to_a_delete_can_be_taken_back(make: Make) -> None:
    a, b = pair(make)
    a.put({"name": "Lost", "age": 36})
    b.put({"name": "Ada", "age": 37})
    b.put(None)
    a.take(b)
    b.take(a)
    (lost,) = a.conflicts()
    assert (lost.document, lost.winner_document) == ({"name": "Lost"}, None)
    a.resolve(lost, "loser")
    b.take(a)
    assert a.get() == b.get() == {"name": "Lost", "age": 37}
    assert a.conflicts() == b.conflicts() == []


def test_a_change_of_an_element_that_was_removed_can_be_taken_back(make: Make) -> None:
    one, two = {"id": 1, "q": 0}, {"id": 2, "q": 0}
    a, b = pair(make, "merge", {"t": [one, two]})
    a.put({"t": [one | {"q": 9}, two]})
    b.put({"t": [one, two], "x": 1})
    b.put({"t": [two]})
    a.take(b)
    b.take(a)
    assert a.get() == b.get() == {"t": [two]}
    (lost,) = a.conflicts()
    a.resolve(lost, "loser")
    b.take(a)
    assert a.get() == b.get() == {"t": [two, one | {"q": 9}]}
    assert a.conflicts() == b.conflicts() == []


def test_a_decision_that_changed_no_field_has_nothing_to_lose_to_a_delete(make: Make) -> None:
    a, b = pair(make)
    a.put({"name": "Ada", "age": 1})
    b.put({"name": "Ada", "age": 2})
    a.take(b)
    b.take(a)
    (lost,) = a.conflicts()
    a.resolve(lost, "winner")
    b.put(None)
    b.take(a)
    a.take(b)
    assert a.get() is None
    assert a.conflicts() == b.conflicts() == []
    # with or without the tombstone, what is written there later knows of no rival
    with a.store.group():
        (latest,) = a.store.connection.execute("SELECT max(hlc) FROM _entgldb_documents").fetchone()
        a.store.connection.execute("DELETE FROM _entgldb_documents WHERE collection = 'c'")
        a.store.state.collected_hlc = latest
    a.put({"new": 1})
    b.take(a)
    assert (a.get(), a.conflicts()) == (b.get(), b.conflicts()) == ({"new": 1}, [])


def test_the_history_tells_every_version_and_who_lost(make: Make) -> None:
    a, b = pair(make)
    a.put({"name": "Lost", "age": 36})
    b.put({"name": "x", "age": 36})
    b.put({"name": "Kept", "age": 36})
    a.take(b)
    a.put(None)
    told = a.history()
    assert told.endings == []
    assert [(past.op, past.document, past.state) for past in told.versions] == [
        ("merge-delete", None, "current"),
        ("merge", {"name": "Kept", "age": 36}, "replaced"),
        ("merge", {"name": "x", "age": 36}, "replaced"),
        ("merge", {"name": "Lost", "age": 36}, "conflict"),
        ("merge", {"name": "Ada", "age": 36}, "replaced"),
    ]
    assert told.versions[1].change == {".name": "Kept"}


@pytest.mark.parametrize("rule", ["lww", "merge"])
def test_a_deleted_document_is_brought_back_everywhere(make: Make, rule: str) -> None:
    a, b = pair(make, rule)
    with pytest.raises(EntglError, match="not deleted") as found:
        a.undelete()
    assert found.value.code is ErrorCode.EXISTS
    a.put({"name": "Ada", "age": 37})
    a.put(None)
    b.take(a)
    b.undelete()
    a.take(b)
    assert a.get() == b.get() == {"name": "Ada", "age": 37}


def test_of_many_versions_one_body_alone_is_read_to_bring_a_document_back(make: Make) -> None:
    a, _ = pair(make, "lww")
    for number in range(50):
        a.put({"n": number})
    a.put(None)
    said: list[str] = []
    a.store.connection.set_trace_callback(said.append)
    a.undelete()
    a.store.connection.set_trace_callback(None)
    assert a.get() == {"n": 49}
    assert sum("l.body FROM" in statement for statement in said) == 1


def test_a_version_that_is_pruned_while_a_history_is_read_ends_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = pair(make, "lww")
    a.put({"n": 1})
    text = documents_history._text
    monkeypatch.setattr(
        documents_history, "_text", lambda c, header: None if header.seq == 2 else text(c, header)
    )
    assert [past.document for past in a.history().versions] == [{"n": 1}]


def test_what_the_log_no_longer_has_cannot_be_brought_back_and_it_says_so(make: Make) -> None:
    a, _ = pair(make, "lww")
    with pytest.raises(NotFoundError, match="knows no such document"), a.store.group():
        a.store.undelete(a.request(), "c", "none", NOW)
    a.put(None)
    with a.store.group():
        number = a.store.state.origins[a.store.origin].number
        a.store.connection.execute("DELETE FROM _entgldb_oplog WHERE seq <= 2 AND origin = ?", (number,))
        a.store.state.raise_floor(a.store.origin, 2, a.store.state.clock)
    assert [ending.reason for ending in a.history().endings] == ["pruned"]
    with pytest.raises(NotFoundError, match=r"no longer has what came before the delete: .* 2 \(pruned\)"):
        a.undelete()


def test_a_document_that_merges_is_brought_back_without_its_log(make: Make) -> None:
    a, _ = pair(make)
    a.put(None)
    with a.store.group():
        a.store.connection.execute("DELETE FROM _entgldb_oplog WHERE seq <= 2")
        a.store.state.raise_floor(a.store.origin, 2, a.store.state.clock)
    a.undelete()
    assert a.get() == {"name": "Ada", "age": 36}


def test_a_collection_set_back_to_lww_replaces_documents_again(make: Make) -> None:
    a, b = pair(make)
    a.put({"name": "Bob", "age": 36})
    a.rule("lww")
    a.put({"name": "Eve"})
    last = [decode(row.header).op for row in a.store.rows(1, 500)]
    assert last[-1] == 2
    a.put({"name": "Mia"})
    a.put(None)
    b.take(a)
    assert [decode(row.header).op for row in a.store.rows(1, 500)][-2:] == [0, 1]
    assert b.get() is None
    stamps = "SELECT stamps FROM _entgldb_documents WHERE collection = 'c'"
    assert b.store.connection.execute(stamps).fetchall() == [(None,)]


def test_the_rule_is_known_after_a_restart_and_undone_with_its_transaction(make: Make) -> None:
    a = make("a")
    write = Write(COLLECTIONS, "c", rule_document("c", "merge"))
    with suppress(RuntimeError), a.store.group():
        a.store.write(a.request(), [write], NOW, system=True)
        raise RuntimeError
    assert "c" not in a.store.state.merging
    a.rule("merge")
    assert "c" in a.store.reopen(a.store, NOW).state.merging
    assert Documents(a.store.connection).conflict_rule("c") == "merge"
    assert Documents(a.store.connection).conflict_rule("d") == "lww"
    assert Documents(a.store.connection).conflict_rule(REMOTE_PEERS) == "merge"


def test_changed_fields_beyond_the_limit_are_refused_and_nothing_is_written(make: Make) -> None:
    a, _ = pair(make)
    # every element costs its path as well: more than the document itself may have
    crowd = {"t": [{"id": number} for number in range(BODY_BYTES_MAX // 14)]}
    assert len(json.dumps(crowd)) < BODY_BYTES_MAX * 1.3
    body = json.dumps(crowd, separators=(",", ":")).encode()
    assert len(body) <= BODY_BYTES_MAX
    last = a.store.last_lsn()
    with (
        pytest.raises(TooLargeError, match=f"{MERGE_BYTES_MAX} allowed"),
        a.store.group(),
        a.store.savepoint(),
    ):
        a.store.write(a.request(), [Write("c", "crowd", body)], NOW)
    assert a.store.last_lsn() == last


def test_a_document_written_anew_as_a_whole_replaces_what_merged(make: Make) -> None:
    """An authoritative restore means it: what peers have changed since does not stay beside it."""
    a, b = pair(make)
    b.put({"name": "Ada", "age": 36, "city": "Rome"})
    with a.store.group():
        write = Write("c", "k", b'{"name":"Ada","age":36}')
        ((made,), _) = a.store.write(a.request(), [write], NOW + 1000, whole=True)
    b.take(a)
    a.take(b)
    assert a.get() == b.get() == {"name": "Ada", "age": 36}
    assert [lost.document for lost in b.conflicts()] == [{"city": "Rome"}]
    assert b.conflicts()[0].winner == made.version


def test_what_is_put_where_a_delete_was_collected_leaves_no_old_field_elsewhere(make: Make) -> None:
    a, b = pair(make)
    a.put(None)
    b.take(a)
    with a.store.group():
        (latest,) = a.store.connection.execute("SELECT max(hlc) FROM _entgldb_documents").fetchone()
        a.store.connection.execute("DELETE FROM _entgldb_documents WHERE collection = 'c'")
        a.store.state.collected_hlc = latest
    a.put({"new": 1})
    b.take(a)
    assert a.get() == b.get() == {"new": 1}
