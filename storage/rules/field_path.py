"""The one canonical form of a field's value in SQL: ``json_extract(body,'$."a"')``.

Entries of indexes and conditions use it alike. Of a path with dots it has ``'['`` where an array stands on
the way: such documents are found among those that have an array at its end.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.messages.model import check_text

PATH_CHARS_MAX: Final = 256
PATH_PARTS_MAX: Final = DEPTH_MAX
"""Names of one path: no document is deeper."""
_NOT_IN_PATHS: Final = re.compile("[\\x00-\\x1f\"'\\\\\ud800-\udfff]")


def parse_path(path: str) -> tuple[str, ...]:
    """``a.b`` as its parts, or InvalidError."""
    check_text(path, "a field path")
    if not 0 < len(path) <= PATH_CHARS_MAX:
        raise InvalidError(f"a field path has 1 to {PATH_CHARS_MAX} characters")
    return _parsed(path)


@functools.lru_cache(maxsize=256)  # a query and the indexes that may find it name the same paths
def _parsed(path: str) -> tuple[str, ...]:
    parts = tuple(path.split("."))
    if len(parts) > PATH_PARTS_MAX:
        raise InvalidError(f"a field path has at most PATH_PARTS_MAX = {PATH_PARTS_MAX} names")
    for part in parts:
        if not part or part.startswith("$") or _NOT_IN_PATHS.search(part):
            raise InvalidError(
                f"{path!r:.80} is not a field path",
                hint="use names joined by dots, without quotes, backslashes, line ends, or a leading '$'",
            )
    return parts


@functools.lru_cache(maxsize=256)
def extract(parts: tuple[str, ...]) -> str:
    """The canonical SQL of a field's value."""
    value = f"json_extract(body,'{literal(parts)}')"
    if len(parts) == 1:
        return value
    on_the_way = "".join(f" WHEN {kind(parts[:end])} THEN '['" for end in range(1, len(parts)))
    return f"CASE 'array'{on_the_way} ELSE {value} END"


@functools.lru_cache(maxsize=256)
def kind(parts: tuple[str, ...]) -> str:
    """The SQL of the name that SQLite has for the kind of a field's value; NULL where there is none."""
    return f"json_type(body,'{literal(parts)}')"


def literal(parts: Sequence[str]) -> str:
    """The JSON path of a field, without quotes around it."""
    return "$" + "".join(f'."{part}"' for part in parts)
