"""``$text`` in a filter: the documents of an index of words that have all the words, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import BusyError, InvalidError, NotFoundError
from entgldb.storage.documents.filter import Condition
from entgldb.storage.documents.planning import Ask
from entgldb.storage.indexes.catalogue import Index
from entgldb.storage.indexes.tables import words
from entgldb.storage.rules.indexing.words import expression

TEXT: Final = "$text"
NO_TEXT: Final = object()
"""Stands for the words of a filter that asks for none."""
BEST_FIRST: Final = "f.rank, f.rowid"
"""The order of documents that were found by their words."""
IN_TURN: Final = "f.rowid"
"""The order of documents whose words tell nothing of their worth: that in which they came to this node."""
RANKED_MAX: Final = 10_000
"""Documents that are ranked even where more than half of all have the words."""
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

    def best(self, source: str | None, end: str, *, marked: bool) -> tuple[str, tuple[str, ...]]:
        """A page of the best, as what stands behind FROM, and what is bound behind its own values.

        ``source``: the documents, behind FROM; None for all that have the words. Ranks are sorted first: few
        documents are fetched, and few snippets made.
        """
        chosen = f"SELECT f.rowid AS doc, f.rank AS score FROM {source or f'{self.table}(?) f'} {end}"  # noqa: S608 -- a number
        again = f" CROSS JOIN {self.table}(?) f ON f.rowid = s.doc" if marked else ""
        return (
            f"({chosen}) s{again} CROSS JOIN _entgldb_documents ON id = s.doc ORDER BY s.score, s.doc",
            (self.match,) if marked else (),
        )

    def says_little(self, ask: Ask) -> bool:
        """Whether very many documents have the words, and more than half of all.

        BM25 then counts none of them for anything: its weight of a word is the logarithm of how many do not
        have it for one that has it, and FTS5 puts next to nothing in the place of one that is not above 0.
        """
        if self._have(ask, RANKED_MAX) <= RANKED_MAX:
            return False
        half = int(ask(f"SELECT count(*) FROM {self.table}_docsize", ())[0][0]) // 2  # noqa: S608 -- a number
        return self._have(ask, half) > half

    def _have(self, ask: Ask, enough: int) -> int:
        """How many documents have the words; no more than one beyond ``enough`` are counted."""
        few = f"SELECT 1 FROM {self.table}(?) LIMIT ?"  # noqa: S608 -- a number
        return int(ask(f"SELECT count(*) FROM ({few})", (self.match, enough + 1))[0][0])  # noqa: S608 -- a number

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
