"""Fragments and looks at a node that is larger than any test could make, or does not answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from entgldb.client.aio.database import Database
from entgldb.client.nodes import NodeRow
from entgldb.messages.errors import BusyError, NoNodeError
from entgldb.web.app import application
from entgldb.web.dashboard import pulse as pulses
from entgldb.web.dashboard.hour import GAP_SECONDS, ROW_SECONDS, ROWS
from entgldb.web.dashboard.pulse import Pulse

NODES = 500
COLLECTIONS = 10_000
FRAGMENT_BYTES_MAX = 100_000
ORIGIN = "node-000/" + "0" * 32


class Crowd:
    """All that the page asks of a database, of a cluster of many nodes."""

    def __init__(self) -> None:
        self.lsn = self.own = 0
        self.up = True
        self.propagation = {"in": {"counts": [0, 0], "sum": 0.0}, "out": {"counts": [5, 1], "sum": 2.0}}
        self.peers = SimpleNamespace(get_all_remote_peers=self._peers, secrets=self._peers)
        self.nodes = SimpleNamespace(all=self._nodes)
        self.directory = Path()

    async def status(self, actor: str = "node") -> dict[str, Any]:
        if not self.up:
            raise NoNodeError("no node runs there")
        rows = [
            {"node_id": f"node-{n:03}", "state": "connected", "behind_in": 0, "behind_out": n}
            for n in range(1, NODES)
        ]
        return {
            "node_id": "node-000",
            "role": "lan",
            "alarms": [{"code": "undecided", "subject": str(n), "text": "x" * 300} for n in range(NODES)],
            "store": {"documents": 1_000_000, "conflicts": 7},
            "oplog": {
                "lsn": self.lsn,
                "origin": ORIGIN,
                "vector": {ORIGIN: [self.own, ""]},
                "held_back_by": {},
            },
            "sync": {"peers": [{**row, "propagation": self.propagation} for row in rows], "now_ms": 0},
            "election": {"gateway": "node-007", "epoch": 12},
            "gateway": {"links": []},
        }

    async def _peers(self) -> list[Any]:
        return []

    async def _nodes(self) -> list[NodeRow]:
        return [NodeRow(f"node-{n:03}", None, "1", 0, 0, n, "live", None) for n in range(NODES)]

    async def collections(self, *, system: bool = False) -> list[str]:
        return [f"collection-{n:05}" for n in range(COLLECTIONS)]

    async def conflicts(self, *, skip: int, limit: int) -> list[Any]:
        assert limit <= 100, "all of them may be gigabytes"
        return []

    async def close(self) -> None:
        pass


def database(crowd: Crowd) -> Database:
    return cast(Database, crowd)


def got(crowd: Crowd, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(database(crowd)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "some"),
    [
        ("/ui/overview", "440 more are not drawn"),
        ("/ui/nodes", "of 500"),
        ("/ui/nodes?skip=480", "node-499"),
        ("/ui/nodes?like=NODE-07", "node-079"),
        ("/ui/documents", "collection-00099"),
        ("/ui/documents?skip=9950", "collection-09999"),
        ("/ui/documents?like=-0123", "collection-01239"),
    ],
)
def test_a_crowd_is_shown_a_page_at_a_time(path: str, some: str) -> None:
    answer = got(Crowd(), path)
    assert answer.status_code == 200
    assert some in answer.text
    assert len(answer.content) < FRAGMENT_BYTES_MAX


@pytest.mark.parametrize("skip", ["-1", "x", "99999999999"])
def test_a_place_that_is_none_is_refused(skip: str) -> None:
    assert got(Crowd(), f"/ui/nodes?skip={skip}").status_code == 400


def test_a_node_that_does_not_answer_is_told_as_such() -> None:
    crowd = Crowd()
    crowd.up = False
    answer = got(crowd, "/ui/overview")
    assert (answer.status_code, answer.json()["code"]) == (503, "no-node")
    assert got(crowd, "/").status_code == 200, "the page itself is there"


def test_a_bug_that_one_look_meets_costs_that_look_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    seen = Pulse(database(crowd))

    async def looks() -> None:
        await seen.look()
        with monkeypatch.context() as patched:
            patched.setattr(crowd, "status", lambda actor: {}["no"])
            await seen.look()
            assert (seen.status, seen.beat()) == ({}, {"up": False, "why": "KeyError: 'no'"})
        await seen.look()

    asyncio.run(looks())
    assert seen.beat()["up"]


def test_looks_are_summed_to_rows_of_ten_seconds_and_kept_for_an_hour() -> None:
    crowd, now = Crowd(), [1000.0]
    seen = Pulse(database(crowd), lambda: now[0])

    async def looks() -> None:
        for _ in range(2 * ROWS):
            await seen.look()
            now[0] += ROW_SECONDS
            crowd.lsn += 50

    asyncio.run(looks())
    rows = seen.hour.rows
    assert len(rows) == ROWS
    assert rows[0].fields() == [now[0] - ROWS * ROW_SECONDS, 0, 5, None, None]


def test_entries_are_shared_out_over_the_time_in_which_they_came() -> None:
    crowd, now = Crowd(), [1004.0]
    seen = Pulse(database(crowd), lambda: now[0])

    async def looks() -> None:
        await seen.look()
        now[0], crowd.lsn, crowd.own = 1034.0, 300, 60
        await seen.look()
        now[0] += GAP_SECONDS + 1
        crowd.lsn += 10_000
        await seen.look()

    asyncio.run(looks())
    assert [row.fields()[:3] for row in seen.hour.rows] == [
        [1000, 2, 8],
        [1010, 2, 8],
        [1020, 2, 8],
        [1030, 2, 8],
        [1150, None, None],
    ]


def test_own_writes_are_told_from_those_of_others_and_a_silent_node_is_unknown() -> None:
    crowd, now = Crowd(), [1000.0]
    seen = Pulse(database(crowd), lambda: now[0])

    async def looks() -> list[dict[str, Any]]:
        await seen.look()
        now[0], crowd.lsn, crowd.own = 1004.0, 30, 10
        crowd.propagation = {"in": {"counts": [3, 1], "sum": 0.2}, "out": {"counts": [5, 1], "sum": 2.0}}
        await seen.look()
        first = seen.beat()
        crowd.up, now[0] = False, 1010.0
        await seen.look()
        second = seen.beat()
        crowd.up, crowd.lsn, now[0] = True, 500, 1012.0
        await seen.look()
        return [first, second, seen.beat()]

    up, down, again = asyncio.run(looks())
    assert up["row"] == [1000, 2.5, 5.0, 50.0, None]
    assert down == {"up": False, "why": "no node runs there"}
    assert again["row"][:3] == [1010, None, None], "the entries that came meanwhile came at no known time"
    assert up["counts"] == {"overview": NODES + 1, "conflicts": 7, "upkeep": 0}


def test_a_page_more_than_there_is_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "WATCHERS_MAX", 2)
    seen = Pulse(database(Crowd()))

    async def watch() -> None:
        pages = [seen.events() for _ in range(2)]
        for page in pages:
            assert (await anext(page))[0] == "history"
        with pytest.raises(BusyError):
            await anext(seen.events())
        for page in pages:
            await page.aclose()
        assert json.loads((await anext(seen.events()))[1]) == []

    asyncio.run(watch())
