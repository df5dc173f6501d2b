"""Suites that make their stores by ``Store.memory`` are run on PostgreSQL, too: for the conftest.py there."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from entgldb.storage.store import Store
from tests.support import postgres


def also_there(metafunc: pytest.Metafunc, files: Collection[str], without: Collection[str] = ()) -> None:
    """For ``pytest_generate_tests``; ``files``: each with its folder. ``without``: these tests of them."""
    path, test = metafunc.definition.path, metafunc.definition.originalname
    if f"{path.parent.name}/{path.name}" in files and test not in without:
        metafunc.fixturenames.append("database")
        metafunc.parametrize("database", ["memory", "postgres"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stores of a test are."""
    if request.param == "postgres":
        monkeypatch.setattr(Store, "memory", staticmethod(postgres.like_memory))
