"""Slow queries are noted by their form and plan, in files of bounded size, and no value of them is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.client.forms import found
from entgldb.client.upkeep import slow
from entgldb.client.upkeep.slow import FILE, PARTS_MAX, form


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The folder of a node's log; there is no node."""
    made = tmp_path / "log"
    made.mkdir()
    return made


def rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (log / FILE).read_text().splitlines()]


def ask(db: Database) -> None:
    list(db["users"].find({"name": "canary", "age": {"$in": [1, 2]}}, sort="-age", limit=5))
    db["users"].count({"name": "canary"})
    db["users"].distinct("age", {"name": {"$not": {"$eq": None}}})


def test_a_slow_query_is_noted_with_its_plan_and_without_its_values(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "SLOW_SECONDS", 1000.0)
    with entgldb.open(log.parent) as db:
        db["users"].put("u1", {"name": "canary", "age": 1})
        ask(db)
        assert list(log.iterdir()) == []
        monkeypatch.setattr(found, "SLOW_SECONDS", 0.0)
        ask(db)
        db["users"].create_index("name")
        db["users"].count({"name": "canary"})
    find, count, distinct, indexed = rows(log)
    assert (find["verb"], find["collection"], find["sort"]) == ("find", "users", "-age")
    assert find["filter"] == {"name": "text", "age": {"$in": ["number", "number"]}}
    assert (find["indexes"], find["missing"]) == ([], ["name"])
    assert any("TEMP B-TREE" in step for step in find["steps"])
    assert find["seconds"] >= 0
    assert (count["verb"], distinct["verb"]) == ("count", "distinct")
    assert distinct["filter"] == {"name": {"$not": {"$eq": "null"}}}
    assert (len(indexed["indexes"]), indexed["missing"]) == (1, [])
    assert "canary" not in (log / FILE).read_text()


def test_files_and_lines_are_bounded(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(slow, "FILE_BYTES_MAX", 1000)
    with entgldb.open(log.parent) as db:
        for number in range(20):
            db["users"].count({f"field{number}": number})
        old = log / f"{FILE}.1"
        assert {file.name for file in log.iterdir()} <= {FILE, old.name}
        assert 1000 < old.stat().st_size < 1500
        for file in log.iterdir():
            file.unlink()
        long = [{f"{letter * 200}{number}": 1 for letter in "xy"} for number in range(PARTS_MAX)]
        db["users"].count({"$or": long})
    (row,) = rows(log)
    assert (row["filter"], row["missing"]) == ("too long to be told", [])


def test_of_a_long_array_the_first_elements_are_told() -> None:
    told = form({"n": {"$in": list(range(PARTS_MAX + 5))}})
    assert told == {"n": {"$in": ["number"] * PARTS_MAX + ["and 5 more"]}}


def test_without_a_log_to_write_to_a_query_is_answered_all_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "SLOW_SECONDS", 0.0)
    with entgldb.open(log.parent) as db:
        db["users"].put("u1", {})
        (log / FILE).mkdir()
        assert db["users"].count() == 1
        (log / FILE).rmdir()
        log.rmdir()
        assert db["users"].count() == 1
    assert not log.exists()
