"""The two ways in which a snapshot is merged."""

from __future__ import annotations

import pytest

from tests.unit.storage.snapshot.snapshots import in_steps


@pytest.fixture(params=["at-once", "in-steps"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is small is merged at once; in steps the same comes of it."""
    if request.param == "in-steps":
        in_steps(monkeypatch)
