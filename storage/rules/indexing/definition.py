"""The definition of an index: checked, named, and as the JSON in which files and other nodes keep it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import (
    INDEX_NAME_CHARS_MAX,
    INDEX_PATHS_MAX,
    INDEX_WHERE_BYTES_MAX,
)
from entgldb.messages.model import Place, check_collection
from entgldb.storage.rules.field_path import parse_path
from entgldb.storage.rules.filtering.parser import parse_filter

TEXT_NAME: Final = "text"
"""The name of an index of words that was given none: a collection has one such index at most."""
_NOT_IN_NAMES: Final = re.compile("[\\x00-\\x1f\ud800-\udfff]")
_FIELDS: Final = frozenset(("Collection", "Name", "Paths", "Unique", "Where", "Text"))


class Definition(NamedTuple):
    """An index as it was asked for."""

    collection: str
    name: str
    paths: tuple[str, ...]
    """Field paths in their order; ``-`` before one has its values fall."""
    unique: bool = False
    """A local write that repeats the values of another document is refused."""
    where: str = ""
    """The JSON of a filter: only documents that match it stand in the index; empty: all do."""
    text: bool = False
    """The index has the words of the fields, for ``$text``."""

    @property
    def place(self) -> Place:
        """The key of its document in ``_system_indexes``, and what people call it."""
        return (self.collection, self.name)

    @property
    def fields(self) -> tuple[tuple[str, ...], ...]:
        """The paths, as their parts."""
        return tuple(parse_path(path.removeprefix("-")) for path in self.paths)

    @property
    def falls(self) -> tuple[bool, ...]:
        """For each path whether its values fall."""
        return tuple(path.startswith("-") for path in self.paths)

    def to_json(self) -> str:
        """The one text of this definition."""
        body: dict[str, Any] = {
            "Collection": self.collection,
            "Name": self.name,
            "Paths": list(self.paths),
            "Unique": self.unique,
            "Where": json.loads(self.where) if self.where else None,
            "Text": self.text,
        }
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def define(
    collection: str,
    paths: Sequence[str],
    *,
    unique: bool = False,
    where: Mapping[str, Any] | None = None,
    text: bool = False,
    name: str = "",
) -> Definition:
    """A checked definition. Raises InvalidError or UnsupportedError, naming what cannot be."""
    check_collection(collection)
    if not 0 < len(paths) <= INDEX_PATHS_MAX:
        raise InvalidError(f"an index has 1 to INDEX_PATHS_MAX = {INDEX_PATHS_MAX} fields")
    parts = [parse_path(path.removeprefix("-")) for path in paths]
    if len(set(parts)) < len(parts):
        raise InvalidError("an index has each field once")
    if text and (unique or where is not None or any(path.startswith("-") for path in paths)):
        raise InvalidError(
            "an index of words has no order and is neither unique nor partial",
            hint="make another index for that",
        )
    name = name or (TEXT_NAME if text else ",".join(paths))
    if len(name) > INDEX_NAME_CHARS_MAX or _NOT_IN_NAMES.search(name):
        raise InvalidError(
            f"{name!r:.80} is no name of an index",
            hint=f"give one of at most {INDEX_NAME_CHARS_MAX} characters, none of them a control character",
        )
    return Definition(collection, name, tuple(paths), unique, _where(where), text)


def read_definition(body: str) -> Definition:
    """A definition from its JSON. Raises InvalidError for one that this release does not know."""
    found = json.loads(body)
    try:
        if not _FIELDS.issuperset(found):
            raise InvalidError(f"it has fields of a later release: {sorted(set(found) - _FIELDS)!r:.80}")
        paths = found["Paths"]
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise InvalidError("its paths are no list of texts")
        return define(
            found["Collection"],
            paths,
            unique=found.get("Unique") is True,
            where=found.get("Where"),
            text=found.get("Text") is True,
            name=found["Name"],
        )
    except (KeyError, TypeError, AttributeError) as fault:
        raise InvalidError(f"it is no definition of an index: {fault!r:.80}") from None


def _where(where: Mapping[str, Any] | None) -> str:
    if where is None:
        return ""
    parse_filter(where)
    text = json.dumps(where, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if len(text.encode()) > INDEX_WHERE_BYTES_MAX:
        raise InvalidError(f"the filter of an index has at most {INDEX_WHERE_BYTES_MAX} bytes as JSON")
    return text
