"""Processes as users have them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def starts() -> None:
    """Each is started, none is forked from one that has loaded all: nothing is patched."""
