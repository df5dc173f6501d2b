"""Update operators: what each does, what is refused, and any update against a plain model of the same."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.errors import EntglError, InvalidError, TooLargeError, UnsupportedError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.storage.rules.updating import parse
from entgldb.storage.rules.updating.apply import apply
from entgldb.storage.rules.updating.parse import (
    REMEMBERED_BYTES_MAX,
    REMEMBERED_MAX,
    Update,
    read_update,
    weight,
)


def read(update: Any) -> Update:
    return read_update(json.dumps(update).encode())


def done(document: Any, update: Any) -> Any:
    """The document after the update; the very same one where nothing changed."""
    after = copy.deepcopy(document)
    changed = apply(read(update), after)
    assert changed == (json.dumps(after) != json.dumps(document))
    return after


@pytest.mark.parametrize(
    ("document", "update", "after"),
    [
        ({}, {"$set": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, {"$set": {"a.b": None}}, {"a": {"b": None, "c": 2}}),
        ({"a": [1, {"b": 2}]}, {"$set": {"a.1.b": 3, "a.2": 4}}, {"a": [1, {"b": 3}, 4]}),
        ({"a": 1}, {"$set": {"a": 1.0}}, {"a": 1.0}),
        ({}, {"$set": {"0": "a field"}}, {"0": "a field"}),
        ({"a": {"b": 1}, "c": 2}, {"$unset": {"a.b": "", "no.such": 1, "c.d": 1}}, {"a": {}, "c": 2}),
        ({"a": [1, 2]}, {"$unset": {"a.0": "", "a.7": "", "a.x": ""}}, {"a": [None, 2]}),
        ({"n": 1}, {"$inc": {"n": 2, "m": -3, "o.p": 1.5}}, {"n": 3, "m": -3, "o": {"p": 1.5}}),
        ({"n": 2**70, "f": 0.5}, {"$inc": {"n": 2**70, "f": 1}}, {"n": 2**71, "f": 1.5}),
        ({"n": 3, "f": 2}, {"$mul": {"n": 7**40, "f": 0.5, "no": 5, "none": 1.5}},
         {"n": 3 * 7**40, "f": 1.0, "no": 0, "none": 0.0}),
        ({"a": 5, "b": 5}, {"$min": {"a": 3, "b": 7, "c": 1}}, {"a": 3, "b": 5, "c": 1}),
        ({"a": 5, "b": 5}, {"$max": {"a": 3, "b": 7.5, "c": 1}}, {"a": 5, "b": 7.5, "c": 1}),
        ({"a": "x", "b": None, "c": 1}, {"$max": {"a": 9, "b": 0, "c": True}}, {"a": "x", "b": 0, "c": True}),
        ({"n": 2**53}, {"$max": {"n": 2.0**53}}, {"n": 2**53}),
        ({"a": [1]}, {"$push": {"a": [2], "b": {"c": 1}}}, {"a": [1, [2]], "b": [{"c": 1}]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}, "b": {"$each": []}}}, {"a": [1, 2, 3], "b": []}),
        ({"a": [1, 2, 1, "1", [1]]}, {"$pull": {"a": 1}}, {"a": [2, "1", [1]]}),
        ({"a": [1, 2, 3, [1]]}, {"$pull": {"a": {"$in": [1, [1]]}, "no.such": 5}}, {"a": [2, 3]}),
        ({"a": [1, 5, "x", 9]}, {"$pull": {"a": {"$gt": 1, "$lt": 9}}}, {"a": [1, "x", 9]}),
        ({"a": [{"id": 1, "n": 2}, {"id": 2}, 5]}, {"$pull": {"a": {"id": 1}}}, {"a": [{"id": 2}, 5]}),
        ({"a": [{"n": 1}, {"n": 7}, {}]}, {"$pull": {"a": {"n": {"$gte": 5}}}}, {"a": [{"n": 1}, {}]}),
        ({"a": ["x"]}, {"$addToSet": {"a": "x", "b": "y"}}, {"a": ["x"], "b": ["y"]}),
        ({"a": [1, {"x": 1, "y": 2}]}, {"$addToSet": {"a": {"$each": [{"y": 2, "x": 1}, 1.0, 1.0]}}},
         {"a": [1, {"x": 1, "y": 2}, 1.0]}),
        ({"a": {"b": 1}}, {"$rename": {"a.b": "c.d", "no": "such"}}, {"a": {}, "c": {"d": 1}}),
        ({"a": 1, "b": 2}, {"$rename": {"a": "b"}}, {"b": 1}),
    ],
)  # fmt: skip
def test_what_each_operator_does(document: Any, update: Any, after: Any) -> None:
    found = done(document, update)
    assert json.dumps(found) == json.dumps(after)


@pytest.mark.parametrize(
    ("document", "update", "said"),
    [
        ({"a": 5}, {"$set": {"a.b": 1}}, "a is a number: it can have no b"),
        ({"a": {"b": None}}, {"$inc": {"a.b.c": 1}}, "a.b is null: it can have no c"),
        ({"a": "x"}, {"$inc": {"a": 1}}, r"\$inc of a: it is a text, not a number"),
        ({"a": True}, {"$mul": {"a": 1}}, r"\$mul of a: it is true or false, not a number"),
        ({"a": 1e308}, {"$mul": {"a": 1e308}}, "beyond a double"),
        ({"a": 10**400}, {"$inc": {"a": 0.5}}, "beyond a double"),
        ({"a": {}}, {"$push": {"a": 1}}, r"\$push of a: it is an object, not an array"),
        ({"a": 1}, {"$pull": {"a": 1}}, r"\$pull of a: it is a number, not an array"),
        ({"a": None}, {"$addToSet": {"a": 1}}, r"\$addToSet of a: it is null, not an array"),
        ({"a": []}, {"$max": {"a": 1}}, r"\$max of a: an array is not less or greater"),
        ({"a": [1]}, {"$set": {"a.2": 1}}, r"a.2 is no place in an array of 1 elements"),
        ({"a": [1]}, {"$set": {"a.x": 1}}, r"a.x is no place in an array of 1 elements"),
        ({"a": [1]}, {"$set": {"a.01": 1}}, r"a.01 is no place in an array"),
        ({"a": [1]}, {"$set": {"a.99999999999999999999": 1}}, r"is no place in an array"),
        ({"a": [{"b": 1}]}, {"$rename": {"a.0.b": "c"}}, r"\$rename of a.0.b: a.0.b is in an array"),
        ({"a": 1, "b": [{}]}, {"$rename": {"a": "b.0.c"}}, r"\$rename of a: b.0.c is in an array"),
    ],
)  # fmt: skip
def test_an_operator_that_does_not_fit_the_document_says_where(document: Any, update: Any, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        apply(read(update), document)


@pytest.mark.parametrize(
    ("update", "kind", "said", "hint"),
    [
        ([], InvalidError, "an object of operators", r"\$set"),
        ({}, InvalidError, "an object of operators", r"\$set"),
        ({"$set": {}}, InvalidError, "names no field", r"\$set"),
        ({"name": "Ada"}, InvalidError, "'name' is no operator", "put writes a whole document"),
        ({"$increment": {"a": 1}}, UnsupportedError, r"\$increment is not supported", r"^\$inc, or"),
        ({"$pop": {"a": 1}}, UnsupportedError, r"\$pop is not supported", r"^\$pull, or"),
        ({"$pullAll": {"a": [1]}}, UnsupportedError, r"\$pullAll is not", r'^\$pull with \{"\$in"'),
        ({"$setOnInsert": {"a": 1}}, UnsupportedError, r"\$setOnInsert is not", r"^\$set, or"),
        ({"$": {"a": 1}}, UnsupportedError, r"operator \$ is not", r"\$set, \$unset"),
        ({"$set": 5}, InvalidError, r"\$set takes an object of fields", "FIELD"),
        ({"$set": {"": 5}}, InvalidError, "is not a path", ""),
        ({"$set": {"a..b": 5}}, InvalidError, "a..b is not a path", ""),
        ({"$set": {"a.$.b": 5}}, UnsupportedError, r"positional \$ is not supported", "index"),
        ({"$inc": {"a.$[].b": 5}}, UnsupportedError, r"positional \$\[\] is not", "index"),
        ({"$inc": {"a": "5"}}, InvalidError, r"\$inc of a takes a number, not a text", ""),
        ({"$mul": {"a": True}}, InvalidError, r"\$mul of a takes a number, not true or false", ""),
        ({"$rename": {"a": 5}}, InvalidError, r"\$rename of a takes the new path", ""),
        ({"$rename": {"a": "a"}}, InvalidError, "changes a and a at once", "two updates"),
        ({"$rename": {"a": "b.c"}, "$set": {"b": 1}}, InvalidError, "changes b and b.c at once", ""),
        ({"$set": {"a": 1}, "$inc": {"a": 1}}, InvalidError, "changes a and a at once", ""),
        ({"$set": {"a.b": 1, "ab": 1, "a": 1}}, InvalidError, "changes a and a.b at once", ""),
        ({"$push": {"a": {"$each": [1], "$slice": 3}}}, UnsupportedError, r"does not take \$slice", "each"),
        ({"$push": {"a": {"$each": 1}}}, InvalidError, r"\$each takes an array", ""),
        ({"$pull": {"a": {"$gtt": 1}}}, UnsupportedError, r"a filter with \$gtt is not supported", r"\$gt"),
        ({"$pull": {"a": {"$in": 1}}}, InvalidError, r"\$in takes an array", ""),
    ],
)  # fmt: skip
def test_what_no_update_can_say_is_refused_by_name(
    update: Any, kind: type[EntglError], said: str, hint: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        read(update)
    assert re.search(hint, caught.value.hint)


def test_size_depth_and_length_of_an_update_are_bounded() -> None:
    longest = BODY_BYTES_MAX - len('{"$set":{"a":""}}')
    assert read_update(b'{"$set":{"a":"%s"}}' % (b"x" * longest))
    with pytest.raises(TooLargeError, match=f"an update of {BODY_BYTES_MAX + 1} bytes"):
        read_update(b'{"$set":{"a":"%s"}}' % (b"x" * (longest + 1)))
    deep = ".".join("a" * (DEPTH_MAX - 1))
    assert read({"$set": {deep: 1}})
    with pytest.raises(InvalidError, match=f"a path of {DEPTH_MAX} names"):
        read({"$set": {deep + ".a": 1}})
    value: Any = 1
    for _ in range(DEPTH_MAX + 2):
        value = [value]
    with pytest.raises(InvalidError, match="nested deeper"):
        read({"$set": {"a": value}})
    for bad in (b"\xff", b'{"$set":{"a":NaN}}', b'{"$set":{"a":1},"$set":{"a":2}}', b'{"$set":{"a":1e999}}'):
        with pytest.raises(InvalidError):
            read_update(bad)


def test_small_updates_alone_are_remembered_and_not_too_many() -> None:
    around = len('{"$set":{"a":""}}')
    for size, remembered in ((REMEMBERED_BYTES_MAX, 1), (REMEMBERED_BYTES_MAX + 1, 0)):
        data = b'{"$set":{"a":"%s"}}' % (b"r" * (size - around))
        before = parse._remembered.cache_info().misses
        assert [len(read_update(data)[0].value) for _ in range(3)] == [size - around] * 3
        assert parse._remembered.cache_info().misses - before == remembered
    for number in range(REMEMBERED_MAX + 1):
        read({"$set": {"a": number}})
    assert parse._remembered.cache_info().currsize == REMEMBERED_MAX


def test_the_weight_of_an_update_counts_what_it_writes() -> None:
    assert weight(read({"$set": {"a": [1, 2, 3]}, "$push": {"b": {"$each": [1, 2]}}, "$pull": {"c": 1}})) == 4


NAMES = st.sampled_from(["a", "b", "c", "0", "1"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(-4, 4), st.sampled_from(["", "x"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
NUMBERS = st.integers(-5, 5) | st.integers() | st.floats(-4, 4)
SEVERAL = VALUES.filter(lambda v: type(v) is not dict) | st.builds(lambda v: {"$each": v}, st.lists(VALUES))
GONE = VALUES.filter(lambda v: type(v) is not dict) | st.builds(lambda v: {"$in": v}, st.lists(SCALARS))
STEPS = st.one_of(
    st.tuples(st.sampled_from(["$set", "$unset"]), PATHS, VALUES),
    st.tuples(st.sampled_from(["$min", "$max"]), PATHS, SCALARS),
    st.tuples(st.sampled_from(["$inc", "$mul"]), PATHS, NUMBERS),
    st.tuples(st.sampled_from(["$push", "$addToSet"]), PATHS, SEVERAL),
    st.tuples(st.just("$pull"), PATHS, GONE),
    st.tuples(st.just("$rename"), PATHS, PATHS),
)


class UnfitError(Exception):
    """The model's refusal."""


MISSING = object()


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def order(value: Any) -> tuple[int, Any]:
    kinds = [type(None), int, str, bool]
    kind = int if type(value) is float else type(value)
    if kind not in kinds:
        raise UnfitError
    return kinds.index(kind), 0 if value is None else value


def model_value(operator: str, old: Any, value: Any) -> Any:
    """The new value of a field, said as plainly as can be."""
    if operator == "$set":
        return value
    if operator == "$unset":
        return MISSING
    if operator in ("$inc", "$mul"):
        if old is MISSING:
            return value if operator == "$inc" else (0.0 if type(value) is float else 0)
        if type(old) not in (int, float):
            raise UnfitError
        try:
            new = old + value if operator == "$inc" else old * value
        except OverflowError:
            raise UnfitError from None
        if type(new) is float and new - new != 0:
            raise UnfitError
        return new
    if operator in ("$min", "$max"):
        if old is MISSING:
            return value
        one, two = order(old), order(value)
        return value if (two < one if operator == "$min" else two > one) else old
    if old is not MISSING and type(old) is not list:
        raise UnfitError
    values = next(iter(value.values())) if type(value) is dict else [value]
    if operator == "$pull":
        gone = [text(one) for one in values]
        return MISSING if old is MISSING else [one for one in old if text(one) not in gone]
    new = [] if old is MISSING else list(old)
    for one in values:
        if operator == "$push" or text(one) not in [text(known) for known in new]:
            new.append(one)
    return new


def model(here: Any, path: list[str], change: Any, *, make: bool) -> Any:
    """``here`` with the field at ``path`` changed: everything on the way is made anew."""
    name, rest = path[0], path[1:]
    if type(here) is dict:
        old = here.get(name, MISSING)
    elif type(here) is list:
        good = name in ("0", "1") and int(name) <= len(here)
        old = here[int(name)] if good and int(name) < len(here) else MISSING
    elif make:
        raise UnfitError
    else:
        return here
    if rest and old is MISSING:
        if not make:
            return here
        old = {}
    new = model(old, rest, change, make=make) if rest else change(old)
    if type(here) is dict:
        return {
            **{k: v for k, v in here.items() if k != name or new is not MISSING},
            **({name: new} if new is not MISSING else {}),
        }
    if old is MISSING and new is MISSING:
        return here
    if not good:
        raise UnfitError
    return [*here[: int(name)], None if new is MISSING else new, *here[int(name) + 1 :]]


@settings(deadline=None)
@given(DOCUMENTS, st.lists(STEPS, min_size=1, max_size=4))
def test_any_update_does_what_the_model_does(document: Any, steps: list[tuple[str, str, Any]]) -> None:
    update: dict[str, dict[str, Any]] = {}
    for operator, path, value in steps:
        update.setdefault(operator, {})[path] = value
    try:
        parsed = read(update)
    except InvalidError as fault:
        assert "at once" in fault.text  # noqa: PT017 -- only overlapping paths are refused here
        return
    wanted: Any = document
    try:
        for operator, fields in update.items():
            for path, value in fields.items():
                if operator != "$rename":
                    make = operator not in ("$unset", "$pull")
                    wanted = model(
                        wanted,
                        path.split("."),
                        lambda old, o=operator, v=value: model_value(o, old, v),
                        make=make,
                    )
                    continue
                wanted = renamed(wanted, path.split("."), value.split("."))
    except UnfitError:
        wanted = UnfitError
    after = copy.deepcopy(document)
    try:
        changed = apply(parsed, after)
    except InvalidError:
        assert wanted is UnfitError
        return
    assert wanted is not UnfitError
    assert text(after) == text(wanted)
    assert changed == (text(after) != text(document))


def renamed(document: Any, source: list[str], target: list[str]) -> Any:
    """A field by its new name; nothing where it is not there, refused where an array is on either way."""
    found: Any = document
    arrays = False
    for name in source:
        if type(found) is list:
            arrays = True
            found = found[int(name)] if name in ("0", "1") and int(name) < len(found) else MISSING
        else:
            found = found.get(name, MISSING) if type(found) is dict else MISSING
    if found is MISSING:
        return document
    if arrays:
        raise UnfitError
    without = model(document, source, lambda old: MISSING, make=False)
    here: Any = without
    for name in target[:-1]:
        here = here.get(name, {}) if type(here) is dict else here
        if type(here) is list:
            raise UnfitError
    return model(without, target, lambda old: found, make=True)
