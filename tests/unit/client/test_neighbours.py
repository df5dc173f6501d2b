"""The tools that people have beside us: pandas, polars, DuckDB, Datasette."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.messages.errors import InvalidError, UnsupportedError
from tests.support.one_node import one_node

pytestmark = pytest.mark.slow
PAUSE_SECONDS = 0.1
WRITES_TOGETHER = 50


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with one_node(tmp_path_factory) as made:
        with entgldb.connect(made) as db:
            db["cities"].put("a", {"name": "Aachen", "size": 250, "tags": ["spa"]})
            db["cities"].put("b", {"name": "Bonn", "size": 330})
            db["mixed"].put_many({"1": {"v": 1}, "2": {"v": "text"}})
            db["large"].put("1", {"v": 10**60})
            db["numbers"].put_many({"1": {"v": 1}, "2": {"v": 2.5}, "3": {}})
            db["own"].put("1", {"_key": "x"})
        yield made


def test_pandas_has_a_column_a_field_and_the_keys_as_index(db: Database) -> None:
    import pandas

    frame = db["cities"].to_pandas(sort="-size")
    assert list(frame.index) == ["b", "a"]
    assert frame.index.name == "_key"
    assert frame.loc["a", "tags"] == ["spa"]
    assert frame["size"].sum() == 580
    assert db["cities"].to_pandas({"size": {"$gt": 300}}).shape == (1, 2)
    assert isinstance(db["nothing"].to_pandas(), pandas.DataFrame)
    assert list(db["mixed"].to_pandas()["v"]) == [1, "text"]
    assert list(db["own"].to_pandas()["_key"]) == ["x"]


def test_polars_has_the_keys_as_a_column(db: Database) -> None:
    import polars

    frame = db["cities"].to_polars()
    assert frame.to_dicts() == [
        {"_key": "a", "name": "Aachen", "size": 250, "tags": ["spa"]},
        {"_key": "b", "name": "Bonn", "size": 330, "tags": None},
    ]
    assert isinstance(db["nothing"].to_polars(), polars.DataFrame)
    with pytest.raises(InvalidError, match="fits no column of one type"):
        db["mixed"].to_polars()
    with pytest.raises(InvalidError, match="fits no column"):
        db["large"].to_polars()
    assert db["numbers"].to_polars()["v"].to_list() == [1.0, 2.5, None]
    with pytest.raises(InvalidError, match="own has documents with a field _key"):
        db["own"].to_polars()


def test_a_library_that_is_not_there_is_named(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match="to_arrow needs pyarrow") as caught:
        db["cities"].to_arrow()
    assert caught.value.hint == "pip install pyarrow"


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Some 500 documents a second flow into ``flow``, WRITES_TOGETHER in a transaction."""
    ended, begun = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def write() -> None:
        try:
            with entgldb.connect(directory) as db:
                first = db["flow"].count()
                while not ended.wait(PAUSE_SECONDS):
                    db["flow"].put_many(
                        {f"{first + n}": {"n": n} for n in range(WRITES_TOGETHER)}, atomic=True
                    )
                    first += WRITES_TOGETHER
                    begun.set()
        except BaseException as fault:
            faults.append(fault)
            raise

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(20)
        yield
    finally:
        ended.set()
        thread.join()
    assert not faults


def test_duckdb_reads_the_views_while_others_write(directory: Path) -> None:
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("sqlite_scanner")
    with writing(directory), duckdb.connect() as connection:
        connection.execute("LOAD sqlite_scanner")
        connection.execute(f"ATTACH '{directory}/entgldb.db' AS node (TYPE sqlite, READ_ONLY)")
        rows = connection.execute(
            "SELECT key, json_extract_string(body, '$.name') FROM node.cities ORDER BY key"
        ).fetchall()
        counts = [connection.execute("SELECT count(*) FROM node.flow").fetchall()[0][0]]
        while counts[-1] < counts[0] + 3 * WRITES_TOGETHER:
            counts += connection.execute("SELECT count(*) FROM node.flow").fetchall()[0]
    assert rows == [("a", "Aachen"), ("b", "Bonn")]
    assert counts == sorted(counts)
    assert {count % WRITES_TOGETHER for count in counts} == {0}, "a transaction was seen in parts"


def test_datasette_serves_the_views_while_others_write(directory: Path) -> None:
    with writing(directory):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "datasette",
                str(directory / "entgldb.db"),
                "--get",
                "/entgldb/cities.json?_shape=array",
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert [(row["key"], json.loads(row["body"])["name"]) for row in json.loads(done.stdout)] == [
        ("a", "Aachen"),
        ("b", "Bonn"),
    ]
