"""A document as it was read: its text, its version, and what it was made of."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from entgldb.messages.model import Version
from entgldb.messages.schema import Json

Document = dict[str, Json]
_scanned: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # typeshed leaves it out


class Read(NamedTuple):
    """A document as it was read, with what it was made of."""

    text: str
    version: Version
    """The newest of its versions."""
    stamps: bytes | None = None

    def versions(self) -> tuple[Version, ...]:
        """All that it was made of and that nobody had named then, the newest first."""
        if self.stamps is None:
            return (self.version,)
        from entgldb.storage.rules.merging.stored import tips_of

        return (self.version, *tips_of(self.stamps))


class Marked(Read):
    """A document that was found by its words."""

    snippet: str = ""
    """A piece of it with the words, marked."""


def parsed(text: str) -> Document:
    """A document from its text, which was checked when it was written."""
    # what json.loads looks for beyond that costs as much as the document
    made: Document = _scanned(text, 0)[0] if text[0] == "{" else json.loads(text)
    return made
