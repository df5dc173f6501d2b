"""Suites about what the store does that are also run on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.support.on_postgres import also_there, database

__all__ = ["database"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    files = (
        "log/test_prune.py",
        "repair/test_healing.py",
        "repair/test_incarnations.py",
        "snapshot/test_snapshots.py",
        "snapshot/test_snapshots_of_branches.py",
    )
    also_there(metafunc, files)
