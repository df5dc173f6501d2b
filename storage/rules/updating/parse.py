"""An update as JSON, taken apart once: operators with the paths and values that they are for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError, UnsupportedError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.messages.strict_json import read_json
from entgldb.storage.rules.filtering.nodes import Node
from entgldb.storage.rules.filtering.parser import parse_filter

SET: Final = "$set"
UNSET: Final = "$unset"
INC: Final = "$inc"
MUL: Final = "$mul"
MIN: Final = "$min"
MAX: Final = "$max"
PUSH: Final = "$push"
PULL: Final = "$pull"
ADD_TO_SET: Final = "$addToSet"
RENAME: Final = "$rename"
OPERATORS: Final = (SET, UNSET, INC, MUL, MIN, MAX, PUSH, PULL, ADD_TO_SET, RENAME)
EACH: Final = "$each"
IN: Final = "$in"
UPDATE_DEPTH_MAX: Final = DEPTH_MAX + 3
"""Nesting of an update: a value of a document stands within operator, path, ``$each`` and its array."""
REMEMBERED_MAX: Final = 256
"""Updates that are kept as they were read, the last ones used."""
REMEMBERED_BYTES_MAX: Final = 1024
"""The largest one that is kept."""
_OTHER_WAYS: Final = {
    "$setOnInsert": SET,
    "$currentDate": SET,
    "$bit": SET,
    "$pop": PULL,
    "$pullAll": f'{PULL} with {{"{IN}": [...]}}',
    "$pushAll": f'{PUSH} with {{"{EACH}": [...]}}',
}
"""Operators of MongoDB, and the one here that comes nearest."""
_SEVERAL: Final = {PUSH: EACH, ADD_TO_SET: EACH, PULL: IN}
"""The word by which an operator takes several values instead of one."""
_CHARS_SHOWN: Final = 80
_HERE: Final = "element"
"""A field, for filters that know fields alone."""
Path = tuple[str, ...]


class Matching(NamedTuple):
    """The elements of an array that meet a condition, as ``$elemMatch`` means it."""

    node: Node

    def has(self, element: Any) -> bool:
        """Whether it is one of them."""
        return self.node.matches({_HERE: [element]})


class Step(NamedTuple):
    """One operator on one field."""

    operator: str
    path: Path
    """Names, and indexes of arrays, from the document down to the field."""
    value: Any
    """The operand; of $push, $addToSet and $pull the list of elements, or (of $pull) Matching; of $rename the
    new path."""


Update = tuple[Step, ...]
"""No path of it is another's, nor leads into another."""


def read_update(data: bytes) -> Update:
    """An update from its JSON text. Raises InvalidError, TooLargeError, UnsupportedError."""
    if len(data) > BODY_BYTES_MAX:
        raise TooLargeError(f"an update of {len(data)} bytes, {BODY_BYTES_MAX} allowed")
    return _remembered(data) if len(data) <= REMEMBERED_BYTES_MAX else _read(data)


def _read(data: bytes) -> Update:
    try:
        text = data.decode("utf-8")
    except ValueError as fault:
        raise InvalidError(f"an update is no JSON: {fault!s:.120}") from None
    return _parsed(read_json(text, "an update", UPDATE_DEPTH_MAX))


_remembered = lru_cache(REMEMBERED_MAX)(_read)
"""A program says the same again and again: reading it takes as long as doing it."""


def weight(update: Update) -> int:
    """The number of values that it writes, each of which takes time."""
    several = sum(
        [len(step.value) - 1 for step in update if type(step.value) is list and step.operator in _SEVERAL]
    )
    return len(update) + several


def dotted(path: Path) -> str:
    """A path for people."""
    return ".".join(path)[:_CHARS_SHOWN]


def kind_of(value: Any) -> str:
    """The kind of a JSON value for people."""
    if type(value) in (int, float):
        return "a number"
    return {dict: "an object", list: "an array", str: "a text", bool: "true or false"}.get(
        type(value), "null"
    )


def _parsed(update: Any) -> Update:
    if type(update) is not dict or not update:
        raise InvalidError("an update is an object of operators", hint='{"$set": {"name": "Ada"}}')
    steps = tuple(step for name, fields in update.items() for step in _steps(name, fields))
    if not steps:
        raise InvalidError("an update names no field", hint='{"$set": {"name": "Ada"}}')
    if len(steps) > 1 or steps[0].operator == RENAME:
        _refuse_overlaps(steps)
    return steps


def _steps(name: str, fields: Any) -> Iterator[Step]:
    if name not in OPERATORS:
        raise _unknown(name)
    if type(fields) is not dict:
        raise InvalidError(f"{name} takes an object of fields", hint=f'{{"{name}": {{"FIELD": ...}}}}')
    for path, value in fields.items():
        where = _path(path, name)
        if name == RENAME:
            if type(value) is not str:
                raise InvalidError(f"{RENAME} of {path:.80} takes the new path, a text")
            value = _path(value, name)
        elif name in _SEVERAL:
            value = _elements(name, path, value)
        elif name in (INC, MUL) and type(value) not in (int, float):
            raise InvalidError(f"{name} of {path:.80} takes a number, not {kind_of(value)}")
        yield Step(name, where, value)


def _path(text: str, operator: str) -> Path:
    path = tuple(text.split("."))
    if not all(path):
        raise InvalidError(f"{text:.80} is not a path of names", hint="a.b names the field b of the object a")
    if len(path) >= DEPTH_MAX:
        raise InvalidError(f"a path of {len(path)} names", hint=f"1 to {DEPTH_MAX - 1} are possible")
    for name in path:
        if name[0] == "$":
            raise UnsupportedError(
                f"{operator} of {text:.80}: the positional {name:.40} is not supported",
                hint="name the index of the element, as in items.0.count",
            )
    return path


def _elements(operator: str, path: str, value: Any) -> list[Any] | Matching:
    """The values of an operator on an array."""
    word = _SEVERAL[operator]
    if type(value) is not dict or (operator != PULL and not any(name[:1] == "$" for name in value)):
        return [value]
    if operator == PULL and value.keys() != {IN}:
        return Matching(parse_filter({_HERE: {"$elemMatch": value}}))
    for name in value:
        if name != word:
            raise UnsupportedError(
                f"{operator} of {path:.80} does not take {name:.40}",
                hint=f'a value, or {{"{word}": [...]}}',
            )
    if type(value.get(word)) is not list:
        raise InvalidError(f"{operator} of {path:.80}: {word} takes an array")
    several: list[Any] = value[word]
    return several


def _unknown(name: str) -> InvalidError | UnsupportedError:
    if name[:1] != "$":
        return InvalidError(
            f"{name!r:.80} is no operator",
            hint='{"$set": {"name": "Ada"}} sets a field; put writes a whole document',
        )
    # difflib is needed by whoever mistyped, and by nobody else
    from difflib import get_close_matches

    longer = [operator for operator in OPERATORS if name.startswith(operator)]
    near = _OTHER_WAYS.get(name) or next(iter(longer + get_close_matches(name, OPERATORS, 1, 0.4)), "")
    return UnsupportedError(
        f"the update operator {name:.80} is not supported",
        hint=f"{near}, or another of {', '.join(OPERATORS)}" if near else ", ".join(OPERATORS),
    )


def _refuse_overlaps(steps: Update) -> None:
    """Raise InvalidError where nobody could say which of two writes to one place stands."""
    paths = sorted([step.path for step in steps] + [step.value for step in steps if step.operator == RENAME])
    # what a path leads into stands right behind it
    for one, two in pairwise(paths):
        if two[: len(one)] == one:
            raise InvalidError(
                f"an update changes {dotted(one)} and {dotted(two)} at once", hint="use two updates"
            )
