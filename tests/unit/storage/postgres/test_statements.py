"""Every statement that stands in ``storage`` is one that PostgreSQL takes, or is named here with a reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from entgldb.storage.postgres.translate import translate
from tests.support import postgres

ROOT = Path(__file__).parents[4] / "storage"
OF_FILES = (
    "documents/explaining.py",
    "documents/finding.py",
    "documents/indexes.py",
    "documents/planning.py",
    "documents/query.py",
    "documents/words.py",
    "file/fingerprint.py",
    "file/open.py",
    "file/schema.py",
    "indexes/",
    "postgres/",
    "recovery/",
    "snapshot/shadow.py",
    "snapshot/staging.py",
    "tenants/",
)
"""Work on files alone: queries, indexes, upgrades, backups, snapshots coming in, the catalogue of tenants."""
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b.*\b(FROM|INTO|SET)\b", re.DOTALL)
ELSEWHERE = ("sqlite_master", " chunks", "staged.chunks")
"""Tables that are in files alone."""
FILLED = {
    "{visible}": "true",
    "{apart}": "true",
    "{unseen}": "false",
    "{_COLUMNS}": "clock, lsn",
    "{_COLUMNS.count(',') * '?, '}?": "?, ?",
    "{where}": "WHERE h.origin = ?",
}
"""Parts of statements that are put together."""
FEW = 200
"""Statements there are more of: else nothing was found."""


def texts(tree: ast.AST) -> Iterator[str]:
    """All texts; of one that is put together the parts stand in braces."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(one.value) if isinstance(one, ast.Constant) else _braced(one) for one in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def _braced(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return "{" + ast.unparse(part.value) + "}"


def statements() -> list[tuple[str, str]]:
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        name = str(file.relative_to(ROOT))
        if name.startswith(OF_FILES):
            continue
        for text in texts(ast.parse(file.read_text())):
            for part, filled in FILLED.items():
                text = text.replace(part, filled)
            if STATEMENT.match(text) and "{" not in text and not any(one in text for one in ELSEWHERE):
                found.append((name, text))
    return found


def test_postgresql_takes_each_statement() -> None:
    found = statements()
    assert len(found) > FEW
    refused = []
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        postgres.open_store("a", 1_790_000_000_000)
        for number, (name, text) in enumerate(found):
            try:
                connection.execute(f"PREPARE s{number} AS {translate(text).sql}".encode())
            except psycopg.errors.IndeterminateDatatype:
                # the values that it gets say of what type they are
                continue
            except psycopg.Error as fault:
                refused.append((name, text, str(fault)))
    assert refused == []


def test_a_statement_that_only_sqlite_takes_is_found() -> None:
    bare = translate("SELECT name, max(seq), head FROM _entgldb_origins GROUP BY name").sql
    postgres.open_store("a", 1_790_000_000_000)
    with psycopg.connect(postgres.address(), autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute(f"PREPARE bare AS {bare}".encode())
