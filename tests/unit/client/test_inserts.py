"""Inserts and writes for one version alone, by both APIs and the verbs, against a real node."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import entgldb.aio
from entgldb.client.database import Database
from entgldb.messages.errors import ExistsError, InvalidError, NoAnswerError, VersionError
from entgldb.messages.model import Version

pytestmark = pytest.mark.slow


Says = Callable[..., str]


def test_an_insert_gives_the_document_with_its_key_and_version(db: Database) -> None:
    users = db["users"]
    made = users.insert({"name": "Ada", "tags": ["a"]})
    assert made == {"name": "Ada", "tags": ["a"]}
    found = users.get(made.key)
    assert found is not None
    assert (found, found.version) == (made, made.version)
    later = users.insert({"name": "Grace"})
    assert later.key > made.key
    assert users.get_many([later.key, "nobody", made.key, made.key]) == {made.key: made, later.key: later}
    with pytest.raises(ExistsError, match=f"users/{made.key} is there already") as caught:
        users.insert({"name": "Eve"}, key=made.key)
    assert caught.value.definite
    assert users.get(made.key) == made


def test_many_are_inserted_part_by_part_or_all_or_none(db: Database) -> None:
    many = db["many"]
    keys = many.insert_many({"n": n} for n in range(1200))
    assert sorted(keys) == keys
    stored = many.get_many(keys)
    assert [stored[key]["n"] for key in keys] == list(range(1200))
    fresh = {f"k{n:04}": {"n": n} for n in range(600)}
    many.put("k0550", {"n": -1})
    with pytest.raises(ExistsError, match="many/k0550") as caught:
        many.insert_many(fresh)
    assert caught.value.stored == 500
    assert many.count() == 1200 + 501
    with pytest.raises(ExistsError, match="many/k0000"):
        many.insert_many(fresh, atomic=True)
    assert many.insert_many([]) == []
    with pytest.raises(InvalidError, match="not a JSON object"):
        many.insert_many({"name": "Ada"})  # type: ignore[dict-item]  # one document instead of many


def test_a_named_insert_is_done_once_and_needs_its_key(db: Database) -> None:
    names = db["names"]
    first = names.insert({"n": 1}, key="k", request="order 66")
    assert names.insert({"n": 1}, key="k", request="order 66").version == first.version
    for call in (
        lambda: names.insert({"n": 1}, request="order 67"),
        lambda: names.insert_many([{"n": 1}], request="order 67"),
    ):
        with pytest.raises(InvalidError, match="repeated with the same keys"):
            call()
    assert names.insert_many({"a": {}, "b": {}}, request="order 68") == ["a", "b"]
    assert names.insert_many({"a": {}, "b": {}}, request="order 68") == ["a", "b"]


def test_an_insert_without_an_answer_tells_its_key(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with entgldb.connect(directory) as db:

        def broken(_: object) -> object:
            raise NoAnswerError("the wire is cut", definite=False)

        monkeypatch.setattr(db, "begin", broken)
        with pytest.raises(NoAnswerError) as caught:
            db["users"].insert({"n": 1})
    assert len(caught.value.key) == 36


def test_a_put_and_a_delete_are_meant_for_one_version(db: Database) -> None:
    users = db["versions"]
    first = users.put("u1", {"n": 1})
    second = users.put("u1", {"n": 2}, if_version=first)
    for call in (
        lambda: users.put("u1", {"n": 3}, if_version=first),
        lambda: users.replace("u1", {"n": 3}, if_version=first),
        lambda: users.delete("u1", if_version=first),
    ):
        with pytest.raises(VersionError, match=f"versions/u1 is version {second.origin}:{second.seq}, not"):
            call()
    assert users.get("u1") == {"n": 2}
    assert users.delete("u1", if_version=second) is not None
    with pytest.raises(VersionError, match="is not there"):
        users.delete("u1", if_version=second)
    with pytest.raises(InvalidError, match="if_version is a str, not a version"):
        users.put("u1", {}, if_version="7")  # type: ignore[arg-type]  # a person without mypy


def test_a_replacement_is_whole_where_the_collection_merges(db: Database) -> None:
    db.set_conflict_rule("merging", "merge")
    merging = db["merging"]
    merging.put("k", {"a": 1})
    read = merging.get("k")
    assert read is not None
    merging.put("k", {"a": 1, "b": 2})
    read["c"] = 3
    merging.replace("k", read)
    assert merging.get("k") == {"a": 1, "c": 3}


@pytest.mark.parametrize("rule", ["lww", "merge"])
def test_two_clients_of_one_node_lose_no_update(directory: Path, db: Database, rule: str) -> None:
    name = f"counted-{rule}"
    db.set_conflict_rule(name, rule)
    db[name].insert({"n": 0}, key="k")
    together = threading.Barrier(3)

    def count(_: int) -> int:
        refused = 0
        with entgldb.connect(directory) as mine:
            together.wait()
            for _ in range(40):
                while True:
                    read = mine[name].get("k")
                    assert read is not None
                    try:
                        mine[name].put("k", {"n": read["n"] + 1}, if_version=read.version)
                    except VersionError:
                        refused += 1
                    else:
                        break
        return refused

    with ThreadPoolExecutor(3) as threads:
        refused = sum(threads.map(count, range(3)))
    assert db[name].get("k") == {"n": 120}
    assert refused > 0, "nobody met anybody"


def test_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            users = db["aio"]
            made = await users.insert({"name": "Ada"})
            assert await users.get(made.key) == made
            with pytest.raises(ExistsError):
                await users.insert({"name": "Eve"}, key=made.key)
            second = await users.put(made.key, {"name": "Eve"}, if_version=made.version)
            with pytest.raises(VersionError):
                await users.delete(made.key, if_version=made.version)
            third = await users.replace(made.key, {"name": "Ada"}, if_version=second)
            assert await users.delete(made.key, if_version=third) is not None
            keys = await users.insert_many({"n": n} for n in range(3))
            assert [one["n"] for one in (await users.get_many(keys)).values()] == [0, 1, 2]
            with pytest.raises(ExistsError):
                await users.insert_many({key: {"n": 1} for key in keys})
            at_once = (users.insert({"n": n}, key="one") for n in range(8))
            found = await asyncio.gather(*at_once, return_exceptions=True)
            assert sum(isinstance(one, ExistsError) for one in found) == 7

    asyncio.run(walk())


def test_the_verbs(says: Says) -> None:
    made = json.loads(says("insert", "verbs", '{"n": 1}', "--json"))
    key, version = made["key"], made["version"]
    assert says("get", "verbs", key) == '{"n": 1}\n'
    assert says("insert", "verbs", '{"n": 1}', "--key", "k").startswith("inserted verbs/k as ")
    assert says("insert", "verbs", "{}", "--key", "k", code=1).startswith("already-exists: verbs/k is there")
    named = f"{version['origin']}:{version['seq']}"
    assert says("put", "verbs", key, '{"n": 2}', "--if-version", named).startswith("stored ")
    for refused in (["put", "verbs", key, "{}"], ["delete", "verbs", key]):
        text = says(*refused, "--if-version", named, code=1)
        assert text.startswith(f"version-mismatch: verbs/{key} is version ")
        assert named in text
    assert "is not a version" in says("put", "verbs", key, "{}", "--if-version", "7", code=2)
    now = json.loads(says("get", "verbs", key, "--json"))["version"]
    assert Version(**now).seq > version["seq"]
    assert says("delete", "verbs", key, "--if-version", f"{now['origin']}:{now['seq']}").startswith(
        "deleted "
    )
