"""Aggregation: ``$match``, ``$group``, ``$sort`` and ``$limit``, one after another.

The stages that a query can answer are its beginning, the ``Head``; the others work in memory, within limits.
"""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError, UnsupportedError
from entgldb.storage.rules.field_path import parse_path
from entgldb.storage.rules.filtering.cursor import names
from entgldb.storage.rules.filtering.parser import collate, near, parse_filter, plain
from entgldb.storage.rules.filtering.values import MISSING, Collate, at, identity, order

STAGES_MAX: Final = 16
"""Stages of one pipeline."""
GROUPS_MAX: Final = 10_000
"""Groups that one ``$group`` makes."""
GROUP_FIELDS_MAX: Final = 32
"""Fields of a group, and names of its ``_id``."""
SORTED_MAX: Final = 100_000
"""Documents that a ``$sort`` in memory takes."""
_SCALE: Final = 2**1074
"""Times this, every double is a whole number."""

Documents = Iterable[Mapping[str, Any]]
Stage = Callable[[Documents], Documents]
Value = Callable[[Any], Any]
"""Takes a value from a document."""


class Pipeline(NamedTuple):
    """A parsed pipeline: what a query answers, and what is done with the documents that it finds."""

    filter: dict[str, Any]
    sort: tuple[str, ...]
    limit: int | None
    stages: tuple[Stage, ...]

    def run(self, documents: Documents) -> list[dict[str, Any]]:
        """The documents of the last stage. Raises TooLargeError."""
        for stage in self.stages:
            documents = stage(documents)
        return [dict(one) for one in documents]


def parse_pipeline(pipeline: Sequence[Mapping[str, Any]], collation: str | None = None) -> Pipeline:
    """Raises as ``parse_filter`` for what is no pipeline."""
    if not isinstance(pipeline, (list, tuple)):
        raise InvalidError('a pipeline is a list of stages, such as [{"$match": {...}}]')
    if len(pipeline) > STAGES_MAX:
        raise TooLargeError(f"a pipeline has at most STAGES_MAX = {STAGES_MAX} stages")
    left = [_named(stage) for stage in pipeline]
    made = [_STAGES[name](wanted, collation) for name, wanted in left]
    head = 0
    wanted: list[Any] = []
    while head < len(left) and left[head][0] == "$match":
        wanted.append(left[head][1])
        head += 1
    sort: tuple[str, ...] = ()
    limit = None
    if head < len(left) and left[head][0] == "$sort":
        sort = names(left[head][1])
        head += 1
    if head < len(left) and left[head][0] == "$limit":
        limit = left[head][1]
        head += 1
    return Pipeline({"$and": wanted} if wanted else {}, sort, limit, tuple(made[head:]))


def _named(stage: Any) -> tuple[str, Any]:
    if not isinstance(stage, Mapping) or len(stage) != 1:
        raise InvalidError("a stage is an object of one operator")
    ((name, wanted),) = stage.items()
    if name not in _STAGES:
        raise UnsupportedError(f"a stage {name!r:.40} is not supported", hint=near(str(name), _STAGES))
    return name, wanted


def _match(wanted: Any, collation: str | None) -> Stage:
    node = parse_filter(wanted, collation)
    return lambda documents: (one for one in documents if node.matches(one))


def _sort(wanted: Any, collation: str | None) -> Stage:
    if not isinstance(wanted, (str, list, tuple)) or not all(isinstance(one, str) for one in wanted):
        raise InvalidError('$sort takes a field path, "-n" for descending, or a list of them')
    by = collate(collation)
    fields = [(parse_path(name.removeprefix("-")), name.startswith("-")) for name in names(wanted)]

    def stage(documents: Documents) -> Documents:
        found = list(islice(documents, SORTED_MAX + 1))
        if len(found) > SORTED_MAX:
            raise TooLargeError(f"$sort takes at most SORTED_MAX = {SORTED_MAX} documents here")
        for parts, falling in reversed(fields):
            found.sort(key=lambda one, parts=parts: order(at(one, parts), by), reverse=falling)  # type: ignore[misc]
        return iter(found)

    return stage


def _limit(wanted: Any, collation: str | None) -> Stage:
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise InvalidError(f"$limit {wanted!r:.40} is not a whole number from 0")
    return lambda documents: islice(documents, wanted)


def _group(wanted: Any, collation: str | None) -> Stage:
    if not isinstance(wanted, Mapping) or "_id" not in wanted:
        raise InvalidError('$group takes an object with an "_id": null, "$path", or an object of paths')
    if len(wanted) > GROUP_FIELDS_MAX:
        raise TooLargeError(f"$group has at most GROUP_FIELDS_MAX = {GROUP_FIELDS_MAX} fields")
    key = _key(wanted["_id"])
    by = collate(collation)
    fields = {name: _accumulator(name, value, by) for name, value in wanted.items() if name != "_id"}

    def stage(documents: Documents) -> Documents:
        groups: dict[Any, tuple[Any, list[_Accumulator]]] = {}
        for one in documents:
            value = key(one)
            found = groups.get(identity(value))
            if found is None:
                if len(groups) == GROUPS_MAX:
                    raise TooLargeError(f"$group makes at most GROUPS_MAX = {GROUPS_MAX} groups")
                found = groups[identity(value)] = value, [make() for make in fields.values()]
            for accumulator in found[1]:
                accumulator.add(one)
        rows = [
            {"_id": value, **dict(zip(fields, (one.result() for one in made), strict=True))}
            for value, made in groups.values()
        ]
        return iter(sorted(rows, key=lambda row: (order(row["_id"]), json.dumps(row["_id"], sort_keys=True))))

    return stage


def _key(wanted: Any) -> Value:
    """The value that documents of one group share."""
    if wanted is None:
        return lambda document: None
    if isinstance(wanted, Mapping):
        if len(wanted) > GROUP_FIELDS_MAX:
            raise TooLargeError(f"an _id has at most GROUP_FIELDS_MAX = {GROUP_FIELDS_MAX} names")
        several = {_name(name): _path(value) for name, value in wanted.items()}
        return lambda document: {name: value(document) for name, value in several.items()}
    return _path(wanted)


def _name(name: Any) -> str:
    (made,) = parse_path(name) if isinstance(name, str) and "." not in name else ("",)
    if not made:
        raise InvalidError(f"{name!r:.40} is no name of a field in $group")
    return made


def _path(wanted: Any) -> Value:
    if not isinstance(wanted, str) or not wanted.startswith("$"):
        raise InvalidError(f"{wanted!r:.40} in $group is no path", hint='write "$age" for the field age')
    parts = parse_path(wanted[1:])

    def value(document: Any) -> Any:
        found = at(document, parts)
        return None if found is MISSING else found

    return value


class _Accumulator(ABC):
    """Takes a value of each document of a group."""

    def __init__(self, value: Value, collate: Collate) -> None:
        self._value = value
        self._collate = collate

    def add(self, document: Any) -> None:
        """Take one more document."""
        self.take(self._value(document))

    @abstractmethod
    def take(self, value: Any) -> None:
        """Take its value."""

    @abstractmethod
    def result(self) -> Any:
        """The value of the group."""


class _Count(_Accumulator):
    def __init__(self, value: Value, collate: Collate) -> None:
        super().__init__(value, collate)
        self._count = 0

    def take(self, value: Any) -> None:
        self._count += 1

    def result(self) -> Any:
        return self._count


class _Sum(_Accumulator):
    """Exact: it rounds once, at the end, and not at all where all numbers are whole ones."""

    def __init__(self, value: Value, collate: Collate) -> None:
        super().__init__(value, collate)
        self._count = self._whole = self._scaled = 0
        self._floats = False

    def take(self, value: Any) -> None:
        if isinstance(value, float):
            over, under = value.as_integer_ratio()
            self._scaled += over * (_SCALE // under)
            self._floats = True
        elif isinstance(value, int) and not isinstance(value, bool):
            self._whole += value
        else:
            return
        self._count += 1

    def result(self) -> Any:
        return self._divided(1)

    def _divided(self, by: int) -> Any:
        if not self._floats and self._whole % by == 0:
            return self._whole // by
        try:
            return (self._whole * _SCALE + self._scaled) / (_SCALE * by)
        except OverflowError:
            raise TooLargeError("a $sum or $avg is beyond a double") from None


class _Average(_Sum):
    def result(self) -> Any:
        return self._divided(self._count) if self._count else None


class _Extreme(_Accumulator):
    def __init__(self, value: Value, collate: Collate, *, greatest: bool) -> None:
        super().__init__(value, collate)
        self._greatest = greatest
        self._found: Any = None

    def take(self, value: Any) -> None:
        if value is None:
            return
        place, best = order(value, self._collate), order(self._found, self._collate)
        if self._found is None or (place > best if self._greatest else place < best):
            self._found = value

    def result(self) -> Any:
        return self._found


def _accumulator(name: str, wanted: Any, by: Collate) -> Callable[[], _Accumulator]:
    _name(name)
    if not isinstance(wanted, Mapping) or len(wanted) != 1:
        raise InvalidError(
            f"{name} in $group is an object of one operator", hint=f"one of {' '.join(_KINDS)}"
        )
    ((operator, operand),) = wanted.items()
    if operator not in _KINDS:
        raise UnsupportedError(
            f"{operator!r:.40} in $group is not supported", hint=near(str(operator), _KINDS)
        )
    if operator == "$count":
        if operand != {}:
            raise InvalidError("$count takes {}")
        return lambda: _Count(lambda document: None, by)
    if operator == "$sum" and type(operand) in (int, float):
        number = plain(operand)
        return lambda: _Sum(lambda document: number, by)
    value = _path(operand)
    return lambda: _KINDS[operator](value, by)


_KINDS: Final[dict[str, Callable[[Value, Collate], _Accumulator]]] = {
    "$sum": _Sum,
    "$avg": _Average,
    "$min": functools.partial(_Extreme, greatest=False),
    "$max": functools.partial(_Extreme, greatest=True),
    "$count": _Count,
}
_STAGES: Final[dict[str, Callable[[Any, str | None], Stage]]] = {
    "$match": _match,
    "$group": _group,
    "$sort": _sort,
    "$limit": _limit,
}
