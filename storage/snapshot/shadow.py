"""The documents as they are to be, in tables of their own beside those that readers see.

Everybody sees the tables that have the names of the documents, of their conflicts and of their indexes: the
roots of the two sets change places in the schema, inside a transaction. While they have (``entered``), all
statements and triggers mean the shadow; whoever reads in another transaction sees nothing of it. Both sets
have one definition, letter by letter but for the names, so each name finds a tree of the form that it says.

The tables of an index of words belong to FTS5, which has things about them in memory: they change no places.
There are two of them, and the triggers of one or the other; in the end the index has the other's number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.messages.model import Place
from entgldb.storage.file.schema import MOVED
from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.catalogue import Index
from entgldb.storage.indexes.tables import statements_to_create, table, words

_OURS, _NEXT = "_entgldb_", "_entgldb_next_"
_KEPT: Final = ("_entgldb_documents", "_entgldb_conflicts")
MARK: Final = "_entgldb_next_mark"
TOUCHED: Final = "_entgldb_next_touched"
WATCHED: Final = (
    ("documents", "INSERT", "NEW"),
    ("documents", "UPDATE", "NEW"),
    ("documents", "DELETE", "OLD"),
    ("conflicts", "INSERT", "NEW"),
    ("conflicts", "DELETE", "OLD"),
    ("quarantine", "INSERT", "NEW"),
    ("quarantine", "DELETE", "OLD"),
    # an entry may change what is right for its key, and nothing of what is shown
    ("oplog", "INSERT", "NEW"),
    ("oplog", "UPDATE", "NEW"),
)
# an upsert takes no OR IGNORE in a trigger for what it says
_WATCH: Final = (
    "CREATE TRIGGER {name} AFTER {event} ON {of} WHEN (SELECT entered = 0 FROM _entgldb_next_mark)"
    " BEGIN INSERT INTO _entgldb_next_touched SELECT {row}.collection, {row}.key WHERE NOT EXISTS ("
    "SELECT 1 FROM _entgldb_next_touched WHERE collection = {row}.collection AND key = {row}.key); END"
)
CLEAN_ROWS: Final = 10_000
"""Rows of tables that have been replaced, deleted in one step."""
CLEAN_PAGES: Final = 2_000
"""The same of an index of words, whose rows are pages of 4 KiB."""
FTS5_FIRST: Final = 11
"""The rows before are of FTS5 itself, which drops its tables in the end."""
_LEFT: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ? AND name <> ?"
    " ORDER BY name LIMIT 1"
)
_ALL_WORDS: Final = (
    "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%' AND name LIKE ? ORDER BY name"
)
FIELDS: Final = "collection, key, body, origin, seq, hlc, lsn, sha256, stamps, expires"
CONFLICT: Final = "origin, seq, hlc, collection, key, body, found_ms, rule, expires"
_IN_SCOPE: Final = "temp.scope k CROSS JOIN main.{} d ON d.collection = k.collection AND d.key = k.key"
_LIVE: Final = f"SELECT count(*) FROM {_IN_SCOPE.format(_KEPT[0])} WHERE d.body IS NOT NULL"  # noqa: S608 -- constants
_ROOTS: Final = (
    "SELECT name, rowid, rootpage FROM sqlite_master"
    " WHERE type IN ('table', 'index') AND rootpage > 0 AND tbl_name IN (?, ?)"
)


class Shadow:
    """The second set of tables of a file, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> Shadow:
        """That of a file, or of what a connection of another kind has."""
        make: Callable[[], Shadow] | None = getattr(connection, "shadow", None)
        return cls(connection) if make is None else make()

    def exists(self) -> bool:
        """Whether there is one, whole or on its way out."""
        found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (MARK,))
        return found.fetchone() is not None

    def is_allowed(self) -> bool:
        """Whether the schema may be edited: some builds of SQLite refuse it (SQLITE_DBCONFIG_DEFENSIVE)."""
        try:
            self._connection.execute("PRAGMA writable_schema = ON")
            self._connection.execute("UPDATE sqlite_master SET rootpage = rootpage WHERE 0")
        except sqlite3.DatabaseError:
            return False
        finally:
            self._connection.execute("PRAGMA writable_schema = OFF")
        return True

    def is_anothers(self) -> bool:
        """Whether another process goes on with it: a file has one writer."""
        return False

    def create(self) -> None:
        """Make it empty, and note from now on the keys of which anything changes."""
        execute = self._connection.execute
        execute(f"CREATE TABLE {MARK} (id INTEGER PRIMARY KEY, mark TEXT NOT NULL, entered INTEGER NOT NULL)")
        execute(f"INSERT INTO {MARK} VALUES (1, '', 0)")  # noqa: S608 -- a constant
        execute(f"CREATE TABLE {TOUCHED} (collection, key, PRIMARY KEY (collection, key)) WITHOUT ROWID")
        for name in self._tables():
            for (statement,) in execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('table', 'index')"
                " AND sql IS NOT NULL ORDER BY type DESC, name",
                (name,),
            ).fetchall():
                execute(statement.replace(_OURS, _NEXT))
        for index in self._words():
            for statement in _made(catalogue.beside(index.number), index, triggers=False):
                execute(statement)
        for of, event, row in WATCHED:
            execute(_WATCH.format(name=f"{_NEXT}{of}_{event}", event=event, of=f"{_OURS}{of}", row=row))

    def mark(self) -> str:
        """The text that was kept last."""
        (found,) = self._connection.execute(f"SELECT mark FROM {MARK}").fetchone()  # noqa: S608 -- a constant
        return str(found)

    def keep(self, mark: str) -> None:
        """Keep how far it has come."""
        self._connection.execute(f"UPDATE {MARK} SET mark = ?", (mark,))  # noqa: S608 -- a constant

    def form(self) -> str:
        """The indexes that it has to have: another one asks for another shadow."""
        return json.dumps([(one.number, one.definition.to_json()) for one in self._indexes()])

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within it the names mean the shadow."""
        self.enter()
        yield
        self._exchange()
        self._have_words_heard(in_shadow=False)
        self._connection.execute(f"UPDATE {MARK} SET entered = 0")  # noqa: S608 -- a constant

    def enter(self) -> None:
        """From here on the names mean the shadow."""
        self._connection.execute(f"UPDATE {MARK} SET entered = 1")  # noqa: S608 -- a constant
        self._have_words_heard(in_shadow=True)
        self._exchange()

    def stay(self) -> None:
        """The shadow is what everybody sees from now on."""
        self._connection.execute(
            "INSERT INTO _entgldb_meta VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
            (MOVED,),
        )
        for index in self._words():
            self._connection.execute(
                "UPDATE _entgldb_indexes SET number = ? WHERE number = ?",
                (catalogue.beside(index.number), index.number),
            )
        self.forsake()

    def forsake(self) -> None:
        """Nothing is noted any more; the tables that are out of use go by ``clean``."""
        for of, event, _ in WATCHED:
            self._connection.execute(f"DROP TRIGGER {_NEXT}{of}_{event}")

    def desk(self) -> sqlite3.Connection:
        """Where keys are merged: a connection that has their rows within ``entered``, and what is staged."""
        return self._connection

    def fill(self, places: Collection[Place]) -> None:
        """Have some keys in ``temp.scope``, which is empty."""
        self.desk().executemany("INSERT INTO temp.scope VALUES (?, ?)", places)

    def refill(self) -> int:
        """Have the keys in ``temp.scope`` as readers see them now; how many live documents they had."""
        execute, before = self._connection.execute, self.live()
        for name, fields in zip(_KEPT, (FIELDS, CONFLICT), strict=True):
            execute(f"DELETE FROM main.{name} WHERE id IN (SELECT d.id FROM {_IN_SCOPE.format(name)})")  # noqa: S608 -- constants
            copied = ", ".join(f"d.{field.strip()}" for field in fields.split(","))
            source = _IN_SCOPE.format(name.replace(_OURS, _NEXT))
            execute(f"INSERT INTO main.{name} ({fields}) SELECT {copied} FROM {source}")  # noqa: S608 -- constants
        return before

    def settle(self) -> None:
        """Have what was made of the keys in ``temp.scope``: in a file it is there already."""

    def live(self) -> int:
        """Live documents of the keys in ``temp.scope``."""
        return int(self._connection.execute(_LIVE).fetchone()[0])

    def conflicts(self) -> int:
        """All conflicts, of what the names mean now."""
        return int(self._connection.execute("SELECT count(*) FROM main._entgldb_conflicts").fetchone()[0])

    def clean(self) -> None:
        """One bounded step of removing it; ``exists`` says whether it was the last."""
        execute, index = self._connection.execute, self._words_left()
        if index:
            name, least, rows = f"{index}_data", FTS5_FIRST, CLEAN_PAGES
        else:
            found = execute(_LEFT, (len(_NEXT), _NEXT, MARK)).fetchone()
            name, least, rows = found[0] if found else MARK, 0, CLEAN_ROWS
        if index or name == _KEPT[0].replace(_OURS, _NEXT):
            gone = f"SELECT id FROM {name} WHERE id >= {least} ORDER BY id LIMIT {rows}"  # noqa: S608 -- constants
            if execute(f"DELETE FROM {name} WHERE id IN ({gone})").rowcount:  # noqa: S608 -- constants
                return
        execute(f"DROP TABLE {index or name}")
        execute(f"DROP VIEW IF EXISTS {index or name}_of")

    def _indexes(self) -> list[Index]:
        return catalogue.list_indexes(self._connection)

    def _tables(self) -> list[str]:
        return [*_KEPT, *(table(one.number) for one in self._indexes() if not one.definition.text)]

    def _words(self) -> list[Index]:
        return [one for one in self._indexes() if one.definition.text]

    def _words_left(self) -> str:
        """The table of an index of words that the catalogue has not, or no more; empty: there is none."""
        known = {words(one.number) for one in self._words()}
        rows = self._connection.execute(_ALL_WORDS, (words("") + "%",)).fetchall()
        return next((name for (name,) in rows if name not in known), "")

    def _have_words_heard(self, *, in_shadow: bool) -> None:
        """Only the tables that the names mean hear of changes."""
        for index in self._words():
            pair = (index.number, catalogue.beside(index.number))
            for statement in _made(pair[not in_shadow], index, triggers=True):
                self._connection.execute(f"DROP TRIGGER {statement.split()[2]}")
            for statement in _made(pair[in_shadow], index, triggers=True):
                self._connection.execute(statement)

    def _exchange(self) -> None:
        """The two sets change places. (https://www.sqlite.org/lang_altertable.html, section 7, tells how a
        schema is edited: the number of its version makes everybody read it again.)"""
        execute, roots = self._connection.execute, dict[str, tuple[int, int]]()
        for name in self._tables():
            for found in execute(_ROOTS, (name, name.replace(_OURS, _NEXT))):
                roots[found[0]] = found[1:]
        pairs = [
            (place, roots[name.replace(_OURS, _NEXT)]) for name, place in roots.items() if _NEXT not in name
        ]
        execute("PRAGMA writable_schema = ON")
        for (number, root), (other, there) in pairs:
            execute("UPDATE sqlite_master SET rootpage = ? WHERE rowid = ?", (there, number))
            execute("UPDATE sqlite_master SET rootpage = ? WHERE rowid = ?", (root, other))
        (version,) = execute("PRAGMA schema_version").fetchone()
        execute(f"PRAGMA schema_version = {version + 1}")
        execute("PRAGMA writable_schema = RESET")


def _made(number: int, index: Index, *, triggers: bool) -> Iterator[str]:
    """The statements that make the tables of an index under a number, or their triggers."""
    for statement in statements_to_create(number, index.definition):
        if statement.startswith("CREATE TRIGGER") is triggers:
            yield statement
