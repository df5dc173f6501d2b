"""The words that a person types into a search field, as an expression of FTS5 that is nothing else."""

from __future__ import annotations

import re
from typing import Final

from entgldb.messages.errors import InvalidError, TooLargeError

WORDS_MAX: Final = 64
"""Words and phrases of one ``$text``."""
TEXT_CHARS_MAX: Final = 4096
"""Characters of one ``$text``."""
_TERMS: Final = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


def expression(text: str) -> str:
    """Words, ``"a phrase"``, ``begin*`` and ``-without``, all of them to be met, as an FTS5 expression.

    Raises InvalidError where no word is wanted, TooLargeError beyond a limit.
    """
    if not isinstance(text, str):
        raise InvalidError(f"$text takes a text, not a {type(text).__name__}")
    if len(text) > TEXT_CHARS_MAX:
        raise TooLargeError(f"$text has at most TEXT_CHARS_MAX = {TEXT_CHARS_MAX} characters")
    wanted: list[str] = []
    unwanted: list[str] = []
    for minus, phrase, word in _TERMS.findall(text):
        term = _term(phrase or word.rstrip("*"), begins=word.endswith("*"))
        if term:
            (unwanted if minus else wanted).append(term)
    if not wanted:
        raise InvalidError("$text has no word to look for", hint='such as {"$text": "apple tree*"}')
    if len(wanted) + len(unwanted) > WORDS_MAX:
        raise TooLargeError(f"$text has at most WORDS_MAX = {WORDS_MAX} words")
    found = " AND ".join(wanted)
    return f"({found}) NOT ({' OR '.join(unwanted)})" if unwanted else found


def _term(text: str, *, begins: bool) -> str:
    """A quoted string of FTS5; empty where the tokenizer would find no word in it."""
    if not any(letter.isalnum() for letter in text):
        return ""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return f'"{plain}"{"*" if begins else ""}'
