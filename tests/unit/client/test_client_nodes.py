"""``db.nodes``: what is unknown is null, never 0; who holds something back is listed, heard of or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from entgldb.client.database import Database
from entgldb.client.nodes import LIVE_MS, NodeRow, Nodes
from entgldb.launch.cli.cluster.nodes import cells
from entgldb.messages.model import NODES
from entgldb.storage.rules.ended import any_log, ending

A, B, C = (f"lan-{number}/" + str(number) * 32 for number in (1, 2, 3))

NOW_MS = 1_790_000_000_000
GONE = "thief"


class Told:
    """A database that says what it was told to say."""

    def __init__(self, documents: dict[str, dict[str, Any]], **status: dict[str, Any]) -> None:
        self._documents = documents
        self._expelled = {ending(any_log(GONE), 0): {"Said": {"lan-1": 1}}}
        self._status = status

    @property
    def documents(self) -> Told:
        return self

    def find(self, collection: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return iter((self._documents if collection == NODES else self._expelled).items())

    def origin(self) -> str:
        return A

    def expelled(self) -> frozenset[str]:
        return frozenset((GONE,))

    def status(self, actor: str) -> dict[str, Any]:
        return self._status.get(actor, {})


def document(origin: str, retired: str | None = None) -> dict[str, Any]:
    node_id, _, incarnation = origin.partition("/")
    return {
        "NodeId": node_id,
        "Incarnation": incarnation,
        "Version": "1.2",
        "FirstSeen": 5,
        "Retired": retired,
    }


def member(origin: str, age_ms: float, vector: dict[str, int]) -> dict[str, Any]:
    name = origin.partition("/")[0]
    return {"name": name, "origin": origin, "seen_ms": 7, "heard_ms": NOW_MS - age_ms, "vector": vector}


def rows(documents: dict[str, dict[str, Any]], **status: dict[str, Any]) -> dict[str, NodeRow]:
    found = Nodes(cast("Database", Told(documents, **status))).all()
    return {row.node_id: row for row in found}


def test_a_node_of_which_only_the_document_is_known_has_unknowns_and_no_zeros() -> None:
    row = rows({"lan-2": document(B)}, oplog={"origin": A, "vector": {A: [3, ""]}})["lan-2"]
    assert row == NodeRow("lan-2", "2" * 32, "1.2", 5, None, None, "absent", None)
    assert cells(row) == ("lan-2", "absent", "1.2", "?", "?", "")


def test_behind_counts_what_we_have_and_it_has_not_acknowledged() -> None:
    found = rows(
        {},
        sync={"members": [member(B, 0, {A: 1, B: 9})]},
        oplog={"origin": A, "vector": {A: [3, ""], C: [4, ""]}},
    )
    assert found["lan-2"].behind == 6
    assert found["lan-2"].version is None


def test_live_is_who_was_heard_lately_or_is_linked_and_not_retired() -> None:
    found = rows(
        {"lan-1": document(A), "lan-3": document(C, retired="3" * 32)},
        sync={
            "members": [member(B, LIVE_MS + 1000, {}), member(C, 0, {}), member("lan-4/" + "4" * 32, 10, {})],
            "peers": [{"node_id": "lan-3"}],
            "now_ms": NOW_MS,
        },
        oplog={"origin": A, "vector": {}},
    )
    assert {name: row.state for name, row in found.items()} == {
        "lan-1": "live",
        "lan-2": "absent",
        "lan-3": "retired",
        "lan-4": "live",
    }


def test_who_is_expelled_is_that_whatever_else_it_is() -> None:
    found = rows(
        {"lan-1": document(A), GONE: document(B, retired="2" * 32)},
        sync={"members": [member(f"{GONE}/" + "2" * 32, 0, {})], "peers": [{"node_id": GONE}]},
        oplog={"origin": A, "vector": {}},
    )
    assert {name: row.state for name, row in found.items()} == {"lan-1": "live", GONE: "expelled"}


def test_this_node_is_never_behind_itself() -> None:
    found = rows(
        {"lan-1": document(A)},
        sync={"members": [member(A, 20_000, {A: 1})], "now_ms": NOW_MS},
        oplog={"origin": A, "vector": {A: [3, ""]}},
    )
    assert (found["lan-1"].behind, found["lan-1"].last_seen) == (0, NOW_MS)


def test_who_rejoined_as_another_incarnation_is_not_retired() -> None:
    found = rows({"lan-3": document(C, retired="9" * 32)}, oplog={"origin": A, "vector": {}})
    assert found["lan-3"].state == "absent"


def test_a_cloud_peer_that_was_never_reached_is_listed_with_what_it_holds_back() -> None:
    held = {"cloud": {"entries": 9, "tombstones": 2, "since": None}}
    row = rows({}, oplog={"origin": A, "vector": {}, "held_back_by": held})["cloud"]
    assert (row.incarnation, row.last_seen, row.behind) == (None, None, None)
    assert cells(row)[-1] == "9 entries, 2 tombstones"
