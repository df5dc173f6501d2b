"""The house rules that no review needs to repeat."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from tests.conftest import LONGEST

ROOT = Path(__file__).parent.parent
ROOMS = ("messages", "storage", "actors", "client", "web", "integrations", "launch")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILES_MAX = 14
"""In one folder, its page left out."""
PAGE_LINES_MAX = 10
ACTORS = ("store", "oplog", "sync", "election", "gateway", "node")
PURE = [
    *(f"entgldb.actors.{actor}.behaviour" for actor in ACTORS),
    "entgldb.actors.session.session",
    "entgldb.storage.rules.header",
    "entgldb.storage.rules.clock",
    "entgldb.storage.rules.merging.row",
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
HEAVY = {"boto3", "duckdb", "moto", "pandas", "polars", "schemathesis"}
PRONOUN = re.compile(r"(What|Whatever|Who|Whoever|Whose|Whosever|Whichever)\b")


def settings() -> ConfigParser:
    """Those of the project."""
    made = ConfigParser(interpolation=None)
    made.read(ROOT / "setup.cfg")
    return made


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> list[tuple[str, int]]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def modules() -> dict[str, Path]:
    """Name -> file, of every module of ours."""
    names = {}
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(("entgldb", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return names


def imports() -> dict[str, set[str]]:
    """Module -> those of ours that it imports anywhere, for types only too."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (full & known.keys()) or ({node.module} & known.keys())
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & known.keys()
        found.discard(name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that can reach themselves, by what is left after all that reach nobody were taken away."""
    left = dict(graph)
    while True:
        ends = [name for name, found in left.items() if not found & left.keys()]
        starts = [name for name in left if not any(name in found for found in left.values())]
        if not ends and not starts:
            return [sorted(left)] if left else []
        for name in {*ends, *starts}:
            del left[name]


def test_no_room_is_left_out() -> None:
    """Each top folder of code is a room: it is looked at here, linked, and has its layer."""
    folders = {page.parent.name for page in ROOT.glob("*/__init__.py")} - {"tests"}
    links = {path.name for path in (ROOT / "src" / "entgldb").iterdir() if path.is_symlink()}
    layers = set(re.findall(r"entgldb\.(\w+)", settings()["importlinter:contract:layers"]["layers"]))
    assert set(ROOMS) == folders == links == layers


def test_no_package_of_a_layered_room_is_left_out() -> None:
    """import-linter itself then refuses a package that stands in no layer."""
    named = settings()
    layered = [named[name] for name in named.sections() if "containers" in named[name]]
    assert len(layered) == 3
    assert all(contract.getboolean("exhaustive") for contract in layered)


def test_files_are_short() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in FILES + TESTS}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_functions_are_short() -> None:
    sizes = dict(size for path in FILES for size in functions(path))
    assert {name: size for name, size in sizes.items() if size > 50} == {}


def test_folders_are_small() -> None:
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in FILES if path.name != "__init__.py")
    assert {name: size for name, size in sizes.items() if size > FILES_MAX} == {}


def test_every_package_has_its_page() -> None:
    """A page tells what lives there and where to begin, in ten lines; ``launch`` has code on it too."""
    for folder in {path.parent for path in FILES}:
        page = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert page, folder
        assert len(page.splitlines()) <= PAGE_LINES_MAX, folder


@pytest.mark.parametrize("actor", ACTORS)
def test_the_behaviour_of_an_actor_is_found_under_its_name(actor: str) -> None:
    assert (ROOT / "actors" / actor / "behaviour.py").exists()


def is_defined(name: str, path: Path) -> bool:
    """Whether a file has a function, or a class with a method, of this name at its top."""
    body: list[Any] = ast.parse(path.read_text()).body if path.exists() else []
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        if not found:
            return False
        body = found[0].body
    return True


def test_the_walk_of_a_write_names_functions_that_there_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\| `([\w.]+)` \| `([\w/]+\.py)` \|", page, re.MULTILINE)
    assert len(steps) > 50
    assert [step for step in steps if not is_defined(step[0], ROOT / step[1])] == []
    assert not is_defined("Store.fly", ROOT / "storage" / "store.py")


def test_imports_run_in_no_circle() -> None:
    assert circles(imports()) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_only_the_host_names_thespian() -> None:
    naming = [
        path for path in FILES if re.search(r"^\s*(import|from) thespian", path.read_text(), re.MULTILINE)
    ]
    assert naming
    assert {path.parent for path in naming} == {ROOT / "actors" / "host"}


def test_the_source_folder_is_made_of_relative_links() -> None:
    for room in ROOMS:
        assert os.readlink(ROOT / "src" / "entgldb" / room) == f"../../{room}"


def edges_of(module: str) -> set[str]:
    """The modules with input and output that are there once it is imported."""
    code = f"import sys, {module}; print(*sorted({EDGES!r} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    return set(found.stdout.split())


@pytest.mark.parametrize("module", PURE)
def test_importing_a_behaviour_or_rule_loads_no_edge(module: str) -> None:
    assert edges_of(module) == set()


def test_an_edge_would_be_found() -> None:
    assert edges_of("entgldb.actors.host.wire") >= {"socket", "thespian"}


def test_no_test_sleeps() -> None:
    sleep = re.compile(r"\b(time|asyncio)\.sleep\((?!0\.0|POLL)")
    assert sleep.search("time." + "sleep(1)")
    assert [path.name for path in TESTS if sleep.search(path.read_text())] == []


def test_no_placeholder_of_sql_has_a_number() -> None:
    # Python 3.12.0 to 3.12.3 warn of each, as if it had a name (gh-117995)
    numbered = re.compile(r"[ (]\?\d")
    assert numbered.search("WHERE key = " + "?1")
    assert [str(path) for path in FILES if numbered.search(path.read_text())] == []


def test_no_property_depends_on_the_speed_of_the_machine() -> None:
    assert hypothesis.settings.default is not None
    assert hypothesis.settings.default.deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings.default.suppress_health_check


def loaded(path: Path) -> set[str]:
    """The packages that a module names in imports of its own, those of its functions left out."""
    body = ast.parse(path.read_text()).body
    named = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in named}


def test_heavy_libraries_are_imported_by_the_tests_that_use_them() -> None:
    # each process that runs tests loads the modules of all tests
    assert {path.name: found for path in TESTS if (found := loaded(path) & HEAVY)} == {}


def test_every_import_names_the_package() -> None:
    bare = re.compile(rf"^\s*(from|import) ({'|'.join(ROOMS)})\b", re.MULTILINE)
    assert [str(path) for path in FILES + TESTS if bare.search(path.read_text())] == []


def test_programs_that_are_texts_in_tests_import_what_there_is() -> None:
    written = re.compile(r"^\s*from ((?:entgldb|tests)[\w.]*) import ([\w, ]+)$", re.MULTILINE)
    looked_at, absent = 0, []
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            for module, names in written.findall(text):
                for name in names.split(", "):
                    looked_at += 1
                    if not there_is(module, name):
                        absent.append(f"{path.name}:{node.lineno}: {module}.{name}")
    assert looked_at > 10
    assert absent == []


def there_is(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False


@cache
def docstrings(path: Path) -> list[tuple[str, str, bool]]:
    """Place, text and whether the text stands below an assignment, of each docstring of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for before, one in pairwise([None, *(body if isinstance(body, list) else [])]):
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                of_field = isinstance(before, ast.Assign | ast.AnnAssign)
                text = str(one.value.value).strip()
                found.append((f"{path.relative_to(ROOT)}:{one.lineno}", text, of_field))
    return found


def led_by_a_pronoun(text: str) -> list[str]:
    """The sentences that begin with What, Who and their like as their subject; a question may."""
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    return [one for one in sentences if PRONOUN.match(one) and not one.endswith("?")]


def test_a_sentence_names_its_subject() -> None:
    assert led_by_a_pronoun("Rows go. What\nis held stays. What is held?") == ["What\nis held stays."]
    assert led_by_a_pronoun("A head.\n\nWhoever asks is told.") == ["Whoever asks is told."]
    found = [(place, led_by_a_pronoun(text)) for path in FILES for place, text, _ in docstrings(path)]
    assert len(found) > 1000
    assert [one for one in found if one[1]] == []


def test_no_two_constants_share_a_sentence() -> None:
    fields = [(place, text) for path in FILES for place, text, of_field in docstrings(path) if of_field]
    assert len(fields) > 100
    assert [one for one in fields if one[1][0].islower() or one[1][-1] in ",;:"] == []


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / name).exists()] == []


class SiteLoader(yaml.SafeLoader):
    """Takes names of Python functions as words."""


SiteLoader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


def site_pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in site_pages(one)]


def test_the_site_names_every_page_once() -> None:
    """A page that is added gets its line in mkdocs.yml; ``make docs`` makes the site and takes no warning."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), SiteLoader)
    made = set(re.findall(r'\("(\w+\.md)"', (ROOT / "packaging" / "site" / "pages.py").read_text()))
    assert made == {"index.md", "api.md", "verbs.md"}
    written = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert sorted(site_pages(config["nav"])) == sorted(made | written)
    for hook in config["hooks"]:
        assert (ROOT / hook).exists()
