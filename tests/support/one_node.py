"""A node in processes of its own, for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.process import start_detached, stop_node


@contextmanager
def one_node(folders: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a node that runs."""
    made = init(Plan(folders.mktemp("node") / "n1", "lan-1", host="127.0.0.1"))
    start_detached(made.directory)
    yield made.directory
    stop_node(made.directory)
