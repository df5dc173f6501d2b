"""Statements as PostgreSQL gets them: the tenant is first everywhere, and no word is one database's alone."""

from __future__ import annotations

import re

import pytest
import sqlglot

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.postgres import constructs
from entgldb.storage.postgres.schema import statements
from entgldb.storage.postgres.tables import tables
from entgldb.storage.postgres.translate import of_any, translate


def test_each_table_that_is_read_is_that_of_the_tenant() -> None:
    sql = translate(
        "SELECT o.name FROM _entgldb_documents d CROSS JOIN _entgldb_origins o ON o.id = d.origin"
        " WHERE d.key = ? AND NOT EXISTS (SELECT 1 FROM _entgldb_held WHERE seq = ?)"
    ).sql
    assert sql.count("WHERE tenant = $1") == 3
    assert "JOIN" in sql
    assert "CROSS JOIN" not in sql
    assert re.findall(r"(\w+) = \$([23])", sql) == [("key", "2"), ("seq", "3")]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM _entgldb_held WHERE origin = ?",
        "UPDATE _entgldb_oplog SET applied = ? WHERE seq = ? OR seq = 1",
        "INSERT INTO _entgldb_ended VALUES (?, ?)",
        "INSERT OR IGNORE INTO _entgldb_ended SELECT ?, seq FROM _entgldb_successors",
    ],
)
def test_each_statement_that_writes_names_the_tenant(statement: str) -> None:
    made = translate(statement)
    assert made.changes
    assert "tenant" in made.sql.split("$1")[0]


def test_what_is_met_twice_has_the_tenant_in_its_key() -> None:
    made = translate("INSERT OR REPLACE INTO _entgldb_ended VALUES (?, ?)")
    assert made.sql.endswith("ON CONFLICT(tenant, origin) DO UPDATE SET seq = excluded.seq")
    assert made.rows is not None
    assert made.rows.key == (0,)


def test_the_hints_of_sqlite_are_left_out_and_no_index_is_passed_by() -> None:
    sql = translate("SELECT lsn FROM _entgldb_oplog NOT INDEXED WHERE lsn > ? ORDER BY lsn DESC LIMIT ?").sql
    assert "INDEXED" not in sql
    assert "NULLS" not in sql


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT json_extract(body, '$.a') FROM _entgldb_documents",
        "SELECT pg_advisory_lock(?)",
        "SELECT rowid FROM _entgldb_documents WHERE key GLOB ?",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
        "SELECT 1 FROM sqlite_master",
        "SELECT doc FROM _entgldb_x1 WHERE v = ?",
        "LISTEN entgldb",
        "SELECT 1 FROM",
    ],
)
def test_what_not_every_database_has_is_refused(statement: str) -> None:
    with pytest.raises(EntglError, match="a cloud on PostgreSQL has no") as refused:
        translate(statement)
    assert refused.value.code == ErrorCode.UNSUPPORTED


def test_a_row_gets_its_number_by_a_select() -> None:
    """Citus takes no query among VALUES."""
    made = translate("INSERT INTO _entgldb_origins (name, seq, head) VALUES (?, ?, ?)")
    assert "VALUES" not in made.sql
    assert made.numbers
    with pytest.raises(EntglError, match="among VALUES"):
        translate("INSERT INTO _entgldb_ended (origin, seq) VALUES (?, (SELECT 1))")


def test_a_list_of_texts_is_one_array() -> None:
    """CockroachDB, YugabyteDB and Citus compare with any element of an array, too."""
    made = of_any("SELECT key FROM _entgldb_documents WHERE collection = ? AND key IN (?) AND hlc > 0")
    assert "key = ANY(CAST($3 AS TEXT[])) AND hlc > 0" in made.sql
    assert made.returns


def test_the_list_of_constructs_is_what_was_read_about() -> None:
    """CockroachDB, YugabyteDB and Citus: a new word here has to be looked up in the manual of each."""
    words = {one.__name__ for one in (*constructs.STATEMENTS, *constructs.FUNCTIONS)}
    assert words == {
        *("Select", "Union", "Insert", "Update", "Delete"),
        *("Coalesce", "Count", "Greatest", "Least", "Length", "Max", "Min", "RowNumber", "Sum", "Window"),
    }
    assert constructs.BY_NAME == ("convert_to",)
    made, elsewhere = ("; ".join(statements(collate=True, parted=on)).upper() for on in (True, False))
    for absent in ("SERIAL", "SEQUENCE", "IDENTITY", "INHERITS", "UNLOGGED", "LISTEN", "NOTIFY"):
        assert absent not in made
    # those do without it: a snapshot is merged at once there
    assert "TRIGGER" not in elsewhere


def test_each_key_and_each_index_begins_with_the_tenant() -> None:
    for table in tables().values():
        for one in table.ddl:
            assert sqlglot.parse_one(one, read="postgres") is not None
            for inside in re.findall(r"(?:PRIMARY KEY|UNIQUE|ON \w+) \(([^)]*)\)", one):
                assert inside.startswith("tenant, ")
