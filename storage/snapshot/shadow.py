"""The documents as they are to be, in tables of their own beside those that readers see.

Everybody sees the tables that have the names of the documents, of their conflicts and of their indexes: the
roots of the two sets change places in the schema, inside a transaction. While they have (``entered``), all
statements and triggers mean the shadow; whoever reads in another transaction sees nothing of it. Both sets
have one definition, letter by letter but for the names, so each name finds a tree of the form that it says.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.catalogue import Index
from entgldb.storage.indexes.tables import statements_to_create, table, words

_OURS, _NEXT = "_entgldb_", "_entgldb_next_"
_KEPT: Final = ("_entgldb_documents", "_entgldb_conflicts")
MARK: Final = "_entgldb_next_mark"
TOUCHED: Final = "_entgldb_next_touched"
_WATCHED: Final = (
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
_FIELDS: Final = "collection, key, body, origin, seq, hlc, lsn, sha256, stamps, expires"
_CONFLICT: Final = "origin, seq, hlc, collection, key, body, found_ms, rule, expires"
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
        for of, event, row in _WATCHED:
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
        known = [(one.number, one.definition.to_json()) for one in self._indexes() if not one.definition.text]
        return json.dumps(known)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within it the names mean the shadow. An index of words stays as it is, and hears of nothing."""
        self.enter()
        yield
        self._exchange()
        for statement in self._word_triggers():
            self._connection.execute(statement)
        self._connection.execute(f"UPDATE {MARK} SET entered = 0")  # noqa: S608 -- a constant

    def enter(self) -> None:
        """From here on the names mean the shadow."""
        self._connection.execute(f"UPDATE {MARK} SET entered = 1")  # noqa: S608 -- a constant
        for statement in self._word_triggers():
            self._connection.execute(f"DROP TRIGGER {statement.split()[2]}")
        self._exchange()

    def stay(self) -> None:
        """The shadow is what everybody sees from now on. Words are indexed anew, in steps."""
        for index in self._indexes():
            if index.definition.text:
                catalogue.begin_anew(self._connection, index)
        self.forsake()

    def forsake(self) -> None:
        """Nothing is noted any more; the tables that are out of use go by ``clean``."""
        for of, event, _ in _WATCHED:
            self._connection.execute(f"DROP TRIGGER {_NEXT}{of}_{event}")

    def refill(self) -> int:
        """Have the keys in ``temp.scope`` as readers see them now; how many live documents they had."""
        execute, before = self._connection.execute, self.live()
        for name, fields in zip(_KEPT, (_FIELDS, _CONFLICT), strict=True):
            execute(f"DELETE FROM main.{name} WHERE id IN (SELECT d.id FROM {_IN_SCOPE.format(name)})")  # noqa: S608 -- constants
            copied = ", ".join(f"d.{field.strip()}" for field in fields.split(","))
            source = _IN_SCOPE.format(name.replace(_OURS, _NEXT))
            execute(f"INSERT INTO main.{name} ({fields}) SELECT {copied} FROM {source}")  # noqa: S608 -- constants
        return before

    def live(self) -> int:
        """Live documents of the keys in ``temp.scope``."""
        return int(self._connection.execute(_LIVE).fetchone()[0])

    def conflicts(self) -> int:
        """All conflicts, of what the names mean now."""
        return int(self._connection.execute("SELECT count(*) FROM main._entgldb_conflicts").fetchone()[0])

    def clean(self) -> None:
        """One bounded step of removing it; ``exists`` says whether it was the last."""
        execute = self._connection.execute
        rows = execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ? AND name <> ?"
            " ORDER BY name",
            (len(_NEXT), _NEXT, MARK),
        ).fetchall()
        name = rows[0][0] if rows else MARK
        if name == _KEPT[0].replace(_OURS, _NEXT):
            bound = f"ifnull((SELECT id FROM {name} ORDER BY id LIMIT 1 OFFSET {CLEAN_ROWS}), {2**63 - 1})"  # noqa: S608 -- constants
            execute(f"DELETE FROM {name} WHERE id < {bound}")  # noqa: S608 -- constants
            if execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None:  # noqa: S608 -- a constant
                return
        execute(f"DROP TABLE {name}")

    def _indexes(self) -> list[Index]:
        return catalogue.list_indexes(self._connection)

    def _tables(self) -> list[str]:
        return [*_KEPT, *(table(one.number) for one in self._indexes() if not one.definition.text)]

    def _word_triggers(self) -> list[str]:
        return [
            statement
            for one in self._indexes()
            if one.definition.text
            for statement in statements_to_create(one.number, one.definition)
            if statement.startswith(f"CREATE TRIGGER {words(one.number)}")
        ]

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
