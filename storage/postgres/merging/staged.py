"""A staged snapshot beside a group, in a database in memory where keys are merged by the code for files.

PostgreSQL's planner would have to guess how many rows there are of keys that this very transaction has
written, and a wrong guess joins each with all others. So the rows of some keys are taken here, merged, and
written back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from entgldb.storage.file import schema
from entgldb.storage.postgres.server import MERGE_S, Line
from entgldb.storage.postgres.tables import STAGED_READ, on_postgres, tables
from entgldb.storage.postgres.values import Cursor

PAGE_ROWS: Final = 1_000
"""Rows that are brought by one statement."""
_LONG: Final = f"SELECT set_config('statement_timeout', '{MERGE_S}s', true)"
_NO_LOOPS: Final = "SELECT set_config('enable_nestloop', 'off', true)"
_OTHERS: Final = ("main.", "temp.")
"""Schemas of rows that are on PostgreSQL."""


class Staged:
    """The snapshot is attached as ``staged``."""

    def __init__(self, place: str) -> None:
        self.desk = sqlite3.connect(":memory:", uri=True, isolation_level=None)
        for statement in schema.TABLES.split("CREATE VIEW")[0].split(";"):
            self.desk.execute(statement)
        self.desk.execute("ATTACH ? AS staged", (place,))

    def answers(self, sql: str) -> bool:
        """Whether it has all that a statement reads."""
        return "staged." in sql and not any(one in sql for one in _OTHERS)

    def ask(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> Cursor:
        """The answer to such a statement."""
        return Cursor(self.desk.execute(sql, parameters).fetchall())

    def bring(
        self,
        held: Line,
        say: Callable[..., None],
        write: Callable[[str, list[Any]], object],
        tenant: str,
    ) -> None:
        """Have all its rows in a group that merges them at once, and gives such a statement its time."""
        held.longer_s = MERGE_S
        say(_LONG)
        self.forget(say, tenant)
        for statement, rows in self._all_rows():
            write(statement, rows)
        # they are rows of this very transaction, of which there are no statistics: PostgreSQL's planner would
        # join each with all others. CockroachDB has no such setting
        if held.info.parameter_status("crdb_version") is None:
            say(_NO_LOOPS)

    def forget(self, say: Callable[..., None], tenant: str) -> None:
        """They go again."""
        for name in STAGED_READ:
            say(f"DELETE FROM {on_postgres(name, 'staged')} WHERE tenant = $1", tenant)  # noqa: S608 -- of ours

    def _all_rows(self) -> Iterator[tuple[str, list[Any]]]:
        """Statements that write all its rows, each with some of them."""
        for name in STAGED_READ:
            columns = list(tables()[on_postgres(name, "staged")].columns)
            marks = ", ".join("?" * len(columns))
            read = f"SELECT {', '.join(columns)} FROM staged.{name}"  # noqa: S608 -- of ours
            write = f"INSERT INTO staged.{name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 -- of ours
            with closing(self.desk.execute(read)) as rows:
                while page := rows.fetchmany(PAGE_ROWS):
                    yield write, page

    def close(self) -> None:
        """The snapshot stays."""
        self.desk.close()
