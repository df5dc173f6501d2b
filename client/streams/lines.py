"""Lines of a JSON Lines file as documents: each fault with its file, its line and what to do about it."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from entgldb.client.writes import PART_DOCUMENTS, put
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.model import check_key
from entgldb.messages.strict_json import read_object

LINE_BYTES_MAX: Final = 8 * BODY_BYTES_MAX
"""One line: a document in which every character is written as an escape, and blanks between."""
GROWTH_MAX: Final = 8
"""How many times longer a document may be when it is written anew, such as 1e9 as 1000000000.0."""
KEY_FIELD: Final = "_key"
DOCUMENT_FIELD: Final = "_document"
"""Beside ``_key`` and alone: the document itself, which has a field of such a name."""
_PACKED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def exported(key: str, document: dict[str, Any]) -> dict[str, Any]:
    """The line of a document; ``Lines`` makes exactly it of this again."""
    if KEY_FIELD in document or (
        document.keys() == {DOCUMENT_FIELD} and isinstance(document[DOCUMENT_FIELD], dict)
    ):
        return {KEY_FIELD: key, DOCUMENT_FIELD: document}
    return {KEY_FIELD: key, **document}


def refuse_packed(first: bytes, piped: str) -> None:
    """Raise InvalidError where a file begins as none of text does; ``piped``: it, on its way to the verb."""
    if first.startswith(_PACKED):
        raise InvalidError("the file is compressed", hint=f"unpack it first: gunzip -c {piped}")
    if first.startswith(_UTF16) or b"\x00" in first[:64]:
        raise InvalidError("the file is UTF-16, not UTF-8", hint=f"iconv -f UTF-16 -t UTF-8 {piped}")


class Given:
    """The lines of which documents have been given, so that a person hears which are stored."""

    def __init__(self) -> None:
        self.count = 0
        self._lines: deque[int] = deque(maxlen=4 * PART_DOCUMENTS)

    def note(self, line: int) -> None:
        """The next document ends at this line."""
        self._lines.append(line)
        self.count += 1

    def stored(self, count: int) -> str:
        """The result for a person when ``count`` documents of the file were stored."""
        if not count:
            return "nothing stored"
        last = self._lines[count - 1 - self.count]
        return f"{count} stored (lines 1 to {last})"


class Lines:
    """Keys and documents of the lines of ``file``. Raises InvalidError or TooLargeError with the place."""

    def __init__(self, file: BinaryIO, name: str, field: str, collection: str) -> None:
        self._file, self._name, self._field, self._collection = file, name, field, collection
        self._number = 0
        self._kind: type | None = None
        self.given = Given()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while line := self._file.readline(LINE_BYTES_MAX + 1):
            self._number += 1
            try:
                pair = self._pair(line)
            except EntglError as fault:
                fault.text = f"{self._name}, line {self._number}: {fault.text}"
                raise
            if pair is not None:
                self.given.note(self._number)
                yield pair

    def _pair(self, line: bytes) -> tuple[str, dict[str, Any]] | None:
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            refuse_packed(line, self._piped)
        if len(line) > LINE_BYTES_MAX:
            raise InvalidError(
                f"longer than {LINE_BYTES_MAX} bytes", hint=self._hint(line[:80].decode("utf-8", "replace"))
            )
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as fault:
            raise InvalidError(
                f"byte {fault.start + 1}, {line[fault.start]:#04x}, is no UTF-8",
                hint=f"iconv -f ISO-8859-1 -t UTF-8 {self._piped}",
            ) from None
        if not text:
            return None
        try:
            document = read_object(text, "the document")
        except InvalidError as fault:
            raise InvalidError(fault.text, hint=fault.hint or self._hint(text)) from None
        key = self._key(document)
        if self._field == KEY_FIELD:
            del document[KEY_FIELD]
            inner = document.get(DOCUMENT_FIELD)
            if len(document) == 1 and isinstance(inner, dict):
                document = inner
        if len(line) > BODY_BYTES_MAX // GROWTH_MAX:
            put(self._collection, key, document)  # refuses what is too large
        return check_key(key), document

    def _key(self, document: dict[str, Any]) -> str:
        value = document.get(self._field)
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise InvalidError(
                f"no field {self._field} that could be a key",
                hint=f"entgldb import {self._collection} FILE --key FIELD",
            )
        if self._kind not in (None, type(value)):
            raise InvalidError(
                f"the key {value!r:.80} is a {_WORDS[type(value)]}, those before are {_WORDS[self._kind]}s",
                hint="write all keys of a file as text, or all as whole numbers",
            )
        self._kind = type(value)
        return str(value)

    @property
    def _piped(self) -> str:
        return f"{self._name} | entgldb import {self._collection} -"

    def _hint(self, text: str) -> str:
        """A hint for a file that is no JSON Lines: its likely format, and how to convert it."""
        if text.startswith("["):
            return f"one document a line: jq -c '.[]' {self._piped}"
        if self.given.count == 0 and text.startswith("{") and not text.endswith("}"):
            return f"one document a line: jq -c . {self._piped}"
        if self.given.count == 0 and any(mark in text for mark in ",;\t") and text[0] not in "{[":
            return f"for CSV: entgldb import {self._collection} {self._name} --format csv"
        return "each line is a JSON object, as `entgldb export` writes them"


_WORDS: Final[dict[type | None, str]] = {str: "text", int: "whole number"}
