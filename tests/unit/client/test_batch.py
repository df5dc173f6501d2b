"""Batches by both APIs, against a real node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import entgldb.aio
from entgldb.client import batch as client_batch
from entgldb.client.database import Database
from entgldb.messages.errors import ExistsError, InvalidError, TooLargeError, VersionError

pytestmark = pytest.mark.slow


def test_a_batch_is_one_transaction_over_several_collections(db: Database) -> None:
    db.set_conflict_rule("stock", "merge")
    apples = db["stock"].put("apples", {"n": 10})
    old = db["users"].put("old", {"name": "Eve"})
    with db.batch() as batch:
        batch["stock"].update("apples", {"$inc": {"n": -1}}, if_version=apples)
        key = batch["orders"].insert({"of": "apples"})
        batch["users"].put("u1", {"name": "Ada"})
        batch["users"].replace("u1", {"name": "Ada", "orders": 1})
        batch["users"].delete("old", if_version=old)
        batch["users"].delete("nobody")
        batch["users"].update("nobody", {"$inc": {"n": 1}})
        assert db["orders"].get(key) is None
        assert batch.versions == []
    assert db["stock"].get("apples") == {"n": 9}
    assert db["orders"].get(key) == {"of": "apples"}
    assert db["users"].get_many(["u1", "old", "nobody"]) == {"u1": {"name": "Ada", "orders": 1}}
    made, none = batch.versions[:5], batch.versions[5:]
    assert [one.seq - apples.seq for one in made if one] == [2, 3, 4, 5, 6], "each an entry after the other"
    assert none == [None, None]


def test_a_refused_write_undoes_the_whole_batch(db: Database) -> None:
    first = db["refused"].put("k", {"n": 1})
    second = db["refused"].put("k", {"n": 2})
    token = db.token()

    def put(**how: object) -> None:
        with db.batch() as batch:
            batch["others"].put("other", {})
            batch["refused"].put("k", {"n": 3}, **how)  # type: ignore[arg-type]  # a version

    def insert() -> None:
        with db.batch() as batch:
            batch["others"].put("other", {})
            batch["refused"].insert({}, key="k")

    def unfit() -> None:
        with db.batch() as batch:
            batch["others"].put("other", {})
            batch["refused"].update("k", {"$push": {"n": 1}})

    for call, kind in (
        (lambda: put(if_version=first), VersionError),
        (insert, ExistsError),
        (unfit, InvalidError),
    ):
        with pytest.raises(kind):
            call()
    assert db.token() == token
    put(if_version=second)
    assert db["refused"].get("k") == {"n": 3}


def test_a_block_that_raises_sends_nothing_and_a_batch_is_for_one_block(db: Database) -> None:
    token = db.token()
    batch = db.batch()
    with pytest.raises(ZeroDivisionError), batch:
        batch["c"].put("k", {"n": 1 / 0})
    with pytest.raises(InvalidError, match="for one block"), batch:
        pass
    with pytest.raises(InvalidError, match="not open"):
        batch["c"].put("k", {})
    with pytest.raises(InvalidError, match="not a JSON object"), db.batch() as other:
        other["c"].put("k", 5)  # type: ignore[arg-type]  # a person without mypy
    with db.batch() as empty:
        pass
    assert (db.token(), empty.versions) == (token, [])


def test_a_document_of_a_batch_knows_its_version_and_keeps_what_others_wrote(db: Database) -> None:
    db.set_conflict_rule("merging", "merge")
    merging = db["merging"]
    merging.put("k", {"a": 1, "b": 1})
    read = merging.get("k")
    assert read is not None
    merging.put("k", {"a": 1, "b": 2})
    with db.batch() as batch:
        read["a"] = 2
        batch["merging"].put("k", read)
    assert merging.get("k") == {"a": 2, "b": 2}
    assert [read.version] == batch.versions


def test_a_named_batch_is_done_once(db: Database) -> None:
    db["named"].put("k", {"n": 0})
    versions = []
    for _ in range(2):
        with db.batch(request="batch 7") as batch:
            batch["named"].update("k", {"$inc": {"n": 1}})
            with pytest.raises(InvalidError, match="repeated with the same keys"):
                batch["named"].insert({})
            batch["named"].put("other", {})
        versions.append(batch.versions)
    assert versions[0] == versions[1]
    assert db["named"].get("k") == {"n": 1}


def test_a_batch_is_bounded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(count: int, document: dict[str, str]) -> None:
        with db.batch() as batch:
            for number in range(count):
                batch["bounded"].put(f"k{number}", document)

    monkeypatch.setattr(client_batch, "GROUP_ENTRIES_MAX", 3)
    with pytest.raises(TooLargeError, match="at most 3 writes"):
        put(4, {})
    monkeypatch.setattr(client_batch, "GROUP_BYTES_MAX", 20)
    with pytest.raises(TooLargeError, match="and 20 bytes"):
        put(2, {"text": "x"})
    assert db["bounded"].count() == 0
    put(2, {"t": "xx"})
    assert db["bounded"].count() == 2


async def insert_with_another(db: entgldb.aio.Database, document: Any, key: str) -> None:
    async with db.batch() as batch:
        batch["aio"].put("other", {})
        batch["aio"].insert(document, key=key)


def test_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            async with db.batch() as batch:
                batch["aio"].put("k", {"n": 1})
                batch["aio"].update("k", {"$inc": {"n": 1}})
            assert await db["aio"].get("k") == {"n": 2}
            assert None not in batch.versions
            for document, key, kind in (({}, "k", ExistsError), (5, "new", InvalidError)):
                with pytest.raises(kind):
                    await insert_with_another(db, document, key)
            assert await db["aio"].count() == 1

    asyncio.run(walk())
