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


def blocks(page: str) -> list[str]:
    return [block for block in BLOCK.findall((ROOT / page).read_text()) if "entgldb.open" in block]


@pytest.mark.parametrize(
    ("page", "said"), [("README.md", ""), ("docs/tutorial.md", "n1 call Grace\n")], ids=["readme", "tutorial"]
)
def test_a_block_runs(page: str, said: str, tmp_path: Path) -> None:
    (block,) = blocks(page)
    done = subprocess.run(
        [sys.executable, "-c", block if "import entgldb" in block else f"import entgldb\n{block}"],
        cwd=tmp_path,
        env=environment() | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (said, "")
    assert (tmp_path / "notes" / "entgldb.db").exists()
