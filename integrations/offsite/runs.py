"""One backup that is made, put away, read back; and one after another, as a schedule says."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, Protocol

from entgldb.integrations.offsite.ledger import Ledger, surplus
from entgldb.integrations.offsite.shelf import Shelf
from entgldb.integrations.place import FOLDER
from entgldb.messages.errors import CorruptError, EntglError, ErrorCode

AGAIN_SECONDS: Final = 60.0
"""After a run that failed; doubled with each, up to the time between two runs."""
LOOK_SECONDS: Final = 60.0
"""The clock is looked at so often: it may be set."""
_DOUBLINGS_MAX: Final = 16


class Manifest(Protocol):
    """A backup's word of itself, as far as it matters here."""

    @property
    def node_id(self) -> str: ...

    @property
    def sha256(self) -> str: ...


Make = Callable[[Path], Manifest]
"""Writes a backup into a file, its manifest into FILE.json, and checks it."""


class Done(Protocol):
    """Told of each run."""

    def __call__(self, name: str, manifest: Any, removed: list[str]) -> None: ...


@dataclass(frozen=True)
class Edge:
    """Clock and words."""

    now_ms: Callable[[], int]
    wait: Callable[[float], None]
    tell: Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Where backups go, and how many stay."""

    directory: Path
    """Of the node; the file is made in it before it goes away."""
    make: Make
    shelf: Shelf
    ledger: Ledger
    keep: int


def run(plan: Plan, edge: Edge, done: Done) -> None:
    """Make one backup, put it away, read it back, and remove those that are one too many.

    Raises EntglError; then nothing was removed, and the next run cleans up what is there in part.
    """
    work = plan.directory / FOLDER / "backup-part"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(mode=0o700)
    try:
        name, manifest = _make_and_put(plan, work / "made.db", edge.now_ms())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    done(name, manifest, _retain(plan))


def _make_and_put(plan: Plan, made: Path, at_ms: int) -> tuple[str, Manifest]:
    """The name that the backup has there, and its word of itself."""
    manifest = plan.make(made)
    beside = made.with_name(f"{made.name}.json")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at_ms / 1000))
    name = f"{manifest.node_id}-{stamp}.db"
    with beside.open("rb") as opened:
        told = file_digest(opened, "sha256").hexdigest()
    plan.ledger.begin(name, at_ms)
    try:
        _put(plan.shelf, name, made, manifest.sha256)
        _put(plan.shelf, f"{name}.json", beside, told)
    except EntglError as fault:
        if fault.code is ErrorCode.EXISTS:
            plan.ledger.forget(name)  # it is somebody else's
        raise
    plan.ledger.proven(name)
    return name, manifest


def _put(shelf: Shelf, name: str, file: Path, sha256: str) -> None:
    shelf.put(name, file)
    found = shelf.digest(name)
    if found != sha256:
        raise CorruptError(f"{shelf.place}/{name} does not read back as it was written")


def _retain(plan: Plan) -> list[str]:
    removed = []
    for row in surplus(plan.ledger.entries(), plan.keep):
        plan.shelf.remove(f"{row.name}.json")  # without it nobody takes the rest for a whole backup
        plan.shelf.remove(row.name)
        plan.ledger.forget(row.name)
        removed.append(row.name)
    return removed


def run_every(plan: Plan, seconds: float, edge: Edge, done: Done) -> None:
    """Run for ever, ``seconds`` after the last whole backup; a run that fails is told and tried again."""
    failures = 0
    while True:
        wait = min(AGAIN_SECONDS * 2.0 ** min(failures - 1, _DOUBLINGS_MAX), seconds) if failures else 0.0
        due_ms = max(_due_ms(plan, seconds), edge.now_ms() + wait * 1000)
        while (left := due_ms - edge.now_ms()) > 0:
            # a clock that was set back does not hold a run up for longer than this
            edge.wait(min(LOOK_SECONDS, left / 1000))
            due_ms = min(due_ms, edge.now_ms() + seconds * 1000)
        try:
            run(plan, edge, done)
            failures = 0
        except EntglError as fault:
            failures += 1
            edge.tell(f"{fault.code}: {fault.text}; no backup was made, it is tried again")
        except OSError as fault:  # of the node's own disk: the work folder, the ledger
            failures += 1
            edge.tell(f"{fault.filename}: {fault.strerror}; no backup was made, it is tried again")


def _due_ms(plan: Plan, seconds: float) -> float:
    whole = [row.at_ms for row in plan.ledger.entries() if row.whole]
    return whole[-1] + seconds * 1000 if whole else 0.0
