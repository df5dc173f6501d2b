"""``entgldb.open`` and ``entgldb.connect`` give one API: every call has the same outcome by either."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.messages.client import CreateIndex, RequestId
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import BODY_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import Version
from tests.support.one_node import one_node

pytestmark = pytest.mark.slow
VERSION = re.compile(r"lan-1/[0-9a-f]{32}(:[0-9]+)?")
NEVER = Version("nobody/0", 1)


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with one_node(tmp_path_factory) as directory, entgldb.connect(directory) as db:
        yield db


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Database]:
    with entgldb.open(tmp_path, node_id="lan-1") as db:
        yield db


def batched(db: Database, key: str) -> int:
    """Writes to two collections; refused as a whole where the key is taken."""
    with db.batch() as batch:
        batch["d"].put(key, {"n": 1})
        batch["c"].insert({"n": 2}, key=key)
    return len(batch.versions)


CALLS: list[Callable[[Database], Any]] = [
    lambda db: db["c"].put("k", {"a": 1}),
    lambda db: db["c"].get("k"),
    lambda db: db["c"].put("k", {"a": 2}, request="once") == db["c"].put("k", {"a": 3}, request="once"),
    lambda db: db["c"].get("k"),
    lambda db: db["c"].insert({"a": 1}, key="k"),
    lambda db: db["c"].insert({"a": 1}, key="l"),
    lambda db: db["c"].put("k", {}, if_version=NEVER),
    lambda db: db["c"].delete("k", if_version=NEVER),
    lambda db: db["c"].delete("nobody"),
    lambda db: db["c"].delete("l"),
    lambda db: db["c"].history("l") is not None,
    lambda db: db["c"].undelete("l").origin.partition("/")[0],
    lambda db: db["c"].undelete("l"),
    lambda db: db["c"].put_many([(f"m{n}", {"n": n}) for n in range(1200)]),
    lambda db: db["c"].put_many([(f"m{n}", {}) for n in range(GROUP_ENTRIES_MAX + 1)], atomic=True),
    lambda db: db["c"].put_many([("a", {}), ("", {})]),
    lambda db: db["c"].update("m1", {"$inc": {"n": 5}, "$set": {"seen": True}}),
    lambda db: db["c"].get("m1"),
    lambda db: db["c"].update("m1", {"$inc": {"n": 1}}, expire_after=3600),
    lambda db: db["c"].find_and_update({"seen": True}, {"$inc": {"n": 5}}),
    lambda db: db["c"].update("nobody", {"$set": {"n": 1}}),
    lambda db: db["c"].update("m1", {"$nonsense": {"n": 1}}),
    lambda db: db["c"].update_many({"n": {"$lt": 700}}, {"$set": {"low": True}}),
    lambda db: db["c"].delete_many({"n": {"$gte": 20, "$lt": 40}}),
    lambda db: batched(db, "batched"),
    lambda db: batched(db, "k"),
    lambda db: (db["d"].get("batched"), db["d"].get("k")),
    lambda db: db["c"].count({"n": {"$gte": 1100}}),
    lambda db: [found.key for found in db["c"].find({"n": {"$lt": 3}}, sort="-n")],
    lambda db: list(db["c"].find({"n": {"$regex": "x"}})),
    lambda db: db["c"].create_index("n"),
    lambda db: db["c"].create_index("n..m"),
    lambda db: db["c"].create_index("n", unique=True),
    lambda db: db["c"].create_index(["n", "-m"], unique=True, everywhere=True, name="both"),
    lambda db: db["c"].create_index(["n", "-m"], unique=True, everywhere=True, name="both"),
    lambda db: db["c"].put_many({"both1": {"n": -1, "m": 1}, "both2": {"n": -1, "m": 1}}, atomic=True),
    lambda db: next(iter(db["c"].indexes()))._replace(walked=0),
    lambda db: db["c"].shared_values("both"),
    lambda db: db["c"].rebuild_index("n"),
    lambda db: db["c"].drop_index("both"),
    lambda db: db["c"].drop_index("both"),
    lambda db: db["c"].shared_values("both"),
    lambda db: db.request(CreateIndex("no collection", ("n",))),
    lambda db: db["c"].put("big", {"text": "x" * BODY_BYTES_MAX}),
    lambda db: db["c"].put("k", {"x": float("nan")}),
    lambda db: db["no collection"].put("k", {}),
    lambda db: db["_system_nodes"].put("k", {}),
    lambda db: db.conflict_rule("c"),
    lambda db: db.set_conflict_rule("c", "merge"),
    lambda db: db.set_conflict_rule("c", "merge"),
    lambda db: db.set_conflict_rule("c", "nonsense"),
    lambda db: db.resolve("c", "k", NEVER, "winner"),
    lambda db: (db.conflicts(), db.held(), db.quarantine()),
    lambda db: db.collections(),
    lambda db: [(change.collection, change.key) for change in db.changes(collection="c")][-3:],
    lambda db: list(db.changes("nonsense")),
    lambda db: db.peers.add_static_peer("lan-9", "lan-9.example:7000"),
    lambda db: db.peers.get_remote_peer("lan-9").address,
    lambda db: db.peers.remove_remote_peer("lan-8"),
    lambda db: db.nodes.retire("lan-1"),
    lambda db: db.status("store")["documents"] > 1000,
    lambda db: RequestId.__name__ + str(db.next_request().counter > 0),
]


def outcome(call: Callable[[Database], Any], db: Database) -> Any:
    """A value, or an error, with the names of versions left out."""
    try:
        found = call(db)
    except EntglError as fault:
        return type(fault), fault.code, fault.definite, VERSION.sub("VERSION", fault.text), fault.hint
    return Version if isinstance(found, Version) else found


def test_every_call_has_one_outcome(connected: Database, opened: Database) -> None:
    # the node has begun with a document about itself
    opened["c"].put("k", {})
    connected["c"].delete("k")
    for number, call in enumerate(CALLS):
        assert outcome(call, connected) == outcome(call, opened), f"call {number}"


def test_only_what_asks_other_nodes_needs_one(opened: Database) -> None:
    calls: list[Callable[[Database], Any]] = [
        lambda db: db.status(),
        lambda db: db.status("sync"),
        lambda db: db.nodes.all(),
        lambda db: db.wait_synced(30),
        lambda db: db.spread(db["c"].put("k", {})),
    ]
    for call in calls:
        with pytest.raises(entgldb.NoNodeError, match="is open in this program, without a node") as caught:
            call(opened)
        assert "entgldb start --dir" in caught.value.hint


def test_a_write_that_shall_be_elsewhere_too_is_told_to_be_here(opened: Database) -> None:
    with pytest.raises(entgldb.SpreadError, match=r"durable here, .* without a node") as caught:
        opened["c"].with_ack("peers:1").put("k", {})
    assert [version.seq for version in caught.value.versions] == [1]
    assert opened["c"].get("k") == {}
