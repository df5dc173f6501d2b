"""Admin messages by name, for those who write them by hand."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from entgldb.messages.codec import known_messages
from entgldb.messages.errors import InvalidError
from entgldb.messages.schema import Message

ACTORS: Final = ("node", "store", "oplog", "sync", "election", "gateway")


def fields_of(name: str) -> dict[str, Any]:
    """The fields of an admin message, and their types. Raises InvalidError listing what is known."""
    known = {cls.__name__: cls for cls in known_messages().values() if cls.ADMIN}
    if name not in known:
        raise InvalidError(f"no message {name!r:.80}; known: {', '.join(sorted(known))}")
    return typing.get_type_hints(known[name])


def admin_message(name: str, given: Mapping[str, Any]) -> Message:
    """An admin message of these fields. Raises InvalidError that says what does not fit."""
    hints = fields_of(name)
    cls = next(cls for cls in known_messages().values() if cls.__name__ == name)
    declared = fields(_any(cls))
    wrong = next((field for field in given if field not in {one.name for one in declared}), None)
    if wrong is not None:
        raise InvalidError(
            f"{name} has no {wrong!r:.40}; its fields: {', '.join(one.name for one in declared) or 'none'}"
        )
    missing = [one.name for one in declared if one.name not in given and one.default is MISSING]
    if missing:
        raise InvalidError(f"{name} needs {', '.join(missing)}")
    return cls(**{field: _fitting(value, hints[field], f"{name}.{field}") for field, value in given.items()})


def _any(cls: type[Message]) -> Any:
    """Every registered message is a dataclass, which its decorator hides from the type checker."""
    return cls


def _fitting(value: Any, hint: Any, what: str) -> Any:
    if type(value) is hint or (hint is float and type(value) is int):
        return hint(value)
    raise InvalidError(f"{what}={value!r:.40}: {getattr(hint, '__name__', str(hint))} is expected")
