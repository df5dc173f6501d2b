"""Pipelines and projections, on documents in memory; ``parse_pipeline`` keeps their beginning for a query."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entgldb.messages.errors import EntglError, InvalidError, TooLargeError, UnsupportedError
from entgldb.storage.rules.filtering import aggregate
from entgldb.storage.rules.filtering.aggregate import parse_pipeline
from entgldb.storage.rules.filtering.projection import parse_fields, project

SALES = [
    {"city": "Rome", "n": 2, "by": {"day": 1}},
    {"city": "Rome", "n": 3, "by": {"day": 2}},
    {"city": "Turin", "n": 2.5, "by": {"day": 1}},
    {"city": None, "n": "many"},
    {"n": True},
]


def run(stages: list[Any], documents: list[Any] = SALES) -> list[Any]:
    """The stages after the head, of all documents."""
    # a limit of all is the head
    return parse_pipeline([{"$limit": len(documents)}, *stages]).run(documents)


def group(**fields: Any) -> Any:
    return {"$group": {"_id": fields.pop("by", None), **fields}}


def test_groups_have_their_values_in_order() -> None:
    fields = {"n": {"$count": {}}, "sum": {"$sum": "$n"}, "avg": {"$avg": "$n"}}
    ends = {"least": {"$min": "$n"}, "most": {"$max": "$n"}}
    assert run([group(by="$city", **fields, **ends)]) == [
        {"_id": None, "n": 2, "sum": 0, "avg": None, "least": True, "most": "many"},
        {"_id": "Rome", "n": 2, "sum": 5, "avg": 2.5, "least": 2, "most": 3},
        {"_id": "Turin", "n": 1, "sum": 2.5, "avg": 2.5, "least": 2.5, "most": 2.5},
    ]
    several = run([group(by={"c": "$city", "d": "$by.day"}, ones={"$sum": 1})])
    assert [one["ones"] for one in several] == [1, 1, 1, 2]
    assert {"_id": {"c": None, "d": None}, "ones": 2} in several


def test_true_and_one_are_two_groups_and_one_and_one_point_zero_are_one() -> None:
    documents = [{"a": value} for value in (1, True, 1.0, [1], [1.0], {"b": 1}, "1", None, 2**63, 2.0**63)]
    groups = run([group(by="$a", n={"$count": {}})], documents)
    assert sorted(one["n"] for one in groups) == [1, 1, 1, 1, 2, 2, 2]


def test_stages_follow_each_other() -> None:
    counted = group(by="$city", n={"$sum": "$n"})
    assert run([counted, {"$sort": "-n"}, {"$limit": 1}]) == [{"_id": "Rome", "n": 5}]
    assert run([counted, {"$match": {"n": {"$lt": 5}}}, {"$sort": ["n", "-_id"]}]) == [
        {"_id": None, "n": 0},
        {"_id": "Turin", "n": 2.5},
    ]
    assert run([counted, group(total={"$sum": "$n"})]) == [{"_id": None, "total": 7.5}]


def test_the_beginning_is_a_query() -> None:
    match, more = {"$match": {"a": 1}}, {"$match": {"b": 2}}
    found = parse_pipeline([match, more, {"$sort": "-n"}, {"$limit": 3}, {"$limit": 2}])
    assert found[:3] == ({"$and": [{"a": 1}, {"b": 2}]}, ("-n",), 3)
    assert found.run([{"n": n} for n in range(3)]) == [{"n": 0}, {"n": 1}]
    assert parse_pipeline([{"$limit": 3}, {"$sort": "n"}])[:3] == ({}, (), 3)
    assert len(parse_pipeline([{"$limit": 3}, {"$sort": "n"}]).stages) == 1
    assert parse_pipeline([]).run([{"a": 1}]) == [{"a": 1}]


@given(st.lists(st.integers() | st.floats(-1e300, 1e300), min_size=1))
def test_sums_and_averages_are_exact_and_round_once(numbers: list[Any]) -> None:
    (found,) = run([group(sum={"$sum": "$n"}, avg={"$avg": "$n"})], [{"n": number} for number in numbers])
    exact = sum(map(Fraction, numbers))
    whole = all(isinstance(number, int) for number in numbers)
    assert found["sum"] == (exact if whole else float(exact))
    mean = exact / len(numbers)
    assert found["avg"] == (mean if whole and mean.denominator == 1 else float(mean))


@pytest.mark.parametrize(
    ("pipeline", "error", "named"),
    [
        ({}, InvalidError, "list of stages"),
        ([{}], InvalidError, "one operator"),
        ([{"$limit": 1, "$sort": "a"}], InvalidError, "one operator"),
        ([{"$grup": {}}], UnsupportedError, r"\$grup"),
        ([{"$match": {"a": {"$foo": 1}}}], UnsupportedError, r"\$foo"),
        ([{"$sort": {"a": 1}}], InvalidError, r"\$sort takes"),
        ([{"$limit": -1}], InvalidError, r"\$limit -1"),
        ([{"$limit": True}], InvalidError, r"\$limit True"),
        ([{"$group": {"n": {"$count": {}}}}], InvalidError, "_id"),
        ([{"$group": {"_id": "city"}}], InvalidError, "no path"),
        ([{"$group": {"_id": {"a.b": "$a"}}}], InvalidError, "no name"),
        ([{"$group": {"_id": None, "$n": {"$count": {}}}}], EntglError, "field"),
        ([{"$group": {"_id": None, "n": 1}}], InvalidError, "one operator"),
        ([{"$group": {"_id": None, "n": {"$median": "$n"}}}], UnsupportedError, r"\$median"),
        ([{"$group": {"_id": None, "n": {"$count": 1}}}], InvalidError, r"\$count takes"),
        ([{"$group": {"_id": None, "n": {"$avg": 1}}}], InvalidError, "no path"),
        ([{"$limit": 1}] * 17, TooLargeError, "STAGES_MAX = 16"),
        (
            [{"$group": {"_id": None, **{f"f{n}": {"$count": {}} for n in range(32)}}}],
            TooLargeError,
            "GROUP_F",
        ),
        ([{"$group": {"_id": {f"f{n}": "$a" for n in range(33)}}}], TooLargeError, "GROUP_FIELDS_MAX = 32"),
    ],
)
def test_what_is_no_pipeline_is_refused(pipeline: Any, error: type[EntglError], named: str) -> None:
    with pytest.raises(error, match=named):
        parse_pipeline(pipeline)


def test_limits_of_a_pipeline_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "GROUPS_MAX", 3)
    assert len(run([group(by="$a")], [{"a": n % 3} for n in range(9)])) == 3
    with pytest.raises(TooLargeError, match="GROUPS_MAX = 3"):
        run([group(by="$a")], [{"a": n} for n in range(4)])
    monkeypatch.setattr(aggregate, "SORTED_MAX", 3)
    assert len(run([{"$limit": 3}, {"$sort": "a"}])) == 3
    with pytest.raises(TooLargeError, match="SORTED_MAX = 3"):
        run([{"$sort": "a"}])
    with pytest.raises(TooLargeError, match="beyond a double"):
        run([group(n={"$sum": "$n"})], [{"n": 1.7e308}, {"n": 1.7e308}])


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ("a", {"a": 1}),
        (["c.d", "a"], {"a": 1, "c": {"d": 2}}),
        (["c", "c.d"], {"c": {"d": 2, "e": 3}}),
        (["c.d", "c"], {"c": {"d": 2, "e": 3}}),
        ("l.x", {"l": [{"x": 1}, {}, [{"x": 2}]]}),
        (["a.b", "none", "c.d.e", "n"], {"c": {}, "n": None}),
    ],
)
def test_a_projection_has_the_named_fields_in_the_order_of_the_document(paths: Any, found: Any) -> None:
    document = {"a": 1, "c": {"d": 2, "e": 3}, "l": [{"x": 1, "y": 2}, {"y": 3}, 4, [{"x": 2}]], "n": None}
    made = project(document, parse_fields(paths))
    assert made == found
    assert list(made) == [name for name in document if name in made]


def test_a_projection_names_paths_within_a_limit() -> None:
    assert len(parse_fields(f"f{n}" for n in range(100))) == 100
    with pytest.raises(TooLargeError, match="FIELDS_MAX = 100"):
        parse_fields(f"f{n}" for n in range(101))
    with pytest.raises(InvalidError, match="names no field"):
        parse_fields([])
    with pytest.raises(InvalidError, match="field path"):
        parse_fields("$a")
