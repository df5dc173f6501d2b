"""Session and election, as text that is reviewed: what comes out is what stands in the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.election_stage import ElectionStage
from tests.transcripts.script import check, replayed
from tests.transcripts.session_stage import SessionStage

HERE = Path(__file__).parent
STAGES = {"election": ElectionStage, "session": SessionStage}
FILES = [(kind, path) for kind in STAGES for path in sorted((HERE / kind).glob("*.txt"))]


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_what_comes_out_is_what_stands_there(kind: str, path: Path, pytestconfig: pytest.Config) -> None:
    check(path, STAGES[kind]().perform, rewrite=pytestconfig.getoption("rewrite"))


@pytest.mark.parametrize("kind", STAGES)
def test_there_are_at_least_eight_of_each(kind: str) -> None:
    assert sum(one == kind for one, _ in FILES) >= 8


def test_another_output_is_a_failure_and_rewrite_mends_it(tmp_path: Path) -> None:
    file = tmp_path / "wrong.txt"
    file.write_text("# a lone node\nadd a\nrun 3\n----\nsomething else\n")
    with pytest.raises(AssertionError, match="rewrite"):
        check(file, ElectionStage().perform, rewrite=False)
    assert "something else" in file.read_text()
    check(file, ElectionStage().perform, rewrite=True)
    assert "gateway a, epoch 1" in file.read_text()
    check(file, ElectionStage().perform, rewrite=False)


def test_a_block_without_output_is_named() -> None:
    with pytest.raises(ValueError, match="add a"):
        replayed("add a\n", ElectionStage().perform)
