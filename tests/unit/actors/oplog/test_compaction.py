"""``compact``: what may go goes first, then free pages, step by step, once for all who asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.administration import Compact
from entgldb.messages.client import Refused, Report
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.members import CompactFile, FileCompacted, Prune
from entgldb.storage.file import compacting
from entgldb.storage.store import Store
from tests.support.fake_context import FakeAsker
from tests.unit.actors.oplog.test_retention import HOURS, Node
from tests.unit.storage.log.test_prune import NOW, RequestId, Write


def ask(node: Node) -> FakeAsker:
    asker = FakeAsker()
    node.ctx.asker = asker
    node.oplog.handle(Compact(), node.ctx)
    node.ctx.asker = None
    return asker


def asked_to_compact(node: Node) -> int:
    return sum(isinstance(message, CompactFile) for _, message in node.ctx.told)


def test_free_pages_go_after_what_may_go_has_gone_and_all_who_asked_are_answered() -> None:
    node = Node()
    node.write("k1")
    node.run(HOURS * 3600 - 2)
    node.ctx.run(10.0)
    node.ctx.told.clear()
    node.ctx.run(15.0)
    first, second = ask(node), ask(node)
    assert any(isinstance(message, Prune) for _, message in node.ctx.told)
    assert asked_to_compact(node) == 0
    node.run(1.0)
    assert node.entries == 0
    node.ctx.hand(FileCompacted(100, 10, 0.5, 0.1))
    for asker in (first, second):
        assert asker.answers == [Report({"before": 100, "after": 10, "seconds": 0.5, "longest_s": 0.1})]


def test_where_nothing_may_be_forgotten_free_pages_go_at_once() -> None:
    node = Node()
    ask(node)
    assert asked_to_compact(node) == 1


def test_a_file_that_cannot_be_made_smaller_is_told_as_an_error() -> None:
    node = Node()
    asker = ask(node)
    node.ctx.hand(FileCompacted(0, 0, 0.0, 0.0, "disk-full", "no room", "make room"))
    assert asker.answers == [Refused("disk-full", "no room", "make room")]


def test_whoever_asks_after_the_store_died_is_not_left_waiting() -> None:
    node = Node()
    ask(node)
    ask(node)
    assert asked_to_compact(node) == 2


def with_free_pages(store: Store) -> bytes:
    """It has had a log that nobody needs any more; the one document that it has."""
    body = b'{"fill": "' + b"x" * 10_000 + b'"}'
    for number in range(100):
        with store.group():
            store.write(RequestId(b"c" * 16, number), [Write("users", "k", body)], NOW)
    store.connection.execute("DELETE FROM _entgldb_oplog WHERE seq < 100")
    return body


def test_the_file_shrinks_in_steps_of_so_many_pages_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "STEP_PAGES", 20)
    store = Store.open(tmp_path, "a", NOW)
    body, steps = with_free_pages(store), [store.compact_step()]
    while steps[-1][2]:
        assert store.get("users", "k") == body
        steps.append(store.compact_step())
    assert len(steps) > 10
    assert all(before - after == 20 * 4096 for before, after, more in steps if more)
    size = steps[-1][1]
    assert size < steps[0][0] / 5
    assert (tmp_path / "entgldb.db").stat().st_size == size
    store.close()


def test_a_file_made_without_steps_is_written_anew_and_has_them_from_then_on(tmp_path: Path) -> None:
    Store.open(tmp_path, "a", NOW).close()
    with closing(sqlite3.connect(tmp_path / "entgldb.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    store = Store.open(tmp_path, "a", NOW)
    body = with_free_pages(store)
    before, after, more = store.compact_step()
    assert not more
    assert after < before / 5
    assert store.connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert store.get("users", "k") == body
    store.close()


def test_writers_are_served_between_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "STEP_PAGES", 20)
    node = Node()
    with_free_pages(node.store)
    bench = node.bench
    bench.ctx.behaviour = bench.keeper
    bench.ctx.hand(CompactFile())
    assert not [m for _, m in bench.ctx.told if isinstance(m, FileCompacted)]
    bench.ctx.hand(CompactFile())
    bench.ctx.run(0.0)
    (done,) = [m for _, m in bench.ctx.told if isinstance(m, FileCompacted)]
    assert done.after < done.before / 5
    assert node.store.compact_step() == (done.after, done.after, False)


def test_a_refusing_disk_is_named_and_the_file_stays_as_it_was() -> None:
    node = Node()

    def full() -> tuple[int, int, bool]:
        raise EntglError("no room", code=ErrorCode.DISK_FULL, hint="make room")

    node.store.compact_step = full  # type: ignore[method-assign]  # a disk that is full
    node.bench.ctx.behaviour = node.bench.keeper
    node.bench.ctx.hand(CompactFile())
    (answer,) = [m for _, m in node.bench.ctx.told if isinstance(m, FileCompacted)]
    assert (answer.code, answer.text) == ("disk-full", "no room")
