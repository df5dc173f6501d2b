"""``import entgldb``: every public name is there, in whatever order names are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import entgldb
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import Done, Ping


def test_every_public_name_is_there() -> None:
    for name in entgldb.__all__:
        assert getattr(entgldb, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(entgldb, "nonsense")  # noqa: B009 -- mypy knows that it is not there


def test_importing_loads_next_to_nothing() -> None:
    program = (
        "import sys, entgldb\n"
        "heavy = {'thespian', 'sqlite3', 'asyncio', 'cryptography', 'click', 'msgpack'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(entgldb.__path__[0]).parent)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.slow
def test_launch_starts_a_node_also_after_connect_was_used(tmp_path: Path) -> None:
    directory = init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1")).directory
    with pytest.raises(entgldb.EntglError):
        entgldb.connect(directory)
    with entgldb.launch(directory) as node:
        assert node.ask("election", Ping()) == Done()
        with entgldb.connect(directory) as db:
            db["users"].put("u1", {"name": "Ada"})
            assert db["users"].get("u1") == {"name": "Ada"}
