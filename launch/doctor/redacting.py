"""Texts without secrets: those that a pattern shows, and those that are known by their value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

LITERAL_CHARS_MIN: Final = 6
"""A shorter value would be taken out of words that have nothing to do with it."""
SECRET_NAMES: Final = re.compile(r"secret|password|private|token$|^keys?$", re.IGNORECASE)
"""Names of fields whose texts are left out, whatever they hold; ``keys`` are those of documents."""
REMOVED: Final = "[removed]"
_PATTERNS: Final = (
    re.compile(r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),  # a JSON Web Token
    re.compile(r"sealed:v1:[A-Za-z0-9:_=+/-]+"),
    re.compile(r"(?<=[Bb]earer )[^\s,;]+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # a name and a password in a URL
)


def text_without(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without what looks like a secret, and without these."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= LITERAL_CHARS_MIN:
            text = text.replace(secret, REMOVED)
    for pattern in _PATTERNS:
        text = pattern.sub(REMOVED, text)
    return text


def without(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A JSON value without them; fields that are named as secrets keep no value at all."""
    secrets = tuple(secrets)
    if isinstance(value, str):
        return text_without(value, secrets)
    if isinstance(value, dict):
        return {
            name: REMOVED if _names_a_secret(name, held) else without(held, secrets)
            for name, held in value.items()
        }
    return [without(item, secrets) for item in value] if isinstance(value, list | tuple) else value


def _names_a_secret(name: str, held: Any) -> bool:
    return bool(held) and not isinstance(held, bool | int | float) and SECRET_NAMES.search(name) is not None
