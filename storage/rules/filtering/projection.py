"""Projections: some fields of a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.storage.rules.field_path import parse_path
from entgldb.storage.rules.filtering.values import MISSING

FIELDS_MAX: Final = 100
"""Paths of one projection."""

Fields = dict[str, Any]
"""Names to what is wanted below each; None: all."""


def parse_fields(paths: str | Iterable[str]) -> Fields:
    """The fields that paths name, as a tree. Raises InvalidError, TooLargeError."""
    named = [paths] if isinstance(paths, str) else list(paths)
    if not named:
        raise InvalidError("fields names no field", hint="leave it out for whole documents")
    if len(named) > FIELDS_MAX:
        raise TooLargeError(f"fields has at most FIELDS_MAX = {FIELDS_MAX} paths")
    fields: Fields = {}
    for path in named:
        *above, last = parse_path(path)
        below: Fields | None = fields
        for name in above:
            # a field that is wanted whole is wanted with all that is in it
            below = None if below is None else below.setdefault(name, {})
        if below is not None:
            below[last] = None
    return fields


def project(value: Any, fields: Fields) -> Any:
    """An object with these fields alone, in the order that it has; in an array, of each object in it."""
    if isinstance(value, list):
        return [project(one, fields) for one in value if isinstance(one, (dict, list))]
    if not isinstance(value, dict):
        return MISSING
    made = {}
    for name, item in value.items():
        if name in fields:
            below = fields[name]
            found = item if below is None else project(item, below)
            if found is not MISSING:
                made[name] = found
    return made
