"""``entgldb.aio.open``: many requests in one commit, feeds, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import entgldb
import entgldb.aio
from entgldb.actors.host.timers import Timers
from entgldb.client.aio.database import Database
from entgldb.launch.node.files import running
from entgldb.messages.errors import EntglError, InvalidError, NoAnswerError, NoNodeError
from entgldb.storage.indexes import building

Walk = Callable[[Database], Coroutine[Any, Any, None]]


def walked(directory: Path, walk: Walk, **options: Any) -> None:
    async def inside() -> None:
        async with entgldb.aio.open(directory, **options) as db, asyncio.timeout(60):
            await walk(db)

    asyncio.run(inside())


def connection_of(db: Database) -> Any:
    """Of a store that nothing falls due in."""
    opened = db._blocking._transport._opened  # type: ignore[attr-defined]  # it is what is looked at
    opened.host._timers = Timers()
    return opened._actors._store.connection


def test_it_opens_writes_and_reads(tmp_path: Path) -> None:
    async def walk(db: Database) -> None:
        version = await db["c"].put("k", {"n": 1})
        assert version.origin.startswith("lan-1/")
        assert await db["c"].get("k") == {"n": 1}
        assert (await db.status("store"))["documents"] == 1
        assert await db.set_conflict_rule("c", "merge")
        assert await db.conflict_rule("c") == "merge"
        with pytest.raises(NoNodeError, match="there is no sync to ask"):
            await db.nodes.all()
        with pytest.raises(NoNodeError, match="there is no node to ask"):
            await db.status()
        with pytest.raises(EntglError, match="is open in process"):
            await entgldb.aio.open(tmp_path)

    walked(tmp_path, walk, node_id="lan-1")
    assert not running(tmp_path)


def test_what_is_asked_at_once_shares_a_commit(tmp_path: Path) -> None:
    async def walk(db: Database) -> None:
        statements: list[str] = []
        connection_of(db).set_trace_callback(statements.append)
        await asyncio.gather(*(db["c"].put(f"k{n}", {"n": n}) for n in range(100)))
        assert statements.count("COMMIT") == 1
        assert await db["c"].count() == 100

    walked(tmp_path, walk)


def test_no_more_than_in_flight_wait(tmp_path: Path) -> None:
    async def walk(db: Database) -> None:
        statements: list[str] = []
        connection_of(db).set_trace_callback(statements.append)
        await asyncio.gather(*(db["c"].put(f"k{n}", {"n": n}) for n in range(12)))
        assert statements.count("COMMIT") >= 3
        assert await db["c"].count() == 12

    walked(tmp_path, walk, in_flight=4)


def test_changes_are_followed(tmp_path: Path) -> None:
    async def walk(db: Database) -> None:
        await db["c"].put("a", {})
        seen = []
        async for change in db.changes(follow=True):
            seen.append(change.key)
            if len(seen) < 3:
                await db["c"].put(f"after-{len(seen)}", {})
            else:
                break
        assert seen == ["a", "after-1", "after-2"]

    walked(tmp_path, walk)


def test_a_close_in_the_middle_tells_what_became_of_each(tmp_path: Path) -> None:
    outcomes: list[object] = []

    async def walk() -> None:
        db = await entgldb.aio.open(tmp_path, in_flight=2)
        tasks = [asyncio.create_task(db["c"].put(f"k{n}", {})) for n in range(6)]
        await asyncio.sleep(0.0)
        await db.close()
        outcomes.extend(await asyncio.gather(*tasks, return_exceptions=True))
        with pytest.raises(InvalidError, match="closed"):
            await db["c"].put("k", {})

    asyncio.run(walk())
    with entgldb.open(tmp_path) as db:
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, InvalidError)
                assert db["c"].get(f"k{number}") is None, "refused for certain"
            else:
                assert db["c"].get(f"k{number}") == {}
        assert 0 < db["c"].count() < 6


def test_a_turn_that_breaks_off_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def walk(db: Database) -> None:
        def broken(*arguments: object) -> None:
            raise SystemExit

        actors = db._blocking._transport._opened.host._actors  # type: ignore[attr-defined]  # it is what breaks
        with monkeypatch.context() as patch:
            patch.setattr(actors["store"][0], "flush", broken)
            with pytest.raises(NoAnswerError) as caught:
                await db["c"].put("k", {})
        assert not caught.value.definite
        await db["c"].put("k", {"n": 2})
        assert await db["c"].get("k") == {"n": 2}

    walked(tmp_path, walk)


def test_an_index_is_built_while_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "INDEX_STEP_ROWS", 3)

    async def walk(db: Database) -> None:
        await db["c"].put_many({f"{number}": {"number": number} for number in range(10)})
        await db["c"].create_index("number")
        # the end of ``walked`` bounds it
        while not all(index.ready for index in await db["c"].indexes()):
            pass

    walked(tmp_path, walk)
