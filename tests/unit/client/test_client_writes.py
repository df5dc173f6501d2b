"""Documents that know what was read, and the writes that are made of them."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from entgldb.client.writes import Document, document, parts, put
from entgldb.messages.client import Base, Written
from entgldb.messages.errors import TooLargeError
from entgldb.messages.limits import BASE_BYTES_MAX
from entgldb.messages.model import Version
from entgldb.storage.documents.reading import Read

READ = Read('{"a":1,"b":{"c":2}}', Version("lan-1/0", 7))
BASE = Base((Written("lan-1/0", 7),), READ.text.encode())


def got() -> Document:
    return document("c", "k", READ)


def base(of: Any, collection: str = "c", key: str = "k") -> Base | None:
    return put(collection, key, of, lambda: True).base


@pytest.mark.parametrize(
    "same",
    [
        lambda one: one,
        lambda one: one.copy(),
        lambda one: one | {"d": 1},
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
    ],
)
def test_what_is_the_same_document_names_what_was_read(same: Any) -> None:
    made = same(got())
    assert (made.key, made.version) == ("k", READ.version)
    made["a"] = 9
    assert base(made) == BASE


@pytest.mark.parametrize("other", [dict, lambda one: {**one}, lambda one: json.loads(json.dumps(one))])
def test_what_is_an_ordinary_object_is_put_whole(other: Any) -> None:
    assert base(other(got())) is None


def test_it_is_named_only_where_it_was_read_and_where_it_merges() -> None:
    assert base(got(), key="other") is None
    assert base(got(), collection="other") is None
    assert put("c", "k", got(), lambda: False).base is None
    assert base(Document("k", {"a": 1})) is None


def test_after_a_put_it_is_what_was_put() -> None:
    made = got()
    made["a"] = 2
    made.was_put(put("c", "k", made), Version("lan-1/0", 8))
    assert made.version == Version("lan-1/0", 8)
    assert base(made) == Base((Written("lan-1/0", 8),), b'{"a":2,"b":{"c":2}}')


def test_what_was_put_as_it_was_read_is_as_it_was_read() -> None:
    """Nothing was written: the version that the node answers may be one that nobody has read here."""
    made = Document("k", dict(reversed(got().items())), collection="c", read=READ)
    made.was_put(put("c", "k", made), Version("other/0", 99))
    assert made.version == READ.version


def test_what_cannot_be_told_is_not_put_whole_by_accident() -> None:
    large = document("c", "k", Read('{"a":"%s"}' % ("x" * BASE_BYTES_MAX), READ.version))
    large["a"] = ""
    with pytest.raises(TooLargeError, match="its changes cannot be told"):
        base(large)
    assert base(dict(large)) is None


def test_what_was_read_counts_for_the_size_of_a_part() -> None:
    large = [document("c", f"k{n}", Read('{"a":"%s"}' % ("x" * 400_000), READ.version)) for n in range(4)]
    for one in large:
        one["a"] = ""
    assert [len(part.writes) for part in parts("c", [(one.key, one) for one in large], lambda: True)] == [
        2,
        2,
    ]
