"""The Python of the pages that needs no node runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from entgldb.launch.node.child import environment

ROOT = Path(__file__).parents[4]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
pytest_plugins = ["pytester"]


def block(page: str, word: str) -> str:
    """The one block of a page that has a word in it."""
    (found,) = [one for one in BLOCK.findall((ROOT / page).read_text()) if word in one]
    return str(found)


@pytest.mark.parametrize(
    ("page", "word", "said"),
    [
        ("README.md", "entgldb.open", ""),
        ("docs/tutorial.md", "entgldb.open", "n1 call Grace\n"),
        ("docs/tutorial.md", "Cluster", "None\n{'text': 'written while cut off'}\n"),
    ],
)
def test_a_block_runs(page: str, word: str, said: str, tmp_path: Path) -> None:
    program = block(page, word)
    done = subprocess.run(
        [sys.executable, "-c", program if "import " in program else f"import entgldb\n{program}"],
        cwd=tmp_path,
        env=environment() | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (said, "")
    assert (tmp_path / "notes" / "entgldb.db").exists() == (word == "entgldb.open")


def test_the_plugin_serves_the_test_of_the_reference(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(block("docs/reference.md", "def test_two_shops"))
    done = pytester.runpytest_subprocess("-W", "error", "-v")
    done.assert_outcomes(passed=1)
    assert "entgldb" in done.stdout.str().partition("plugins:")[2].splitlines()[0]


def test_a_test_that_fails_says_so_and_leaves_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(entgldb_cluster):
            cluster = entgldb_cluster(2)
            cluster.partition([0], [1])
            cluster[0].db["c"].put("k", {})
            cluster.heal()
            cluster.lose(1.0)
            cluster.settle(10)
        """
    )
    done = pytester.runpytest_subprocess("-W", "error")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*NotSettledError: after 10 s of virtual time: node-1 and node-2 do not*"])


def test_the_plugin_costs_those_nothing_who_do_not_use_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = {"thespian", "cryptography", "entgldb.storage", "entgldb.actors"} & set(sys.modules)
            assert not heavy
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
