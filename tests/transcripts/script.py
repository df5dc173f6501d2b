"""Transcripts: commands, a line of dashes, and what came of them, in files that a person can review.

In the manner of the data-driven tests of etcd/raft. A block is one or more commands, ``----``, and their
output up to an empty line; lines that begin with ``#`` say what a file is about. ``pytest --rewrite`` writes
what comes out into the files: read the diff before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

RULE = "----"
Perform = Callable[[str, list[str], dict[str, str]], list[str]]
"""The verb, its words and its ``name=value`` pairs -> lines of output."""


def replayed(text: str, perform: Perform) -> str:
    """The transcript as it comes out now. Raises ValueError for a block without a rule."""
    made = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        about = [line for line in lines if line.startswith("#")]
        rest = [line for line in lines if not line.startswith("#")]
        if rest:
            if RULE not in rest:
                raise ValueError(f"a block without {RULE}: {rest[0]}")
            commands = rest[: rest.index(RULE)]
            output = [line for command in commands for line in _one(command, perform)]
            rest = [*commands, RULE, *(output or ["(nothing)"])]
        made.append("\n".join([*about, *rest]))
    return "\n\n".join(made) + "\n"


def check(path: Path, perform: Perform, *, rewrite: bool) -> None:
    """Compare a file with what comes out, or write it."""
    told = path.read_text()
    found = replayed(told, perform)
    if rewrite and found != told:
        path.write_text(found)
        told = found
    assert found.splitlines() == told.splitlines(), f"{path.name}: pytest --rewrite shows it as a diff"


def _one(command: str, perform: Perform) -> list[str]:
    verb, *arguments = command.split()
    words = [one for one in arguments if "=" not in one]
    pairs = dict(one.split("=", 1) for one in arguments if "=" in one)
    return perform(verb, words, pairs)
