"""Verification is also run on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.support.on_postgres import also_there, database

__all__ = ["database"]

FILES = ("oplog/test_verifier.py", "oplog/test_verify_under_way.py")
LARGE = ("test_many_documents_and_twenty_differences_cost_less_than_100_kb",)
"""It takes a minute there, and what it measures is said between nodes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    also_there(metafunc, FILES, LARGE)
