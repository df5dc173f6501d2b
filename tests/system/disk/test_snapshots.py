"""Snapshots between real processes: to an empty node, to one that was away, through kills on both sides."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from entgldb.launch.playground.cluster import Member, Playground
from entgldb.storage.store import Store
from tests.system.support.processes import until
from tests.unit.storage.snapshot.snapshots import forget

pytestmark = pytest.mark.slow
MANY = 20_000
PATIENCE = 40.0


def forget_all(member: Member) -> None:
    """As retention does once everybody who counts has everything; the node is down."""
    store = Store.open(member.directory, member.node_id, time.time_ns() // 1_000_000)
    forget(store, tombstones=True)
    store.close()


def put_many(member: Member, prefix: str, count: int) -> None:
    member.db["docs"].put_many((f"{prefix}{n:06}", {"n": n, "text": "x" * 150}) for n in range(count))


def equal(*members: Member) -> bool:
    vectors = [member.db.status("oplog")["vector"] for member in members]
    return all(vector == vectors[0] for vector in vectors)


def keys(member: Member) -> list[str]:
    return [key for key, _ in member.db.documents.find("docs")]


def incoming(member: Member) -> dict[str, object] | None:
    """The snapshot that a node is taking, as its sync shows it."""
    rows = [peer["snapshot"] for peer in member.db.status("sync")["peers"]]
    return next((row for row in rows if row and row["direction"] == "in"), None)


@pytest.mark.timeout(180)
def test_an_empty_node_joins_and_one_that_was_away_returns_with_its_own_writes(tmp_path: Path) -> None:
    with Playground(tmp_path) as playground:
        playground.make_lan(3)
        one, away, empty = playground.lan
        playground.start([one, away])
        put_many(one, "a", 500)
        until(lambda: equal(one, away), PATIENCE, "two equal nodes")
        away_origin = away.db.status("oplog")["origin"]
        playground.stop([one])
        away.db["docs"].put("mine", {"by": "away"})
        away.db["docs"].put("a000001", {"by": "away"})
        playground.stop([away])
        playground.start([one])
        one.db["docs"].delete("a000002")
        put_many(one, "b", 500)
        playground.stop([one])
        forget_all(one)
        playground.start([one, away, empty])
        until(lambda: equal(one, away, empty), PATIENCE, "three equal nodes")
        assert keys(one) == keys(away) == keys(empty)
        assert len(keys(one)) == 1000
        assert empty.db["docs"].get("mine") == one.db["docs"].get("mine") == {"by": "away"}
        assert one.db["docs"].get("a000001") == {"by": "away"}
        assert one.db["docs"].get("a000002") is None
        assert away.db.status("oplog")["origin"] != away_origin
        folder = away.directory / "snapshots"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(folder.glob("staging-*")) == []


@pytest.mark.timeout(240)
def test_sender_and_receiver_killed_in_the_middle_and_it_completes(tmp_path: Path) -> None:
    with Playground(tmp_path) as playground:
        playground.make_lan(2)
        full, empty = playground.lan
        playground.start([full])
        put_many(full, "k", MANY)
        playground.stop([full])
        forget_all(full)
        playground.start([full, empty])
        # progress shows, as long as it takes; a quick machine may be through before anybody looks
        until(lambda: incoming(empty) or equal(full, empty), PATIENCE, "a snapshot under way")
        for member, name in ((empty, "oplog"), (full, "sync"), (empty, "store"), (full, "oplog")):
            pid = until(
                lambda m=member, n=name: m.db.status("node")["pids"].get(n), 10.0, f"the pid of {name}"
            )  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            os.kill(pid, signal.SIGKILL)
        until(lambda: equal(full, empty), PATIENCE, "two equal nodes")
        assert empty.db["docs"].count() == MANY
