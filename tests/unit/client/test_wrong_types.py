"""A value of a wrong type is refused in words, before anything is sent, and with the way out."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.messages import strict_json
from entgldb.messages.errors import ConfigError, InvalidError

WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "key of get": (lambda db: db["t"].get(3), "a key is a text, not 3, of type int"),
    "key of put": (lambda db: db["t"].put(b"k", {}), "a key is a text, not b'k', of type bytes"),
    "key of put_many": (lambda db: db["t"].put_many([(1, {})]), "a key is a text"),
    "key of delete": (lambda db: db["t"].delete(None), "a key is a text"),
    "keys": (lambda db: db["t"].get_many("abc"), "give a list of keys"),
    "collection": (lambda db: db[3].count(), "the name of a collection is a text"),
    "order": (lambda db: list(db["t"].find(sort=[("age", -1)])), '"-age" for descending'),
    "number as order": (lambda db: list(db["t"].find(sort=3)), "3 is no order"),
    "path": (lambda db: db["t"].distinct(3), "a field path is a text"),
    "index": (lambda db: db["t"].create_index(3), "3 is no order"),
    "token": (lambda db: list(db.changes(since=3)), "a change token is a text"),
    "life": (lambda db: db["t"].put("k", {}, expire_after="1h"), "expire_after is '1h'"),
    "name": (lambda db: db["t"].put("k", {1: 2}), r"the name 1, of type int, in it.*str\(name\)"),
    "name below": (lambda db: db["t"].put("k", {"a": [{"b": {None: 1}}]}), r"None, .* in a\[0\]\.b"),
    "name of an update": (
        lambda db: db["t"].update("k", {"$set": {"a": {1: 2}}}),
        r"the name 1.*in \$set\.a",
    ),
    "not a number": (lambda db: db["t"].put("k", {"a": [math.nan]}), r"nan in a\[0\].*store None"),
    "time": (lambda db: db["t"].put("k", {"a": datetime.datetime.now()}), r"datetime in a.*isoformat\(\)"),
    "decimal": (lambda db: db["t"].put("k", {"a": decimal.Decimal(1)}), r"Decimal in a.*store str\(value\)"),
    "uuid": (lambda db: db["t"].insert({"a": uuid.uuid4()}), r"UUID in a.*store str\(value\)"),
    "bytes": (lambda db: db["t"].put("k", {"a": {"b": b""}}), r"bytes in a\.b.*base64"),
    "set": (lambda db: db["t"].put("k", {"a": {1}}), "set in a.*store a list"),
    "any other": (lambda db: db["t"].put("k", {"a": object()}), "object in a.*store texts, numbers"),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with entgldb.open(tmp_path_factory.mktemp("db")) as opened:
        yield opened


@pytest.mark.parametrize("case", WRONG)
def test_it_is_refused_in_words(database: Database, case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(InvalidError) as told:
        call(database)
    assert re.search(words, f"{told.value} {told.value.hint}")
    assert database["t"].count() == 0


def test_what_holds_itself_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_LOOKED_AT_MAX", 100)
    ring: dict[str, Any] = {}
    ring["a"] = [ring]
    with pytest.raises(InvalidError, match="Circular"):
        database["t"].put("k", ring)
    ring["b"] = {1}
    with pytest.raises(InvalidError):
        database["t"].put("k", ring)


def test_a_file_is_no_directory_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"notes\.txt is a file"):
        entgldb.open(tmp_path / "notes.txt")


def test_databases_and_collections_say_which_they_are(database: Database) -> None:
    assert repr(database) == f"<Database {database.directory}>"
    assert repr(database["t"]) == f"<Collection 't' of {database.directory}>"
