"""What every test has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from entgldb.storage import database


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what comes out into tests/transcripts")


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores in memory are made by the dozen; whoever makes one may leave it to the end of its test."""
    made: list[sqlite3.Connection] = []
    open_memory = database.open_memory

    def noted() -> sqlite3.Connection:
        made.append(open_memory())
        return made[-1]

    monkeypatch.setattr(database, "open_memory", noted)
    yield
    for connection in made:
        connection.close()
