"""The release after this one, as far as the file goes: a format more, and the step that leads to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from entgldb.storage.file import open as open_
from entgldb.storage.file import schema, upgrade
from entgldb.storage.recovery import backup

if TYPE_CHECKING:
    from sqlite_utils import Migrations
    from sqlite_utils.db import Database

CHECK: Final = "SELECT 1 FROM sqlite_master WHERE name = '_entgldb_of_tomorrow'"
NUMBER: Final = schema.FORMAT + 1


def install(put: Callable[[Any, str, Any], None]) -> None:
    """``put`` is ``setattr``, or that of a test, which takes it back."""
    before = schema.all_migrations

    def all_migrations() -> Migrations:
        migrations = before()

        @migrations()
        def m002_tomorrow(db: Database) -> None:
            schema.execute_all(
                db,
                f"CREATE TABLE _entgldb_of_tomorrow (id INTEGER PRIMARY KEY);PRAGMA user_version = {NUMBER}",
            )

        return migrations

    put(schema, "all_migrations", all_migrations)
    for module in (schema, open_, upgrade, backup):
        put(module, "FORMAT", NUMBER)
