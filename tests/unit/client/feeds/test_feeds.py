"""Selected feeds, watches and live queries on a real node, blocking and asyncio, over a restart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from entgldb import aio
from entgldb.client.database import Database
from entgldb.launch.node.process import start_detached, stop_node

pytestmark = pytest.mark.slow
OPEN = {"state": "open"}


def beside(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_feed_of_some_collections_and_of_what_matches(db: Database) -> None:
    token = db.token()
    db["north"].put("1", {"state": "open"})
    db["south"].put("1", {"state": "done"})
    db["east"].put("1", {"state": "open"})
    db["south"].put("2", {"state": "open"})
    db["north"].delete("1")
    feed = db.changes(token, collections=["north", "south"], filter=OPEN)
    found = [(one.collection, one.key, one.document) for one in feed]
    assert found == [("south", "2", OPEN), ("north", "1", None)]
    assert list(db.changes(feed.token)) == [], "the token goes with the node"
    assert list(db.changes("now", collection="north")) == []
    assert [one.key for one in db["south"].changes(token, filter={"state": "done"})] == ["1"]


def test_a_watch_tells_who_enters_changes_and_leaves(db: Database) -> None:
    orders = db["orders"]
    orders.put_many({"a": {"state": "open"}, "b": {"state": "done"}})
    watch = orders.watch(OPEN)
    assert [(one.kind, one.key) for one in islice(watch, 1)] == [("enter", "a")]
    orders.put("b", {"state": "open"})
    orders.put("a", {"state": "open", "n": 1})
    orders.put("c", {"state": "done"})
    orders.delete("b")
    orders.put("a", {"state": "done"})
    # the feed gives each key with its present version: nobody has seen b inside
    assert [(one.kind, one.key) for one in islice(watch, 1)] == [("leave", "a")]
    watch.close()

    resumed = orders.watch(OPEN, since=watch.token)
    orders.put("a", {"state": "open", "n": 2})
    assert ("enter", "a") in [(one.kind, one.key) for one in islice(resumed, 1)]
    resumed.close()


def test_a_watch_from_now_on_knows_what_matches_now(db: Database) -> None:
    tasks = db["tasks"]
    tasks.put_many({"a": OPEN, "b": {"state": "done"}})
    watch = tasks.watch(OPEN, since="now")
    tasks.put("a", {"state": "open", "n": 1})
    tasks.put("b", {"state": "done", "n": 1})
    tasks.put("c", OPEN)
    tasks.put("a", {"state": "open", "n": 2})
    assert [(one.kind, one.key) for one in islice(watch, 2)] == [("enter", "c"), ("change", "a")]
    watch.close()


def test_a_live_query_follows_over_a_restart_of_the_node(db: Database, directory: Path) -> None:
    stock = db["stock"]
    stock.put_many({"a": {"n": 1}, "b": {"n": 5}})
    live = stock.live({"n": {"$gt": 0}}, sort="-n", limit=2)
    assert [one.key for one in next(live)] == ["b", "a"]
    stock.put("c", {"n": 9})
    assert [one.key for one in next(live)] == ["c", "b"]
    assert stop_node(directory) is not None
    start_detached(directory)
    writer = beside(lambda: stock.put("d", {"n": 10}))
    assert [one.key for one in next(live)] == ["d", "c"]
    writer.join()
    live.close()


def test_the_same_for_asyncio(directory: Path) -> None:
    async def use() -> None:
        async with aio.connect(directory) as db:
            jobs = db["jobs"]
            await jobs.put("a", OPEN)
            feed = db.changes(collections=["jobs", "none"], filter=OPEN)
            assert [(one.collection, one.key) async for one in feed] == [("jobs", "a")]
            watch = jobs.watch(OPEN)
            assert ((await anext(watch)).kind, watch.token is not None) == ("enter", True)
            await jobs.put("a", {"state": "done"})
            assert ((await anext(watch)).kind, await jobs.delete("a") is not None) == ("leave", True)
            await watch.aclose()
            live = jobs.live(OPEN, sort="n")
            assert await anext(live) == []
            waiting = asyncio.ensure_future(anext(live))
            await jobs.put("b", {"state": "open", "n": 1})
            assert [one.key for one in await waiting] == ["b"]
            await live.aclose()

    asyncio.run(use())
