"""CSV both ways: a row a document, the first row names the fields (RFC 4180, in UTF-8)."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final, TextIO

from entgldb.client.streams.lines import KEY_FIELD, LINE_BYTES_MAX, Given, refuse_packed
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.model import check_key
from entgldb.messages.strict_json import read_json

COLUMNS_MAX: Final = 2000
"""Columns of a table, read or written."""


class Rows:
    """Keys and documents of the rows of ``file``. Raises InvalidError or TooLargeError with line and column.

    Every value is text, and an empty cell makes no field. ``typed``: a cell that reads as a JSON number,
    true, false, null, array or object is that.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        field: str,
        collection: str,
        *,
        delimiter: str = ",",
        typed: bool = False,
    ) -> None:
        self._file, self._name, self._field, self._collection = file, name, field, collection
        self._delimiter, self._typed = delimiter, typed
        self._number = 0
        self._bytes = 0
        """Of the row that is being read: a quote may never be closed."""
        self.given = Given()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        csv.field_size_limit(BODY_BYTES_MAX)
        reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        try:
            header = self._header(next(reader, []))
            for cells in reader:
                self._bytes = 0
                if cells:
                    pair = self._pair(header, cells)
                    self.given.note(self._number)
                    yield pair
        except csv.Error as fault:
            raise InvalidError(
                f"{self._name}, line {self._number}: {fault}",
                hint="text with a quote in it doubles the quote",
            ) from None
        except EntglError as fault:
            fault.text = f"{self._name}, line {self._number}: {fault.text}"
            raise

    def _lines(self) -> Iterator[str]:
        while line := self._file.readline(LINE_BYTES_MAX + 1):
            self._number += 1
            if self._number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
                refuse_packed(line, self._piped)
            self._bytes += len(line)
            if self._bytes > LINE_BYTES_MAX:
                raise InvalidError(
                    f"a row longer than {LINE_BYTES_MAX} bytes", hint="is a quote left open, or is it no CSV?"
                )
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as fault:
                raise InvalidError(
                    f"byte {fault.start + 1}, {line[fault.start]:#04x}, is no UTF-8",
                    hint=f"iconv -f ISO-8859-1 -t UTF-8 {self._piped}",
                ) from None

    @property
    def _piped(self) -> str:
        return f"{self._name} | entgldb import {self._collection} - --format csv"

    def _header(self, cells: list[str]) -> list[str]:
        if not cells:
            raise InvalidError("the file is empty", hint="the first row names the fields")
        if len(cells) > COLUMNS_MAX:
            raise InvalidError(f"{len(cells)} columns, {COLUMNS_MAX} are possible")
        twice = next((name for at, name in enumerate(cells) if name in cells[:at]), None)
        if twice is not None or "" in cells:
            fault = "a column without a name" if twice in (None, "") else f"two columns named {twice!r:.80}"
            raise InvalidError(fault, hint="name each column once")
        if self._field not in cells:
            others = next((mark for mark in ";\t|" if len(cells) == 1 and mark in cells[0]), None)
            if others is not None:
                raise InvalidError(
                    "one column alone", hint=f"--delimiter {'tab' if others == chr(9) else repr(others)}"
                )
            raise InvalidError(
                f"no column {self._field} that could be the key",
                hint=f"entgldb import {self._collection} {self._name} --key COLUMN",
            )
        return cells

    def _pair(self, header: list[str], cells: list[str]) -> tuple[str, dict[str, Any]]:
        if len(cells) != len(header):
            raise InvalidError(
                f"{len(cells)} cells, where the first row names {len(header)} columns",
                hint=f"text with a {self._delimiter!r} in it stands in double quotes",
            )
        texts = dict(zip(header, cells, strict=True))
        key = texts[self._field]
        if not key:
            raise InvalidError(f"column {self._field}: an empty cell is no key")
        if self._field == KEY_FIELD:
            del texts[KEY_FIELD]
        document = {name: self._value(name, text) for name, text in texts.items() if text}
        return check_key(key), document

    def _value(self, name: str, text: str) -> Any:
        if not self._typed or not (text[0] in "-0123456789[{" or text in ("true", "false", "null")):
            return text
        try:
            return read_json(text, f"column {name}")
        except InvalidError:
            if text[0] in "[{":
                raise
            return text  # a date, a telephone number, 007


def columns(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """The fields of all documents, as they come first. Raises InvalidError for more than COLUMNS_MAX."""
    names: dict[str, None] = {}
    for document in documents:
        names.update(dict.fromkeys(document))
        if len(names) > COLUMNS_MAX:
            raise InvalidError(
                f"more than {COLUMNS_MAX} different fields", hint="entgldb export without --format csv"
            )
    if KEY_FIELD in names:
        raise InvalidError(
            f"a field {KEY_FIELD}, which is the column of the keys",
            hint="entgldb export without --format csv",
        )
    return list(names)


class Writer:
    """Writes documents as rows; arrays, objects, numbers, true, false and null as JSON, absent fields as
    nothing."""

    def __init__(self, file: TextIO, fields: list[str], delimiter: str) -> None:
        self._fields, self._known = fields, set(fields)
        self._rows = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._rows.writerow([KEY_FIELD, *fields])

    def write(self, key: str, document: Mapping[str, Any]) -> None:
        """One row. Raises InvalidError for a field that nobody had when the columns were named."""
        new = next((name for name in document if name not in self._known), None)
        if new is not None:
            raise InvalidError(f"{key!r:.80} has got a field {new!r:.80} meanwhile", hint="export again")
        self._rows.writerow(
            [key, *(_cell(document[name]) if name in document else "" for name in self._fields)]
        )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
