"""Reading by filters through both APIs and the command line, and the examples of docs/queries.md."""

from __future__ import annotations

import asyncio
import doctest
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.aio.database import Database as AioDatabase
from entgldb.client.aio.requests import Requests
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.errors import InvalidError, UnsupportedError
from tests.support.documents import reader_of

PAGE = Path(__file__).parents[3] / "docs" / "queries.md"
ROWS = [json.loads(line) for line in re.findall(r"^\{\"_key\".*$", PAGE.read_text(), re.MULTILINE)]
ORDERS = {row["_key"]: {name: row[name] for name in row if name != "_key"} for row in ROWS}
SPENT = {"$group": {"_id": None, "n": {"$count": {}}}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("queries")
    bodies = {"orders": ORDERS, "many": {f"{n:04}": {"n": n} for n in range(1200)}}
    with reader_of(folder, bodies, ("many", "n")):
        yield folder


@pytest.fixture(scope="module")
def db(directory: Path) -> Iterator[Database]:
    with Database(directory) as opened:
        yield opened


def test_field_names_of_any_script_are_names_like_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = {"😀": 2, "a😀": {"ü": 1}}, {"😀": 1}
    with entgldb.open(tmp_path) as opened:
        signs = opened["signs"]
        signs.put_many({"k": first, "l": second})
        signs.create_index("😀")
        assert list(signs.find({"a😀.ü": 1})) == [first]
        assert list(signs.find(sort="😀")) == [second, first]
        assert "the index on 😀" in str(signs.explain({"😀": 1}))
        with pytest.raises(UnsupportedError, match=r"\$😀 is not supported"):
            list(signs.find({"a😀": {"$😀": 1}}))
    assert run(command, ["find", "signs", '{"😀": {"$gt": 1}}', "-d", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["document"] == first


def test_the_examples_of_the_page_are_true(db: Database) -> None:
    # a line that ends a code block is none of an example
    examples = PAGE.read_text().replace("\n```", "\n")
    test = doctest.DocTestParser().get_doctest(examples, {"orders": db["orders"]}, "queries.md", None, 0)
    told: list[str] = []
    done = doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert not done.failed, "".join(told)
    assert done.attempted > 15


def test_the_page_names_every_limit() -> None:
    from entgldb.storage.documents import finding, order
    from entgldb.storage.rules import field_path
    from entgldb.storage.rules.filtering import aggregate, cursor, parser, pattern, projection, regex

    page = PAGE.read_text()
    modules: list[Any] = [finding, order, field_path, aggregate, cursor, parser, pattern, projection, regex]
    limits = {name: value for one in modules for name, value in vars(one).items() if name.endswith("_MAX")}
    named = {name: value for name, value in limits.items() if f"`{name}`" in page}
    kept_inside = {"PAGE_ROWS_MAX", "SETS_MAX", "DEPTH_MAX"}
    assert set(limits) - set(named) == kept_inside
    for name, value in named.items():
        assert re.search(rf"`{name}` = {value:,}\b|`{name}` = {value}\b", page), name


def test_a_part_of_a_document_cannot_be_put_by_mistake(db: Database) -> None:
    part = db["orders"].find_one({"city": "Rome"}, fields="total")
    assert part is not None
    assert (part.key, part) == ("o2", {"total": 7})
    assert part.version is not None
    with pytest.raises(InvalidError, match="was read with fields="):
        db["orders"].put("o2", part)


def test_cursors_go_on_through_pages_of_any_size(db: Database) -> None:
    first = db["many"].find({}, sort="-n", limit=700)
    assert first.cursor is None
    assert [document["n"] for document in first] == [*range(1199, 499, -1)]
    rest = db["many"].find({}, sort="-n", after=first.cursor, fields="n")
    assert [next(rest)["n"] for _ in range(3)] == [499, 498, 497]
    assert next(db["many"].find({}, sort="-n", after=rest.cursor))["n"] == 496
    none = db["many"].find({"n": -1}, sort="-n", after=rest.cursor)
    assert [*none] == []
    assert none.cursor == rest.cursor


def test_the_twin_for_asyncio_reads_the_same(directory: Path, db: Database) -> None:
    async def read() -> None:
        blocking = Database(directory)
        twin = AioDatabase(blocking, Requests(directory, 5.0, 4))
        orders, many = twin["orders"], twin["many"]
        page = many.find({}, sort="-n", limit=3)
        assert [document["n"] async for document in page] == [1199, 1198, 1197]
        more = many.find({}, sort="-n", limit=1, after=page.cursor, fields=["n"])
        assert [document["n"] async for document in more] == [1196]
        assert await orders.find_one({"city": "ROME"}, collation="nocase") == ORDERS["o2"]
        assert await orders.count({"city": "ROME"}, collation="nocase") == 1
        assert await orders.distinct("tags") == ["gift", "late"]
        assert await orders.aggregate([SPENT]) == [{"_id": None, "n": 4}]
        assert str(await orders.explain({})) == str(db["orders"].explain({}))
        with pytest.raises(UnsupportedError):
            [one async for one in orders.find({"a": {"$foo": 1}})]
        await twin.close()

    asyncio.run(read())


def verb(capsys: pytest.CaptureFixture[str], directory: Path, *words: str, code: int = 0) -> tuple[str, str]:
    assert run(command, [words[0], "-d", str(directory), *words[1:]]) == code
    return capsys.readouterr()


def test_verbs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ["--limit", "2", "--sort", "n", "--sort", "-m"]
    out, note = verb(capsys, directory, "find", "many", '{"n": {"$gte": 7}}', *many)
    assert out == '0007\t{"n": 7}\n0008\t{"n": 8}\n'
    after = note.removeprefix("note: there may be more. Try: --after ").strip()
    out, _ = verb(capsys, directory, "find", "many", *many, "--after", after, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["key"] for line in lines] == ["0009", "0010"]
    out, _ = verb(capsys, directory, "find", "many", *many, "--after", lines[0]["cursor"])
    assert out.startswith("0010")
    out, _ = verb(capsys, directory, "find", "orders", '{"city": "ROME"}', "--nocase", "--fields", "total")
    assert out == 'o2\t{"total": 7}\n'
    out, _ = verb(capsys, directory, "find", "many", '{"n": 5}', "--explain")
    assert out == "1 of 1,200 documents are looked at, by the index on n; 1 match.\n"
    out, _ = verb(capsys, directory, "find", "many", '{"n": 5}', "--explain", "--json")
    assert json.loads(out)["indexes"] == ["n"]
    assert verb(capsys, directory, "count", "orders", '{"city": "ROME"}', "--nocase")[0] == "1\n"


def test_verbs_that_add_up(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(capsys, directory, "distinct", "orders", "tags")[0] == '"gift"\n"late"\n'
    out, _ = verb(capsys, directory, "distinct", "orders", "tags", '{"city": "Turin"}', "--json")
    assert json.loads(out)["values"] == ["gift"]
    out, _ = verb(capsys, directory, "aggregate", "orders", json.dumps([SPENT]))
    assert json.loads(out) == {"_id": None, "n": 4}
    out, _ = verb(capsys, directory, "aggregate", "orders", json.dumps([SPENT]), "--json")
    assert json.loads(out)["result"] == {"_id": None, "n": 4}
    _, fault = verb(capsys, directory, "aggregate", "orders", "{}", code=2)
    assert fault.startswith("invalid: the pipeline is no JSON array. Try: ")
    _, fault = verb(capsys, directory, "aggregate", "orders", '[{"$grop": {}}]', code=2)
    assert fault.startswith("unsupported: a stage '$grop' is not supported. Try: $group")
    _, fault = verb(capsys, directory, "find", "orders", "--after", "x", code=2)
    assert fault == "invalid: 'x' is no cursor. Try: use one that a find gave\n"
