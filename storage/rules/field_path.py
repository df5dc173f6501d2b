"""The one canonical form of a field's value in SQL: ``json_extract(body,'$."a"."b"')``.

Indexes and queries use it alike: SQLite uses an expression index only where the two are the same text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from entgldb.messages.errors import InvalidError

PATH_CHARS_MAX: Final = 256
_NOT_IN_PATHS: Final = re.compile("[\\x00-\\x1f\"'\\\\\ud800-\udfff]")


def parse_path(path: str) -> tuple[str, ...]:
    """``a.b`` as its parts, or InvalidError."""
    if not isinstance(path, str) or not 0 < len(path) <= PATH_CHARS_MAX:
        raise InvalidError(f"a field path has 1 to {PATH_CHARS_MAX} characters")
    parts = tuple(path.split("."))
    for part in parts:
        if not part or part.startswith("$") or _NOT_IN_PATHS.search(part):
            raise InvalidError(
                f"{path!r:.80} is not a field path",
                hint="use names joined by dots, without quotes, backslashes, line ends, or a leading '$'",
            )
    return parts


def extract(parts: Sequence[str]) -> str:
    """The canonical SQL of a field's value."""
    return f"json_extract(body,'{literal(parts)}')"


def literal(parts: Sequence[str]) -> str:
    """The JSON path of a field, without quotes around it."""
    return "$" + "".join(f'."{part}"' for part in parts)
