"""The effect of an update on a document."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from entgldb.messages.errors import InvalidError
from entgldb.storage.rules.merging.changes import same
from entgldb.storage.rules.merging.tree import ABSENT, text_of
from entgldb.storage.rules.updating.parse import (
    ADD_TO_SET,
    INC,
    MAX,
    MIN,
    MUL,
    PULL,
    PUSH,
    RENAME,
    SET,
    UNSET,
    Matching,
    Path,
    Step,
    Update,
    dotted,
    kind_of,
)

_RANKS: Final = {type(None): 0, int: 1, float: 1, str: 2, bool: 3}
"""The order of kinds for $min and $max, as in MongoDB; objects and arrays have no place in it."""
_MAKES_NOTHING: Final = (UNSET, PULL)
"""Operators that leave alone what is not there."""
_DIGITS_MAX: Final = 8
"""Of an index; no document has an array of so many elements."""


def apply(update: Update, document: dict[str, Any]) -> bool:
    """Change ``document`` by ``update``; whether it differs now.

    Raises InvalidError where an operator does not fit what is there; the document is then of no use. Values
    of the update become part of the document.
    """
    changed = False
    for step in update:
        if step.operator == RENAME:
            changed |= _rename(document, step.path, step.value)
        else:
            changed |= _apply(document, step)
    return changed


def value_at(document: dict[str, Any], path: Path) -> Any:
    """The value of a field, ABSENT where there is none; None also where something on the way is no object."""
    here: Any = document
    for name in path:
        if here is not ABSENT:
            here = here.get(name, ABSENT) if type(here) is dict else None
    return here


def _apply(document: dict[str, Any], step: Step) -> bool:
    container = _reach(document, step.path, make=step.operator not in _MAKES_NOTHING)
    if container is None:
        return False
    old = _get(container, step.path[-1])
    new = _NEW[step.operator](old, step)
    if new is ABSENT and old is not ABSENT and type(container) is list:
        # no other element moves up
        new = None
    if new is old or (new is not ABSENT and old is not ABSENT and same(old, new)):
        return False
    _put(container, step.path, new)
    return True


def _rename(document: dict[str, Any], source: Path, target: Path) -> bool:
    container = _reach(document, source, make=False)
    value = ABSENT if container is None else _get(container, source[-1])
    if value is ABSENT:
        return False
    _put(container, source, ABSENT)
    goal = _reach(document, target, make=True)
    for path, holder in ((source, container), (target, goal)):
        if type(holder) is not dict or value_at(document, path[:-1]) is not holder:
            raise InvalidError(f"$rename of {dotted(source)}: {dotted(path)} is in an array", hint="use $set")
    _put(goal, target, value)
    return True


def _reach(document: dict[str, Any], path: Path, *, make: bool) -> Any:
    """The object or array that holds the field; without ``make`` None where there is none."""
    here: Any = document
    for depth, name in enumerate(path[:-1], 1):
        below = _get(here, name)
        if below is ABSENT and make:
            below = {}
            _put(here, path[:depth], below)
        elif type(below) not in (dict, list):
            if make:
                raise InvalidError(
                    f"{dotted(path[:depth])} is {kind_of(below)}: it can have no {path[depth]:.40}"
                )
            return None
        here = below
    return here


def _get(container: Any, name: str) -> Any:
    if type(container) is dict:
        return container.get(name, ABSENT)
    index = _index(name)
    return container[index] if index is not None and index < len(container) else ABSENT


def _put(container: Any, path: Path, value: Any) -> None:
    name = path[-1]
    if type(container) is dict:
        if value is ABSENT:
            del container[name]
        else:
            container[name] = value
        return
    index = _index(name)
    if index is None or index > len(container):
        raise InvalidError(
            f"{dotted(path)} is no place in an array of {len(container)} elements",
            hint="$push adds an element",
        )
    container[index : index + 1] = [value]


def _index(name: str) -> int | None:
    good = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and len(name) < _DIGITS_MAX
    return int(name) if good else None


def _inc(old: Any, step: Step) -> Any:
    return step.value if old is ABSENT else _computed(operator.add, old, step)


def _mul(old: Any, step: Step) -> Any:
    return type(step.value)(0) if old is ABSENT else _computed(operator.mul, old, step)


def _computed(compute: Callable[[Any, Any], Any], old: Any, step: Step) -> Any:
    """Integers of any size exactly; a float makes a float."""
    if type(old) not in (int, float):
        raise InvalidError(f"{step.operator} of {dotted(step.path)}: it is {kind_of(old)}, not a number")
    try:
        new = compute(old, step.value)
    except OverflowError:
        new = math.inf
    if type(new) is float and not math.isfinite(new):
        raise InvalidError(f"{step.operator} of {dotted(step.path)}: the result is beyond a double")
    return new


def _min(old: Any, step: Step) -> Any:
    return step.value if old is ABSENT or _rank(step.value, step) < _rank(old, step) else old


def _max(old: Any, step: Step) -> Any:
    return step.value if old is ABSENT or _rank(step.value, step) > _rank(old, step) else old


def _rank(value: Any, step: Step) -> tuple[int, Any]:
    rank = _RANKS.get(type(value))
    if rank is None:
        raise InvalidError(
            f"{step.operator} of {dotted(step.path)}: {kind_of(value)} is not less or greater than others"
        )
    return rank, 0 if value is None else value


def _add_to_set(old: Any, step: Step) -> Any:
    known = {text_of(value) for value in old}
    new = {text_of(value): value for value in step.value}
    return old + [value for text, value in new.items() if text not in known]


def _pull(old: Any, step: Step) -> Any:
    gone = pulled(step, old)
    return [value for value, goes in zip(old, gone, strict=True) if not goes]


def pulled(step: Step, array: list[Any]) -> list[bool]:
    """For each element whether $pull takes it out."""
    if isinstance(step.value, Matching):
        return [step.value.has(element) for element in array]
    texts = {text_of(value) for value in step.value}
    return [text_of(element) in texts for element in array]


def _of_array(new: Callable[[list[Any], Step], list[Any]]) -> Callable[[Any, Step], Any]:
    """An operator on arrays. One that only takes out makes none where none is."""

    def checked(old: Any, step: Step) -> Any:
        if old is ABSENT:
            return ABSENT if step.operator in _MAKES_NOTHING else new([], step)
        if type(old) is not list:
            raise InvalidError(f"{step.operator} of {dotted(step.path)}: it is {kind_of(old)}, not an array")
        made = new(old, step)
        return old if len(made) == len(old) else made

    return checked


_NEW: Final[dict[str, Callable[[Any, Step], Any]]] = {
    SET: lambda old, step: step.value,
    UNSET: lambda old, step: ABSENT,
    INC: _inc,
    MUL: _mul,
    MIN: _min,
    MAX: _max,
    PUSH: _of_array(lambda old, step: old + step.value),
    ADD_TO_SET: _of_array(_add_to_set),
    PULL: _of_array(_pull),
}
"""The new value of a field by its old one; ABSENT: there is none."""
