"""Where in a log its writer has opened its file: by these entries two branches of a log are told apart.

A file that went back goes on from its last entry once it is opened again. So the branch that it writes begins
with an entry that is the first of a run, whatever the clocks of its machine say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from entgldb.messages.limits import COUNT_MAX, RUN_HASH_BYTES, RUNS_MAX, RUNS_TOLD_MAX
from entgldb.messages.model import Origin
from entgldb.storage.file.state import Known, State
from entgldb.storage.rules.header import BEGINS, Optional

Runs = Sequence[tuple[int, bytes]]
"""Seq, and the beginning of the hash, of entries with which runs began; ascending."""


def begin(state: State, origin: Origin, seq: int) -> tuple[tuple[int, Optional], ...]:
    """The optional fields by which our next entry says that it is the first since the file was opened.

    The first entry of a log need not say so.
    """
    if state.run == origin:
        return ()
    state.run = origin
    return ((BEGINS, 1),) if seq > 1 else ()


def note(connection: sqlite3.Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
    """Keep entries with which runs began, each with the number of its origin; the oldest make room."""
    found = [(number, seq, digest[:RUN_HASH_BYTES]) for number, seq, digest in rows]
    connection.executemany("INSERT OR REPLACE INTO _entgldb_runs (origin, seq, hash) VALUES (?, ?, ?)", found)
    for number in sorted({number for number, seq, _ in found if seq > 1}):
        connection.execute(
            "DELETE FROM _entgldb_runs WHERE origin = ? AND seq NOT IN"
            " (SELECT seq FROM _entgldb_runs WHERE origin = ? ORDER BY seq DESC LIMIT ?)",
            (number, number, RUNS_MAX),
        )


def cut(connection: sqlite3.Connection, number: int, seq: int) -> None:
    """The log ends with ``seq`` now."""
    connection.execute("DELETE FROM _entgldb_runs WHERE origin = ? AND seq > ?", (number, seq))


def replace(connection: sqlite3.Connection, number: int, runs: Runs) -> None:
    """The log is the one that another node has, of which these are the runs."""
    cut(connection, number, 0)
    note(connection, ((number, *run) for run in runs))


def of_all(connection: sqlite3.Connection, origins: int) -> dict[int, Runs]:
    """Number of an origin -> the runs of its log, the newest where the logs are many: ``origins`` of them."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    for number, seq, digest in connection.execute(
        "SELECT origin, seq, hash FROM _entgldb_runs ORDER BY origin, seq"
    ):
        found.setdefault(number, []).append((seq, digest))
    each = RUNS_TOLD_MAX // max(1, origins)
    return {number: runs[-each:] for number, runs in found.items()}


def of(connection: sqlite3.Connection, number: int) -> Runs:
    """The runs of a log."""
    found: Runs = connection.execute(
        "SELECT seq, hash FROM _entgldb_runs WHERE origin = ? ORDER BY seq", (number,)
    ).fetchall()
    return found


def known_since(runs: Runs) -> int:
    """All runs from this entry on are among them; 0: all. The first entry of a log begins one."""
    return COUNT_MAX if not runs else 0 if runs[0][0] == 1 else runs[0][0]


def parted(connection: sqlite3.Connection, known: Known, runs: Runs, head: int, *, differs: bool) -> int:
    """The first entry of our log that another one, with ``runs`` and ``head``, does not have; 0: the runs
    tell of none.

    Two logs that have the same entry have the same ones before it. Where so many runs have begun since they
    parted that the first is forgotten, it is all that is not pruned. ``differs``: ours has another entry in
    the place of ``head``.
    """
    ours = of(connection, known.number)
    theirs = set(runs)
    common = max((run[0] for run in ours if run in theirs), default=0)
    # the entry since which theirs are known begins a run itself
    since = max(common, known.floor, known_since(runs) - 1)
    apart = [seq for seq, _ in ours if since < seq <= head]
    forgotten = not common and max(map(known_since, (ours, runs))) > 0
    if forgotten and (apart or differs):
        return known.floor + 1
    return apart[0] if apart else 0
