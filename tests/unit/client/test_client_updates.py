"""Updates by both APIs and the verb, against a real node."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import entgldb.aio
from entgldb.client.database import Database
from entgldb.messages.errors import EntglError, InvalidError, NoAnswerError, UnsupportedError, VersionError

pytestmark = pytest.mark.slow
RULES = ["lww", "merge"]


Says = Callable[..., str]


@pytest.mark.parametrize("rule", RULES)
def test_an_update_changes_fields_and_gives_the_version(db: Database, rule: str) -> None:
    db.set_conflict_rule(f"users-{rule}", rule)
    users = db[f"users-{rule}"]
    first = users.put("u1", {"name": "Ada", "logins": 1, "address": {"city": "Bari"}})
    second = users.update("u1", {"$inc": {"logins": 1}, "$set": {"address.city": "Lecce"}}, if_version=first)
    found = users.get("u1")
    assert found is not None
    assert (found, found.version) == ({"name": "Ada", "logins": 2, "address": {"city": "Lecce"}}, second)
    assert users.update("u1", {"$set": {"name": "Ada"}}) == second
    assert users.update("nobody", {"$inc": {"logins": 1}}) is None
    assert users.update("u2", {"$inc": {"logins": 1}}, upsert=True) is not None
    assert users.get("u2") == {"logins": 1}
    with pytest.raises(VersionError):
        users.update("u1", {"$inc": {"logins": 1}}, if_version=first)
    once = [users.update("u1", {"$inc": {"logins": 5}}, request=f"five more {rule}") for _ in range(2)]
    assert once[0] == once[1]
    assert (users.get("u1") or {})["logins"] == 7


def test_an_update_that_cannot_be_is_refused_before_it_is_sent(db: Database, tmp_path: Path) -> None:
    users = Database(tmp_path)["users"]
    for operators, kind, said in (
        ({"$incr": {"a": 1}}, UnsupportedError, "\\$incr is not supported"),
        ({"a": 1}, InvalidError, "'a' is no operator"),
        ({"$set": {"a": {1, 2}}}, InvalidError, r"an update has a value of type set in \$set\.a"),
        ({"$set": {"a": float("nan")}}, InvalidError, r"an update has nan in \$set\.a"),
        ({"$set": {"a": "\ud800"}}, InvalidError, "an update is no JSON"),
        ({"$set": {"a": {1: 2}}}, InvalidError, "an update has the name 1, of type int"),
        ([1], InvalidError, "an object of operators"),
    ):
        with pytest.raises(kind, match=said):
            users.update("k", operators)  # type: ignore[arg-type]  # a person without mypy
    db["refused"].put("k", {"n": "text"})
    with pytest.raises(InvalidError, match="n is a text"):
        db["refused"].update("k", {"$set": {"n.m": 1}})


@pytest.mark.parametrize("rule", RULES)
def test_programs_that_count_at_once_lose_nothing(directory: Path, db: Database, rule: str) -> None:
    name = f"counted-{rule}"
    db.set_conflict_rule(name, rule)

    def count(number: int) -> None:
        with entgldb.connect(directory) as mine:
            for each in range(60):
                both = {"$inc": {"n": 1}, "$addToSet": {"seen": f"{number}-{each}"}}
                assert mine[name].update("k", both, upsert=True) is not None

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(count, range(3)))
    found = db[name].get("k")
    assert found is not None
    assert (found["n"], len(found["seen"])) == (180, 180)


@pytest.mark.parametrize("rule", RULES)
def test_updates_in_flight_of_one_program_all_count(directory: Path, rule: str) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            name = f"in-flight-{rule}"
            await db.set_conflict_rule(name, rule)
            counted = db[name]
            first = await counted.put("k", {"n": 0})
            made = await asyncio.gather(*(counted.update("k", {"$inc": {"n": 1}}) for _ in range(300)))
            assert await counted.get("k") == {"n": 300}
            assert sorted(one.seq - first.seq for one in made if one) == list(range(1, 301))
            mixed = [counted.update("k", {"$push": {"n": 1}}), counted.update("k", {"$inc": {"n": 1}})]
            refused, done = await asyncio.gather(*mixed, return_exceptions=True)
            assert isinstance(refused, EntglError)
            assert await counted.get("k") == {"n": 301}
            assert done == (await counted.get("k")).version  # type: ignore[union-attr]  # it is there
            assert await counted.update("nobody", {"$inc": {"n": 1}}) is None

    asyncio.run(walk())


def test_all_that_match_are_updated_and_deleted(db: Database) -> None:
    many = db["many"]
    many.put_many({f"k{n:04}": {"n": n, "name": "Ada" if n % 2 else "ADA"} for n in range(1200)})
    assert many.update_many({"n": {"$gte": 100}}, {"$inc": {"n": 5000}, "$set": {"seen": True}}) == 1100
    assert many.count({"seen": True, "n": {"$gte": 5100}}) == 1100
    assert many.update_many({"seen": True}, {"$set": {"seen": True}}) == 1100, "found, though nothing changes"
    assert many.update_many({"n": -1}, {"$set": {"seen": False}}) == 0
    assert many.update_many({"name": "ada"}, {"$set": {"name": "ada"}}, collation="nocase") == 1200
    assert many.delete_many({"n": {"$lt": 50}}) == 50
    assert many.delete_many({"name": "ADA"}) == 0
    assert many.delete_many({}) == 1150
    assert many.count() == 0


def test_a_large_update_of_many_goes_in_small_parts(db: Database) -> None:
    large = db["large"]
    large.put_many({f"k{n}": {} for n in range(6)})
    assert large.update_many({}, {"$set": {"text": "x" * 400_000}}) == 6
    assert [len(one["text"]) for one in large.find()] == [400_000] * 6


def test_what_was_changed_before_an_error_is_counted(db: Database) -> None:
    mixed = db["mixed"]
    mixed.put_many({f"k{n:04}": {"n": "text" if n == 700 else n} for n in range(1200)})
    with pytest.raises(InvalidError, match=r"mixed/k0700: .* it is a text") as caught:
        mixed.update_many({}, {"$inc": {"n": 10_000}})
    assert caught.value.stored == 500
    assert mixed.count({"n": {"$gte": 10_000}}) == 500
    for operators, filter in (({"$incr": {}}, {}), ({"$set": {"a": 1}}, {"a": {"$near": 1}})):
        with pytest.raises(UnsupportedError):
            mixed.update_many(filter, operators)


def test_no_request_is_named_where_a_repetition_finds_other_documents(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with entgldb.connect(directory) as db:
        db["unanswered"].put("k", {"n": 1})

        def broken(_: object) -> object:
            fault = NoAnswerError("the wire is cut", definite=False)
            fault.request = "0:1"
            raise fault

        monkeypatch.setattr(db, "begin", broken)
        with pytest.raises(NoAnswerError) as caught:
            db["unanswered"].update_many({}, {"$inc": {"n": 1}})
    assert (caught.value.request, "look at the documents" in caught.value.hint) == ("", True)


def test_programs_that_take_from_one_stock_never_take_what_is_not_there(
    directory: Path, db: Database
) -> None:
    db["stock"].put_many({"a": {"left": 20}, "b": {"left": 30}})

    def take(_: int) -> int:
        with entgldb.connect(directory) as mine:
            return sum(
                mine["stock"].update_many({"left": {"$gt": 0}}, {"$inc": {"left": -1}}) for _ in range(20)
            )

    with ThreadPoolExecutor(3) as threads:
        taken = sum(threads.map(take, range(3)))
    assert [one["left"] for one in db["stock"].find()] == [0, 0]
    assert taken == 50


def test_many_by_the_asyncio_api(directory: Path) -> None:
    async def walk() -> None:
        async with entgldb.aio.connect(directory) as db:
            many = db["aio-many"]
            await many.put_many({f"k{n:04}": {"n": n if n != 900 else "text"} for n in range(1100)})
            assert await many.update_many({"n": {"$lt": 600}}, {"$inc": {"n": -1000}}) == 600
            with pytest.raises(InvalidError) as caught:
                await many.update_many({}, {"$inc": {"n": 1}})
            assert caught.value.stored == 500
            assert await many.delete_many({"n": {"$lt": 0}}) == 600
            assert await many.delete_many({"n": "none"}) == 0
            assert await many.count() == 500

    asyncio.run(walk())


def test_the_verbs_for_many(says: Says, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        says("put", "verbs-many", f"k{number}", f'{{"n": {number}}}')
    assert says("update-many", "verbs-many", '{"n": {"$gt": 0}}', '{"$inc": {"n": 1}}') == (
        "updated 2 documents of verbs-many\n"
    )
    told = json.loads(says("update-many", "verbs-many", '{"n": 3}', '{"$set": {"x": 1}}', "--json"))
    assert (told["collection"], told["updated"]) == ("verbs-many", 1)
    says("put", "verbs-many", "k1", '{"n": 2, "name": "ADA"}')
    assert says("update-many", "verbs-many", '{"name": "ada"}', '{"$inc": {"n": 1}}', "--nocase") == (
        "updated 1 document of verbs-many\n"
    )
    assert says("delete-many", "verbs-many", '{"n": 0}') == "deleted 1 document of verbs-many\n"
    assert json.loads(says("delete-many", "verbs-many", "{}", "--json"))["deleted"] == 2
    assert "the filter" in says("delete-many", "verbs-many", "[]", code=2)
    assert says("delete-many", "verbs-many", "{}") == "deleted 0 documents of verbs-many\n"


def test_the_verb(says: Says) -> None:
    says("put", "verbs", "k", '{"n": 1}')
    made = json.loads(says("update", "verbs", "k", '{"$inc": {"n": 2}, "$push": {"log": "a"}}', "--json"))
    assert says("get", "verbs", "k") == '{"n": 3, "log": ["a"]}\n'
    version = f"{made['version']['origin']}:{made['version']['seq']}"
    says("update", "verbs", "k", '{"$inc": {"n": 1}}', "--if-version", version)
    assert says("update", "verbs", "k", '{"$inc": {"n": 1}}', "--if-version", version, code=1).startswith(
        "version-mismatch: "
    )
    assert "no document 'none' in verbs" in says("update", "verbs", "none", '{"$inc": {"n": 1}}', code=3)
    assert says("update", "verbs", "new", '{"$inc": {"n": 1}}', "--upsert").startswith("verbs/new is ")
    assert says("update", "verbs", "k", '{"$incr": {"n": 1}}', code=2) == (
        "unsupported: the update operator $incr is not supported. Try: $inc, or another of $set, $unset,"
        " $inc, $mul, $min, $max, $push, $pull, $addToSet, $rename\n"
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_document_is_found_and_updated_in_one(db: Database, rule: str) -> None:
    jobs = db[f"found-jobs-{rule}"]
    db.set_conflict_rule(jobs.name, rule)
    jobs.put_many({f"j{n}": {"state": "new", "n": n, "tries": 0} for n in range(3)})
    take = {"$set": {"state": "taken"}, "$inc": {"tries": 1}}

    first = jobs.find_and_update({"state": "new"}, take, sort="-n")
    assert first == {"state": "taken", "n": 2, "tries": 1}
    assert (first.key, first.version) == ("j2", jobs.get("j2").version)  # type: ignore[union-attr]  # it is there
    second = jobs.find_and_update({"state": "new"}, take, sort="-n", returns="before")
    assert second == {"state": "new", "n": 1, "tries": 0}
    assert jobs.get("j1") == {"state": "taken", "n": 1, "tries": 1}
    assert jobs.find_and_update({"state": "none"}, take) is None

    # what was returned can be put again as what was read
    first["n"] = 7
    jobs.put(first.key, first)
    assert jobs.get("j2") == {"state": "taken", "n": 7, "tries": 1}
    with pytest.raises(InvalidError, match="returns is 'new'"):
        jobs.find_and_update({}, take, returns="new")
    with pytest.raises(UnsupportedError):
        jobs.find_and_update({}, {"$nonsense": {"n": 1}})


def test_workers_that_find_and_update_never_get_the_same(db: Database, directory: Path) -> None:
    db["queue"].put_many({f"{n:02}": {"state": "new"} for n in range(24)})

    def work(_: int) -> list[str]:
        taken = []
        with entgldb.connect(directory) as mine:
            while job := mine["queue"].find_and_update({"state": "new"}, {"$set": {"state": "taken"}}):
                taken.append(job.key)
        return taken

    with ThreadPoolExecutor(3) as workers:
        taken = [key for keys in workers.map(work, range(3)) for key in keys]
    assert sorted(taken) == [f"{n:02}" for n in range(24)]


def test_the_asyncio_api_finds_and_updates(db: Database, directory: Path) -> None:
    db["aio-jobs"].put_many({f"{n}": {"state": "new", "n": n} for n in range(8)})

    async def walk() -> None:
        async with entgldb.aio.connect(directory) as mine:
            jobs, taken = mine["aio-jobs"], {"$set": {"state": "taken"}}
            found = await asyncio.gather(*(jobs.find_and_update({"state": "new"}, taken) for _ in range(8)))
            assert sorted(one.key for one in found if one is not None) == [f"{n}" for n in range(8)]
            assert await jobs.find_and_update({"state": "new"}, taken) is None
            before = await jobs.find_and_update({"n": 3}, {"$inc": {"n": 10}}, returns="before")
            assert before == {"state": "taken", "n": 3}
            db.set_conflict_rule("aio-jobs", "merge")
            assert await jobs.find_and_update({"n": 13}, {"$inc": {"n": 1}}) == {"state": "taken", "n": 14}

    asyncio.run(walk())


@pytest.mark.parametrize("rule", RULES)
def test_an_update_may_give_a_document_another_life(db: Database, rule: str) -> None:
    users = db[f"lives-{rule}"]
    db.set_conflict_rule(users.name, rule)
    moment = "SELECT expires FROM _entgldb_documents WHERE collection = ? AND key = 'u'"

    def expires() -> int | None:
        found: int | None = db.documents.put_to(
            lambda connection: connection.execute(moment, (users.name,)).fetchone()[0]
        )
        return found

    users.put("u", {"n": 1}, expire_after=1000)
    first = expires()
    users.update("u", {"$inc": {"n": 1}})
    assert expires() == first is not None
    users.update("u", {"$inc": {"n": 1}}, expire_after=5000)
    second = expires()
    assert second is not None
    assert first + 3_900_000 < second < first + 4_100_000
    with db.batch() as batch:
        batch[users.name].update("u", {"$inc": {"n": 1}}, expire_after=math.inf)
    assert not expires()
    assert users.find_and_update({}, {"$inc": {"n": 1}}, expire_after=1000) == {"n": 5}
    assert expires()
