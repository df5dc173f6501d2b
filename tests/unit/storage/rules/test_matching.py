"""The plain matcher where documents are seldom so by chance: arrays in arrays, elements by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.storage.rules.filtering.parser import parse_filter
from tests.support import oracle


@pytest.mark.parametrize(
    ("wanted", "document", "found"),
    [
        ({"a": {"$elemMatch": {"$eq": 1}}}, {"a": [[1]]}, False),
        ({"a": {"$elemMatch": {"$eq": [1]}}}, {"a": [[1]]}, True),
        ({"a": {"$elemMatch": {"$elemMatch": {"$gt": 0}}}}, {"a": [[1]]}, True),
        ({"a": {"$elemMatch": {"$size": 1}}}, {"a": [[1], 2]}, True),
        ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"a": {"$elemMatch": {"b": 1}}}, {"a": {"b": 1}}, False),
        ({"a": {"$elemMatch": {}}}, {"a": [1]}, False),
        ({"a": 1}, {"a": [[1]]}, False),
        ({"a": [1]}, {"a": [[1]]}, True),
        ({"a.b": 1}, {"a": [[{"b": 1}]]}, False),
        ({"a.0.b": 1}, {"a": [[{"b": 1}]]}, True),
        ({"a.00": 1}, {"a": [1]}, False),
        ({"a.1": 1}, {"a": [1]}, False),
        ({"a.0": 1}, {"a": {"0": 1}}, True),
        ({"a.b": None}, {"a": []}, False),
        ({"a.b": None}, {"a": [1]}, False),
        ({"a.b": None}, {"a": 1}, True),
        ({"a.b": None}, {"a": [{"c": 1}]}, True),
        ({"a.b": {"$exists": False}}, {"a": [1, {"b": None}]}, False),
        ({"a": {"$size": 1}}, {"a": [[1, 2]]}, True),
        ({"a": {"$size": 2}}, {"a": [[1, 2]]}, False),
        ({"a": {"$type": "array"}}, {"a": [1]}, True),
        ({"a": {"$not": {"$gt": 1, "$lt": 5}}}, {"a": [0, 9]}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1.0}}, True),
        ({"a": {"b": 1}}, {"a": '{"b":1}'}, False),
        ({"a": '{"b":1}'}, {"a": {"b": 1}}, False),
    ],
)
def test_a_filter_matches_as_its_table_says(wanted: Any, document: Any, found: bool) -> None:
    assert parse_filter(wanted).matches(document) is found
    assert oracle.matches(document, wanted) is found
