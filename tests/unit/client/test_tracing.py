"""A tracer that is brought along has a span of each request, and of nothing where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import entgldb
from entgldb import aio
from entgldb.messages.errors import EntglError

pytestmark = pytest.mark.slow


class Spans:
    """A tracer that writes down."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Mapping[str, str | int], str]] = []

    @contextmanager
    def start_as_current_span(self, name: str, *, attributes: Mapping[str, str | int]) -> Iterator[None]:
        fault = ""
        try:
            yield
        except EntglError as error:
            fault = error.code.value
            raise
        finally:
            self.ended.append((name, attributes, fault))


def test_each_request_is_a_span(directory: Path) -> None:
    spans = Spans()
    with entgldb.connect(directory, tracer=spans) as db:
        db["traced"].put("k", {"n": 1})
        with pytest.raises(entgldb.EntglError):
            db["traced"].insert({}, key="k")
        assert db["traced"].get("k") == {"n": 1}
    told = {"db.system.name": "entgldb", "db.operation.name": "Commit", "db.collection.name": "traced"}
    told_of_size = {**told, "db.operation.batch.size": 1}
    assert spans.ended == [
        ("entgldb Commit", told_of_size, ""),
        ("entgldb Commit", told_of_size, "already-exists"),
    ]


def test_each_request_of_asyncio_is_a_span(directory: Path) -> None:
    spans = Spans()

    async def trial() -> None:
        async with aio.connect(directory, tracer=spans) as db:
            await db["traced"].put_many({"a": {}, "b": {}})

    asyncio.run(trial())
    ((name, attributes, fault),) = spans.ended
    assert (name, attributes["db.operation.batch.size"], fault) == ("entgldb Commit", 2, "")
