"""Documents as values of classes: dataclasses, attrs classes, pydantic models, msgspec Structs."""

from __future__ import annotations

import asyncio
import datetime
import enum
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import entgldb
from entgldb import aio
from entgldb.client.forms.typed import shape_of
from entgldb.messages.errors import InvalidError, UnsupportedError


class Rank(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Address:
    city: str
    zip: int | None = None


@dataclass
class Person:
    name: str
    age: int = 0
    rank: Rank = Rank.LOW
    tags: list[str] = field(default_factory=list)
    address: Address | None = None
    born: datetime.date | None = None
    children: list[Person] = field(default_factory=list)


@attrs.define
class Machine:
    name: str
    speed: float = 1.0


class Model(pydantic.BaseModel):
    name: str
    born: datetime.date | None = None
    size: int = pydantic.Field(default=1, alias="Size")


class Struct(msgspec.Struct):
    name: str
    at: datetime.datetime | None = None


ADA = Person(
    "Ada",
    36,
    Rank.HIGH,
    ["x"],
    Address("London"),
    datetime.date(1815, 12, 10),
    [Person("Byron", address=None)],
)


@pytest.mark.parametrize(
    ("kind", "value", "document"),
    [
        (Machine, Machine("lathe", 2.5), {"name": "lathe", "speed": 2.5}),
        (Model, Model(name="m", Size=3), {"name": "m", "born": None, "Size": 3}),
        (
            Struct,
            Struct("s", datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
            {"name": "s", "at": "2026-01-02T00:00:00Z"},
        ),
    ],
)
def test_a_value_and_its_document(kind: type, value: Any, document: dict[str, Any]) -> None:
    shape = shape_of(kind)
    assert shape.dump(value) == document
    assert shape.loaded("c/k", document) == value


def test_a_dataclass_within_others_comes_back() -> None:
    shape = shape_of(Person)
    assert shape.loaded("c/k", shape.dump(ADA)) == ADA
    assert shape.loaded("c/k", {"name": "Ada", "of a later release": 1}) == Person("Ada")


@given(
    st.builds(
        Person,
        st.text(),
        st.integers(),
        st.sampled_from(Rank),
        st.lists(st.text()),
        st.none() | st.builds(Address, st.text(), st.none() | st.integers()),
        st.none() | st.dates(),
        st.just([]),
    )
)
def test_every_value_comes_back(value: Person) -> None:
    shape = shape_of(Person)
    assert shape.loaded("c/k", shape.dump(value)) == value


@pytest.mark.parametrize(
    ("kind", "document", "said"),
    [
        (Person, {}, r"people/p1 is no Person: required field missing @ \$\.name"),
        (Person, {"name": "x", "age": "old"}, r"is no Person: .*\$\.age"),
        (Person, {"name": "x", "rank": "middle"}, r"is no Person: .*\$\.rank"),
        (Model, {"name": 5}, "is no Model: .*name"),
        (Struct, {"name": 5}, r"is no Struct: Expected `str`, got `int`"),
    ],
)
def test_a_document_of_another_shape_is_refused_by_place_and_field(
    kind: type, document: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidError, match=said):
        shape_of(kind).loaded("people/p1", document)


def test_a_class_of_no_kind_is_refused_at_once() -> None:
    with pytest.raises(UnsupportedError, match="no class of documents"):
        shape_of(int)


def test_nobody_pays_for_classes_who_uses_none() -> None:
    libraries = "{'cattrs', 'attrs', 'pydantic', 'msgspec', 'pandas'}"
    code = f"import sys, entgldb.client.collection; print({libraries} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_collection_of_values(directory: Path) -> None:
    with entgldb.connect(directory) as db:
        people = db.collection("people", Person)
        people.put("ada", ADA)
        key = people.insert(Person("Grace", 85))
        assert people.put_many({"alan": Person("Alan", 41)}) == 1
        assert people.get("ada") == ADA
        assert people.get("nobody") is None
        assert [person.name for person in people.find({"age": {"$gt": 40}}, sort="age")] == ["Alan", "Grace"]
        assert dict(people.items({"name": "Grace"})) == {key: Person("Grace", 85)}
        assert (people.count(), people.delete(key) is not None, people.count()) == (3, True, 2)
        people.documents.put("odd", {"nom": "x"})
        with pytest.raises(InvalidError, match="people/odd is no Person"):
            people.get("odd")
        assert db.collection("people").get("odd") == {"nom": "x"}
        people.documents.delete("odd")


@pytest.mark.slow
def test_the_same_for_asyncio(directory: Path) -> None:

    async def use() -> None:
        async with aio.connect(directory) as db:
            machines = db.collection("machines", Machine)
            await machines.put("lathe", Machine("lathe", 2.0))
            key = await machines.insert(Machine("mill"))
            assert await machines.put_many([("saw", Machine("saw", 3.0))]) == 1
            assert await machines.get("lathe") == Machine("lathe", 2.0)
            assert await machines.get("none") is None
            assert [one.name async for one in machines.find(sort="-speed", limit=2)] == ["saw", "lathe"]
            assert [name async for name, _ in machines.items({"name": "mill"})] == [key]
            assert (await machines.count(), await machines.delete(key) is not None) == (3, True)
            assert await db.collection("machines").count() == 2

    asyncio.run(use())
