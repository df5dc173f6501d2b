"""A running node for a module of tests that asks for one, the API to it, and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from tests.support.one_node import one_node


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a node that runs for the tests of one module."""
    with one_node(tmp_path_factory) as made:
        yield made


@pytest.fixture
def db(directory: Path) -> Iterator[Database]:
    """That node, by the blocking API."""
    with entgldb.connect(directory) as opened:
        yield opened


@pytest.fixture
def says(directory: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The text that a verb prints: on stdout, or on stderr where it ends with another ``code`` than 0."""

    def said(*arguments: str, code: int = 0) -> str:
        assert run(command, [*arguments, "-d", str(directory)]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return said
