"""Verbs and both APIs about merging, histories and deleted documents, against a real node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import entgldb.aio
from entgldb.client.conflicts import read_version
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.errors import EntglError, InvalidError, NotFoundError
from entgldb.messages.model import Version


@pytest.mark.slow
def test_the_blocking_api(directory: Path) -> None:
    with entgldb.connect(directory) as db:
        assert db.conflict_rule("users") == "lww"
        assert db.set_conflict_rule("users", "merge") is True
        assert db.set_conflict_rule("users", "merge") is False
        assert db.conflict_rule("users") == "merge"
        with pytest.raises(InvalidError, match="is none of"):
            db.set_conflict_rule("users", "both")
        users = db["users"]
        first = users.put("u1", {"name": "Ada", "age": 36})
        assert users.put("u1", {"age": 36, "name": "Ada"}) == first
        second = users.put("u1", {"name": "Ada", "age": 37})
        users.delete("u1")
        assert [past.version for past in users.history("u1").versions][1:] == [second, first]
        users.undelete("u1")
        assert users.get("u1") == {"name": "Ada", "age": 37}
        with pytest.raises(EntglError, match="not deleted"):
            users.undelete("u1")
        for take in ("loser", {"name": "x"}):
            with pytest.raises(NotFoundError, match="is no conflict of users/u1"):
                db.resolve("users", "u1", second, take)


@pytest.mark.slow
def test_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            await db.set_conflict_rule("notes", "merge")
            assert await db.conflict_rule("notes") == "merge"
            notes = db["notes"]
            await notes.put("n", {"text": "x"})
            await notes.delete("n")
            await notes.undelete("n")
            assert [past.op for past in (await notes.history("n")).versions] == [
                "merge",
                "merge-delete",
                "merge",
            ]
            with pytest.raises(NotFoundError):
                await db.resolve("notes", "n", Version("nobody", 1), "winner")

    asyncio.run(walk())


@pytest.mark.slow
def test_the_verbs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert run(command, [arguments[0], "-d", str(directory), *arguments[1:]]) == code
        captured = capsys.readouterr()
        return captured.out or captured.err

    assert said("collection", "c") == "c: lww\n"
    assert said("collection", "c", "--conflict", "merge") == "c: merge, now on its way to all nodes\n"
    assert json.loads(said("collection", "c", "--json"))["conflict"] == "merge"
    said("put", "c", "k", '{"a": 1}')
    said("put", "c", "k", '{"a": 1, "b": 2}')
    said("delete", "c", "k")
    lines = said("history", "c", "k").splitlines()
    assert [line.split("\t")[1:3] for line in lines if "\t" in line] == [
        ["merge-delete", "current"],
        ["merge", "replaced"],
        ["merge", "replaced"],
    ]
    told = json.loads(said("history", "--json", "c", "k"))
    assert told["versions"][1]["change"] == {".b": 2}
    assert told["endings"] == []
    assert said("undelete", "c", "k").startswith("brought back c/k as lan-1/")
    assert "already-exists" in said("undelete", "c", "k", code=1)
    assert "not-found" in said("history", "c", "none", code=3)
    assert said("conflicts") == "note: no version waits for a decision\n"
    assert said("conflicts", "--json") == ""
    assert "not-found" in said("resolve", "c", "k", "lan-1/0:7", "--take", "loser", code=3)
    assert "usage" in said("resolve", "c", "k", "lan-1/0:7", code=2)


def test_a_version_is_read_as_it_is_printed() -> None:
    assert read_version("lan-1/00ff:17") == Version("lan-1/00ff", 17)
    for bad in ("17", "lan-1/00ff", "lan-1/00ff:x", "lan-1/00ff:-1"):
        with pytest.raises(InvalidError, match="is not a version"):
            read_version(bad)


def test_a_conflict_is_shown_with_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unittest.mock import patch

    from entgldb.storage.documents.conflicts import Conflict

    lost = Conflict("c", "k", Version("a/0", 3), {"x": 1}, 5, "merge", Version("b/0", 4), {"x": 2}, 6)
    gone = lost._replace(winner_document=None)
    with (
        patch.object(Database, "conflicts", lambda self, collection: [lost, gone]),
        patch("entgldb.launch.cli.data.conflicts.hint_at"),
    ):
        assert run(command, ["conflicts", "-d", str(tmp_path), "c"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "c\tk\tmerge",
            '  lost\ta/0:3\t{"x": 1}',
            '  stands\tb/0:4\t{"x": 2}',
            "c\tk\tmerge",
            '  lost\ta/0:3\t{"x": 1}',
            "  stands\tb/0:4\tdeleted",
        ]
        assert run(command, ["conflicts", "-d", str(tmp_path), "--json"]) == 0
        first = json.loads(capsys.readouterr().out.splitlines()[0])
        assert first["winner"] == {"version": {"origin": "b/0", "seq": 4}, "document": {"x": 2}, "at_ms": 6}


@pytest.mark.slow
def test_what_a_client_read_and_changed_keeps_what_others_wrote_meanwhile(
    directory: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with entgldb.connect(directory) as db, entgldb.connect(directory) as other:
        db.set_conflict_rule("shared", "merge")
        mine, theirs = db["shared"], other["shared"]
        first = mine.put("k", {"x": 0, "y": 0})
        document = mine.get("k")
        assert document is not None
        assert document.version == first
        changed = theirs.get("k") | {"y": 1}  # type: ignore[operator]  # it is there
        theirs.put("k", changed)
        document["x"] = 1
        version = mine.put("k", document)
        assert mine.get("k") == {"x": 1, "y": 1}
        # the same object, changed and put again: its own writes are no conflict
        document["x"] = 2
        assert document.version == version
        mine.put("k", document)
        assert mine.get("k") == {"x": 2, "y": 1}
        assert db.conflicts("shared") == []
        # put as it is: nothing is written
        assert document.version == mine.put("k", document)
        # found, and put with many others
        (found,) = mine.find({"x": 2})
        theirs.put("k", {"x": 2, "y": 5})
        mine.put_many([("k", found | {"z": 1}), ("l", {"z": 2})])
        assert mine.get("k") == {"x": 2, "y": 5, "z": 1}
        # an ordinary object is put whole, and so is a document in another collection
        mine.put("k", dict(found))
        assert mine.get("k") == {"x": 2, "y": 1}
        mine.put("l", found)
        db["elsewhere"].put("k", found)
        assert db["elsewhere"].get("k") == mine.get("l") == {"x": 2, "y": 1}
    got = tmp_path / "got.json"
    assert run(command, ["get", "-d", str(directory), "shared", "k", "--json"]) == 0
    got.write_text(capsys.readouterr().out)
    put = ["put", "-d", str(directory), "shared"]
    assert run(command, [*put, "k", '{"x": 2, "y": 7}']) == 0
    assert run(command, [*put, "k", '{"x": 8, "y": 1}', "--base", str(got)]) == 0
    assert run(command, ["get", "-d", str(directory), "shared", "k"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"x": 8, "y": 7}
    assert run(command, [*put, "l", "{}", "--base", str(got)]) == 2
    assert "is not what was got of shared/l" in capsys.readouterr().err


@pytest.mark.slow
def test_so_does_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db, entgldb.aio.connect(directory) as other:
            await db.set_conflict_rule("shared", "merge")
            mine = db["shared"]
            await mine.put("a", {"x": 0, "y": 0})
            document = await mine.get("a")
            assert document is not None
            await other["shared"].put("a", (await other["shared"].get("a")) | {"y": 1})  # type: ignore[operator]  # it is there
            document["x"] = 1
            assert document.version != await mine.put("a", document.copy())
            assert await mine.get("a") == {"x": 1, "y": 1}
            document["x"] = 2
            await mine.put_many({"a": document})
            assert await mine.get("a") == {"x": 2, "y": 1}

    asyncio.run(walk())
