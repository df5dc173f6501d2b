"""``compact``: what may go goes first, then the file is rewritten once for all who asked."""

from __future__ import annotations

from pathlib import Path

from entgldb.messages.administration import Compact
from entgldb.messages.client import Refused, Report
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.members import CompactFile, FileCompacted, Prune
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


def asked_to_rewrite(node: Node) -> int:
    return sum(isinstance(message, CompactFile) for _, message in node.ctx.told)


def test_the_file_is_rewritten_after_what_may_go_has_gone_and_all_who_asked_are_answered() -> None:
    node = Node()
    node.write("k1")
    node.run(HOURS * 3600 - 2)
    node.ctx.run(10.0)
    node.ctx.told.clear()
    node.ctx.run(15.0)
    first, second = ask(node), ask(node)
    assert any(isinstance(message, Prune) for _, message in node.ctx.told)
    assert asked_to_rewrite(node) == 0
    node.run(1.0)
    assert node.entries == 0
    node.ctx.hand(FileCompacted(100, 10, 0.5))
    for asker in (first, second):
        assert asker.answers == [Report({"before": 100, "after": 10, "seconds": 0.5})]


def test_where_nothing_may_go_the_file_is_rewritten_at_once() -> None:
    node = Node()
    ask(node)
    assert asked_to_rewrite(node) == 1


def test_a_file_that_cannot_be_rewritten_is_told_as_an_error() -> None:
    node = Node()
    asker = ask(node)
    node.ctx.hand(FileCompacted(0, 0, 0.0, "disk-full", "no room", "make room"))
    assert asker.answers == [Refused("disk-full", "no room", "make room")]


def test_whoever_asks_after_the_store_died_is_not_left_waiting() -> None:
    node = Node()
    ask(node)
    ask(node)
    assert asked_to_rewrite(node) == 2


def test_the_store_rewrites_its_file_and_says_how_large_it_was(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "a", NOW)
    body = b'{"fill": "' + b"x" * 10_000 + b'"}'
    for number in range(100):
        with store.group():
            store.write(RequestId(b"c" * 16, number), [Write("users", "k", body)], NOW)
    store.connection.execute("DELETE FROM _entgldb_oplog WHERE seq < 100")
    before, after = store.compact()
    assert after < before / 5
    assert (tmp_path / "entgldb.db").stat().st_size == after
    assert store.get("users", "k") == body
    store.close()


def test_a_refusing_disk_is_named_and_the_file_stays_as_it_was() -> None:
    node = Node()

    def full() -> tuple[int, int]:
        raise EntglError("no room", code=ErrorCode.DISK_FULL, hint="make room")

    node.store.compact = full  # type: ignore[method-assign]  # a disk that is full
    node.bench.ctx.behaviour = node.bench.keeper
    node.bench.ctx.hand(CompactFile())
    (answer,) = [m for _, m in node.bench.ctx.told if isinstance(m, FileCompacted)]
    assert (answer.code, answer.text) == ("disk-full", "no room")
