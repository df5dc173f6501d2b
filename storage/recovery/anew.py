"""A database that was prepared in a folder of its own, with which its node goes on as a new writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Error

from entgldb.messages.administration import Event
from entgldb.messages.errors import EntglError
from entgldb.storage.audit.reading import chained
from entgldb.storage.audit.rows import Act
from entgldb.storage.audit.trail import exists
from entgldb.storage.file.open import FILE, open_damaged
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store


@contextmanager
def begun_anew(part: Path, directory: Path, node_id: str, why: Why, now_ms: int) -> Iterator[Store]:
    """The store in ``part``, closed in the end; its next start is not to ask where it comes from.

    It is to take the place of the one in ``directory``, whose audit log goes on in it.
    """
    store = Store.open(part, node_id, now_ms)
    try:
        _carry_audit_over(directory, store, now_ms)
        store.begin_anew(b"", why, now_ms)
        store.connection.execute("DELETE FROM _entgldb_meta WHERE name = 'mark'")
        yield store
    finally:
        store.close()


def _carry_audit_over(directory: Path, store: Store, now_ms: int) -> None:
    """The audit log of the file that is there now, as far as it can be read: a restore must not erase it."""
    if not (directory / FILE).exists():
        return
    with suppress(EntglError, Error), closing(open_damaged(directory)) as there:
        if exists(there):
            with store.group():
                try:
                    store.trail.go_on_from(chained(there))
                except Error:
                    store.trail.note(Act(Event.PRUNED, "", "rows that could not be read"), now_ms)
