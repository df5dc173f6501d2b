"""Indexes through both APIs and the command line, against a real node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from entgldb import aio
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.errors import ExistsError, InvalidError, NotFoundError

pytestmark = pytest.mark.slow


def test_indexes_are_made_listed_used_and_dropped(db: Database) -> None:
    books = db["books"]
    books.put_many(
        {f"b{n}": {"title": f"Tree number {n}", "isbn": n, "tags": ["wood", f"t{n % 3}"]} for n in range(9)}
    )
    assert books.create_index("isbn", unique=True) == "isbn"
    assert books.create_index(["tags", "-isbn"], where={"isbn": {"$lt": 8}}, name="tagged") == "tagged"
    assert books.create_index("title", text=True) == "text"
    assert [(one.name, one.unique, one.where, one.text, one.ready) for one in books.indexes()] == [
        ("isbn", True, None, False, True),
        ("tagged", False, {"isbn": {"$lt": 8}}, False, True),
        ("text", False, None, True, True),
    ]
    assert db.indexes("books") == books.indexes()
    with pytest.raises(ExistsError, match="b1 has isbn = 1 already, and the index isbn is unique"):
        books.put("new", {"isbn": 1})
    assert [one["isbn"] for one in books.find({"tags": "t1", "isbn": {"$lt": 8}}, sort="-isbn")] == [7, 4, 1]
    (found,) = books.find({"$text": "numb* 7"}, limit=5, highlight=("<b>", "</b>"))
    assert (found.key, found.snippet) == ("b7", "Tree <b>number</b> <b>7</b>")
    read = books.get("b7")
    assert read is not None
    assert read.snippet is None
    assert books.shared_values("isbn") == []
    books.rebuild_index("isbn")
    for name in ("isbn", "tagged", "text"):
        books.drop_index(name)
    assert books.indexes() == []
    with pytest.raises(NotFoundError):
        books.drop_index("isbn")
    with pytest.raises(InvalidError):
        books.create_index([])


def test_the_asyncio_twins(directory: Path) -> None:
    async def go() -> None:
        async with aio.connect(directory) as db:
            notes = db["notes"]
            await notes.put_many({"a": {"text": "an apple"}, "b": {"text": "a pear"}})
            assert await notes.create_index("text", text=True, everywhere=True) == "text"
            assert [one.everywhere for one in await notes.indexes()] == [True]
            assert await db.indexes("notes") == await notes.indexes()
            found = [one async for one in notes.find({"$text": "apple"}, limit=1, highlight=("[", "]"))]
            assert [one.snippet for one in found] == ["an [apple]"]
            await notes.create_index("n", unique=True)
            assert await notes.shared_values("n") == []
            await notes.rebuild_index("text")
            await notes.drop_index("text")
            with pytest.raises(NotFoundError):
                await notes.drop_index("text")

    asyncio.run(go())


def verb(capsys: pytest.CaptureFixture[str], directory: Path, *words: str, code: int = 0) -> Any:
    """The output, or the error, of ``entgldb index``."""
    name, *rest = words
    assert run(command, ["index", name, "-d", str(directory), *rest]) == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def test_the_verbs(db: Database, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db["shop"].put_many({f"s{n}": {"city": "Rome", "total": n, "open": n % 2 == 0} for n in range(4)})
    assert verb(capsys, directory, "create", "shop", "city") == "indexed shop: city\n"
    open_ones = (
        "create",
        "--json",
        "--where",
        '{"open": true}',
        "--name",
        "open",
        "shop",
        "--",
        "city",
        "-total",
    )
    made = json.loads(verb(capsys, directory, *open_ones))
    assert (made["schema_version"], made["name"], made["paths"], made["where"], made["ready"]) == (
        1,
        "open",
        ["city", "-total"],
        {"open": True},
        True,
    )
    assert (
        verb(capsys, directory, "create", "shop", "total", "--unique", "--everywhere")
        == "indexed shop: total\n"
    )
    assert verb(capsys, directory, "list", "shop") == (
        "shop\tcity\tcity\t\n"
        'shop\topen\tcity, -total\twhere {"open": true}\n'
        "shop\ttotal\ttotal\tunique, everywhere\n"
    )
    listed = json.loads(verb(capsys, directory, "list", "--json"))
    assert {"city", "open", "total"} <= {one["name"] for one in listed["indexes"]}
    assert listed["refused"] == []
    assert verb(capsys, directory, "shared", "shop", "total") == ""
    assert json.loads(verb(capsys, directory, "shared", "shop", "total", "--json"))["shared"] == []
    assert "is built again" in verb(capsys, directory, "rebuild", "shop", "city")
    assert verb(capsys, directory, "drop", "shop", "total") == "dropped total of shop\n"
    assert json.loads(verb(capsys, directory, "drop", "shop", "city", "--json"))["dropped"] == "city"
    assert verb(capsys, directory, "drop", "shop", "city", code=3) == (
        "not-found: shop has no index 'city'. Try: it has open\n"
    )
    assert "another index 'open'" in verb(capsys, directory, "create", "shop", "x", "--name", "open", code=1)
    assert "usage:" in verb(capsys, directory, "create", "shop", code=2)
    assert "--where is no JSON" in verb(capsys, directory, "create", "shop", "x", "--where", "{", code=2)
