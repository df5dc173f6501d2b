"""``$text`` in a filter: the documents of an index of words that have all the words, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import BusyError, InvalidError, NotFoundError
from entgldb.storage.documents.filter import Condition
from entgldb.storage.indexes.catalogue import Index
from entgldb.storage.indexes.tables import words
from entgldb.storage.rules.indexing.words import expression

TEXT: Final = "$text"
NO_TEXT: Final = object()
"""Stands for the words of a filter that asks for none."""
BEST_FIRST: Final = "f.rank"
"""The order of documents that were found by their words."""
SNIPPET_WORDS: Final = 24
"""Words of a snippet, at most."""
MARK_CHARS_MAX: Final = 64
"""Characters of the marks around a word that was found."""


class Worded(NamedTuple):
    """The words that a filter asks for, in the index that has them."""

    name: str
    """That of the index."""
    table: str
    match: str
    """The words as FTS5 takes them."""

    def source(self, scope: str) -> str:
        """The documents of ``scope`` that have them, as what stands behind FROM; ``match`` is bound in it."""
        return f"{self.table}(?) f CROSS JOIN _entgldb_documents ON id = f.rowid WHERE {scope}"

    def within(self, found: Condition) -> Condition:
        """Those of some documents that have the words."""
        sql = f"{found.sql} AND id IN (SELECT rowid FROM {self.table}(?))"  # noqa: S608 -- a number
        return Condition(sql, (*found.values, self.match))

    def snippet(self) -> str:
        """The column with a piece of the document that has the words; two marks are bound in it."""
        return f"snippet({self.table}, -1, ?, ?, '…', {SNIPPET_WORDS})"


def split(wanted: Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, Any]:
    """The filter without ``$text``, and what it says; NO_TEXT where there is none."""
    if not isinstance(wanted, Mapping) or TEXT not in wanted:
        return wanted, NO_TEXT
    return {name: value for name, value in wanted.items() if name != TEXT}, wanted[TEXT]


def find_words(indexes: Sequence[Index], collection: str, text: Any) -> Worded:
    """The words of a ``$text`` in the index among some that has any.

    Raises InvalidError for no words, NotFoundError where no index has any, BusyError while it is built.
    """
    match = expression(text)
    for index in indexes:
        if index.definition.text:
            if index.reached is not None:
                raise BusyError(
                    f"the index {index.definition.name} of {collection} is being built",
                    hint="ask again; entgldb index list tells how far it is",
                )
            return Worded(index.definition.name, words(index.number), match)
    raise NotFoundError(
        f"{collection} has no index of words, which {TEXT} needs",
        hint=f"entgldb index create {collection} FIELD... --text",
    )


def check_marks(marks: Any, limit: int | None, limit_max: int) -> tuple[str, str]:
    """The marks before and behind a word in a snippet. Raises InvalidError."""
    if (
        not isinstance(marks, (tuple, list))
        or len(marks) != 2
        or not all(isinstance(mark, str) and len(mark) <= MARK_CHARS_MAX for mark in marks)
    ):
        raise InvalidError(
            f"highlight takes two texts of at most {MARK_CHARS_MAX} characters", hint='such as ("[", "]")'
        )
    if limit is None or limit > limit_max:
        raise InvalidError(f"highlight needs a limit of at most {limit_max} documents")
    return marks[0], marks[1]
