"""``find_and_update``: one document that matches is changed, and given as it is then, or was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import writes
from entgldb.client.verbs.writing import Hands, Writing
from entgldb.client.writes import Document
from entgldb.messages.errors import EntglError, InvalidError, VersionError
from entgldb.storage.documents.reading import Read
from entgldb.storage.rules.updating.apply import apply
from entgldb.storage.rules.updating.parse import read_update

if TYPE_CHECKING:
    from entgldb.messages.client import Write
    from entgldb.messages.model import Version

RETURNS: Final = ("after", "before")


class Claiming:
    """Looks for the first document that matches, and changes it."""

    def __init__(
        self, hands: Hands, writing: Writing, name: str, filter: Mapping[str, Any], **how: Any
    ) -> None:
        """``name``: of the collection. ``how``: the order, as ``Documents.read_all`` takes it."""
        self._hands, self._writing = hands, writing
        self._name, self._filter, self._how = name, filter, how

    async def update(
        self, operators: Mapping[str, Any], returns: str, expire_after: float | None
    ) -> Document | None:
        """The document, or None where none matches.

        The write is for the version that was read: so what its transaction meets is known here, and so is
        what that leaves. Raises InvalidError, TooLargeError, UnsupportedError.
        """
        if returns not in RETURNS:
            raise InvalidError(f"returns is {returns!r:.40}", hint='"after" or "before"')
        life_ms = writes.life(expire_after)
        update = writes.update(self._name, "any", operators, life_ms=life_ms)
        while (found := await self._hands.read(self._first)) is not None:
            key, before = found
            write = replace(update, key=key, expects=writes.expected(before.version))
            try:
                version = await self._writing.write(write, None)
            except EntglError as fault:
                if isinstance(fault, VersionError):
                    # another write came first: perhaps another document is the first one now
                    continue
                writes.forget_request(fault)
                raise
            assert version is not None  # the document was there
            shown = before if returns == "before" else await self._left(key, before, write, version)
            return writes.document(self._name, key, shown)
        return None

    async def _left(self, key: str, before: Read, write: Write, version: Version) -> Read:
        """The document that the write has left."""
        document = json.loads(before.text)
        apply(read_update(write.update or b""), document)
        left = Read(json.dumps(document, ensure_ascii=False, separators=(",", ":")), version)

        def now() -> Read | None:
            # to be put again it needs what the file knows of each field
            return self._hands.file.documents.read(self._name, key) if self._writing.merges() else None

        return await self._hands.read(now) or left

    def _first(self) -> tuple[str, Read] | None:
        found = self._hands.file.documents.read_all(self._name, self._filter, limit=1, **self._how)
        return next(found, None)
