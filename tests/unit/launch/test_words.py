"""Man pages and completion have every verb, and say no more than it does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.cli.words.man import pages, roff
from entgldb.launch.node.child import environment

CTX = click.Context(entgldb, info_name="entgldb")
VERBS = entgldb.list_commands(CTX)
REQUEST = re.compile(r"\.(TH|SH|TP|PP|BR?|nf|fi)\b")


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return dict(pages())


def test_every_verb_has_a_page_with_its_options_and_an_example(found: dict[str, str]) -> None:
    assert {f"entgldb-{verb}" for verb in VERBS} < found.keys()
    assert {"entgldb-bridge-mqtt", "entgldb-service-install", "entgldb-http-token-add"} < found.keys()
    for name, text in found.items():
        assert f".SH NAME\n{roff(name)} \\- " in text
        assert ".SH DESCRIPTION\n" in text
        if ".SH COMMANDS" not in text:
            assert "Example" in text, name
            assert ".B \\-\\-json" in text, name
    assert "\n.B \\-\\-every TIME\n" in found["entgldb-backup"]
    assert ".BR entgldb\\-backup (1)" in found["entgldb"]


def test_no_word_of_a_verb_is_an_order_to_the_formatter(found: dict[str, str]) -> None:
    assert roff(".SH\n'x\\fB") == "\\&.SH 'x\\efB"
    for text in found.values():
        orders = [line for line in text.splitlines() if line[:1] in (".", "'")]
        assert [line for line in orders if not REQUEST.match(line)] == []


def test_the_formatter_has_no_complaint(found: dict[str, str]) -> None:
    program = shutil.which("mandoc") or shutil.which("groff")
    if program is None:
        pytest.skip("neither mandoc nor groff is here: the pages were not formatted")
    words = ["-Tlint", "-Werror"] if program.endswith("mandoc") else ["-man", "-ww", "-Tutf8"]
    for name in ("entgldb", "entgldb-backup", "entgldb-put"):
        told = subprocess.run(
            [program, *words], input=found[name], capture_output=True, text=True, check=False
        )
        assert (told.returncode, told.stderr) == (0, ""), name


def test_the_pages_are_written(
    tmp_path: Path, found: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(entgldb, ["man", "--into", str(tmp_path / "man1")]) == 0
    assert {file.stem for file in (tmp_path / "man1").iterdir()} == found.keys()
    capsys.readouterr()
    assert run(entgldb, ["man", "service", "install"]) == 0
    assert capsys.readouterr().out == found["entgldb-service-install"]
    assert run(entgldb, ["man", "nonsense"]) == 3


def test_a_page_has_each_option_whatever_was_asked_before() -> None:
    # a process of its own: others have asked the verbs of this one for help
    command = [sys.executable, "-m", "entgldb", "man", "service", "install"]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert ".B \\-h, \\-\\-help" in told.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(entgldb, ["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_ENTGLDB_COMPLETE={shell}_complete" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


COMPLETES = """
import sys
from entgldb.launch.cli.main import entgldb
try:
    entgldb.main([], prog_name="entgldb", complete_var="_ENTGLDB_COMPLETE")
except SystemExit:
    pass
print(*(name for name in sys.modules if name.startswith("entgldb.launch.cli.")))
"""


def completed(words: str) -> tuple[list[str], list[str]]:
    """The words that are offered, and the modules of verbs that were needed for it."""
    asked = {"_ENTGLDB_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    told = subprocess.run(
        [sys.executable, "-c", COMPLETES],
        capture_output=True,
        text=True,
        check=True,
        env={**environment(), **asked},
    )
    *offered, modules = told.stdout.splitlines()
    return [line.partition(",")[2] for line in offered], modules.split()


def test_verbs_are_completed_without_their_modules() -> None:
    assert completed("entgldb ") == (VERBS, ["entgldb.launch.cli.main"])
    assert completed("entgldb service in")[0] == ["install"]
    assert "--every" in completed("entgldb backup --e")[0]
