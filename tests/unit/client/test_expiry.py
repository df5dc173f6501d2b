"""Documents that expire, by both APIs and the command line, against a real node."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import click
import pytest

import entgldb.aio
from entgldb.client import writes
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.data.durations import read_duration, told
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.errors import ExistsError, InvalidError
from entgldb.messages.limits import LIFE_MS_MAX
from tests.system.support.kernel_view import eventually

MINUTE = 60.0


def moments(directory: Path, collection: str) -> dict[str, float]:
    """Key -> seconds from the writing of a document to its moment; 0 where it has none."""
    with Database(directory) as db:
        rows = db.documents.put_to(
            lambda connection: connection.execute(
                "SELECT key, ifnull(expires, 0), hlc >> 16 FROM _entgldb_documents WHERE collection = ?",
                (collection,),
            ).fetchall()
        )
    return {key: (expires - at) / 1000 if expires else 0.0 for key, expires, at in rows}


@pytest.mark.slow
def test_the_blocking_api(directory: Path) -> None:
    with entgldb.connect(directory) as db:
        assert db.expiry("sessions") is None
        assert db.set_expiry("sessions", 5 * MINUTE) is True
        assert db.set_expiry("sessions", 5 * MINUTE) is False
        assert db.expiry("sessions") == 5 * MINUTE
        sessions = db["sessions"]
        sessions.put("rule", {})
        sessions.put("own", {}, expire_after=MINUTE)
        sessions.put("never", {}, expire_after=math.inf)
        sessions.replace("replaced", {}, expire_after=MINUTE)
        sessions.insert({}, key="inserted", expire_after=MINUTE)
        sessions.put_many({"m1": {}, "m2": {}}, expire_after=MINUTE)
        sessions.insert_many({"i1": {}, "i2": {}}, expire_after=0.0004)
        assert db.set_expiry("sessions", None) is True
        sessions.put("after", {})
        found = moments(directory, "sessions")
        shown = {
            key: found[key] for key in ("rule", "own", "never", "replaced", "inserted", "m1", "m2", "after")
        }
        assert list(shown.values()) == [300, 60, 0, 60, 60, 60, 60, 0]
        assert found["i1"] == found["i2"] == 0.001
        for seconds in (0, -1, LIFE_MS_MAX, math.nan, True):
            with pytest.raises(InvalidError, match="expire_after is"):
                sessions.put("bad", {}, expire_after=seconds)
        with pytest.raises(InvalidError):
            db.set_expiry("_system_nodes", MINUTE)


@pytest.mark.slow
def test_a_document_goes_by_itself_and_a_feed_tells_it(directory: Path) -> None:
    with entgldb.connect(directory) as db:
        token = db.token()
        version = db["short"].put("k", {"a": 1}, expire_after=0.2)
        db["short"].put("stays", {"a": 1})
        eventually(lambda: db["short"].get("k") is None, "the document has expired", seconds=10)
        feed = {change.key: change for change in db["short"].changes(since=token)}
        assert (feed["k"].document, feed["k"].version) == (None, version)
        assert feed["stays"].document == {"a": 1}
        assert [past.state for past in db["short"].history("k").versions] == ["expired"]


@pytest.mark.slow
def test_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            assert await db.set_expiry("notes", 5 * MINUTE) is True
            assert await db.expiry("notes") == 5 * MINUTE
            notes = db["notes"]
            await notes.put("rule", {})
            await notes.put("own", {}, expire_after=MINUTE)
            await notes.replace("replaced", {}, expire_after=MINUTE)
            await notes.insert({}, key="inserted", expire_after=MINUTE)
            await notes.put_many({"m": {}}, expire_after=MINUTE)
            await notes.insert_many({"i": {}}, expire_after=math.inf)

    asyncio.run(walk())
    assert moments(directory, "notes") == {
        "rule": 300, "own": 60, "replaced": 60, "inserted": 60, "m": 60, "i": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_the_verbs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert run(command, [arguments[0], "-d", str(directory), *arguments[1:]]) == code
        written = capsys.readouterr()
        return written.out + written.err

    assert said("collection", "verbs") == "verbs: lww\n"
    assert said("collection", "verbs", "--expire-after", "30d").endswith(
        "verbs: lww, expires after 30d, now on its way to all nodes\n"
    )
    facts = json.loads(said("collection", "verbs", "--json"))
    assert (facts["conflict"], facts["expire_after"], facts["changed"]) == ("lww", 30 * 86_400, False)
    said("put", "verbs", "rule", "{}")
    said("put", "verbs", "own", "{}", "--expire-after", "90s")
    said("insert", "verbs", "{}", "--key", "new", "--expire-after", "15m")
    said("put", "verbs", "never", "{}", "--expire-after", "never")
    assert moments(directory, "verbs") == {"rule": 30 * 86_400, "own": 90, "new": 900, "never": 0}
    assert "is not like 90s, 15m" in said("put", "verbs", "bad", "{}", "--expire-after", "soon", code=2)
    assert "expire_after is 0.0" in said("put", "verbs", "bad", "{}", "--expire-after", "0", code=2)
    assert said("collection", "verbs", "--expire-after", "never").endswith("now on its way to all nodes\n")
    assert said("collection", "verbs") == "verbs: lww\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5m", 90.0),
        ("12h", 43_200.0),
        ("30d", 2_592_000.0),
        ("never", math.inf),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1", "1w", "1 d", "1e9", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "never"), (90.0, "90s"), (0.5, "0.5s"), (900.0, "15m"), (2_592_000.0, "30d")]
)
def test_a_duration_is_told_as_it_is_read(seconds: float | None, text: str) -> None:
    assert told(seconds) == text


def test_seconds_become_milliseconds() -> None:
    assert [writes.life(seconds) for seconds in (None, math.inf, 0.0001, 1, 2.5)] == [None, 0, 1, 1000, 2500]


def test_a_store_without_a_node_hides_it_when_it_is_used(tmp_path: Path) -> None:
    with entgldb.open(tmp_path / "d") as db:
        db["c"].put("k", {"a": 1}, expire_after=0.001)

        def gone() -> bool:
            db["c"].put("other", {})
            return db["c"].get("k") is None

        eventually(gone, "the document has expired", seconds=10)


@pytest.mark.slow
def test_a_unique_value_is_free_once_its_document_has_expired(directory: Path) -> None:
    with entgldb.connect(directory) as db:
        codes = db["codes"]
        codes.create_index("code", unique=True)
        codes.put("a", {"code": 7}, expire_after=0.2)
        with pytest.raises(ExistsError):
            codes.put("b", {"code": 7})
        eventually(lambda: not list(codes.find({"code": 7})), "the document has expired", seconds=10)
        codes.put("b", {"code": 7})
        assert [found.key for found in codes.find({"code": 7})] == ["b"]
