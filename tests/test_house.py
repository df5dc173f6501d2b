"""The house rules that no review needs to repeat."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("messages", "storage", "actors", "launch")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PURE = [
    "entgldb.actors.store",
    "entgldb.actors.oplog",
    "entgldb.actors.sync",
    "entgldb.actors.election",
    "entgldb.actors.gateway",
    "entgldb.actors.node",
    "entgldb.storage.rules.header",
    "entgldb.storage.rules.clock",
    "entgldb.storage.rules.merge",
]
EDGES = {
    "thespian",
    "socket",
    "ssl",
    "asyncio",
    "threading",
    "sqlite3",
    "sqlite_utils",
    "cryptography",
    "zeroconf",
}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> list[tuple[str, int]]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_are_short() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_functions_are_short() -> None:
    sizes = dict(size for path in FILES for size in functions(path))
    assert {name: size for name, size in sizes.items() if size > 50} == {}


def test_only_the_host_names_thespian() -> None:
    naming = [
        path.name
        for path in FILES
        if re.search(r"^\s*(import|from) thespian", path.read_text(), re.MULTILINE)
    ]
    assert naming
    assert all(name.startswith("host") for name in naming)


def test_the_source_folder_is_made_of_relative_links() -> None:
    for folder in FOLDERS:
        assert os.readlink(ROOT / "src" / "entgldb" / folder) == f"../../{folder}"


@pytest.mark.parametrize("module", PURE)
def test_importing_a_behaviour_or_rule_loads_no_edge(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({EDGES!r} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert found.stdout.split() == []


def test_no_test_sleeps() -> None:
    sleeping = [
        path.name for path in TESTS if re.search(r"\b(time|asyncio)\.sleep\((?!0\.0|POLL)", path.read_text())
    ]
    assert sleeping in ([], ["test_house.py"])


def test_every_import_names_the_package() -> None:
    bare = re.compile(rf"^\s*(from|import) ({'|'.join(FOLDERS)})\b", re.MULTILINE)
    assert [str(path) for path in FILES + TESTS if bare.search(path.read_text())] == []
