"""Suites about what the store does that are also run on PostgreSQL."""

from __future__ import annotations

from typing import Final

import pytest

from entgldb.storage.store import Store
from tests.support import postgres

ON_POSTGRES: Final = frozenset(
    {
        "log/test_prune.py",
        "repair/test_healing.py",
        "repair/test_incarnations.py",
        "snapshot/test_snapshots.py",
        "snapshot/test_snapshots_of_branches.py",
    }
)
"""Of ``tests/unit/storage``: they make their stores by ``Store.memory``."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = metafunc.definition.path
    if f"{path.parent.name}/{path.name}" in ON_POSTGRES:
        metafunc.fixturenames.append("database")
        metafunc.parametrize("database", ["memory", "postgres"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stores of a test are."""
    if request.param == "postgres":
        monkeypatch.setattr(Store, "memory", staticmethod(postgres.like_memory))
