"""Rounds of kill -9: a life of a store in a process of its own, ended at random or at a named place."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, Final

from entgldb.storage.file.schema import without_libraries
from tests.kills.checks import Promised, violations
from tests.kills.life import Plan, live
from tests.kills.points import AFTER_COMMIT, DISK, FORGETTING, POINTS
from tests.support.memory import in_memory

START_MS: Final = 1_800_000_000_000
LIVES: Final = 10
"""Of one directory, before it is made anew."""
ROOM: Final = 200_000_000
"""One directory needs a tenth of it."""
NEW_FILE: Final = "open:migrate"
"""Only the first life of a directory comes there."""
OFTEN: Final = [point for point in POINTS if point != NEW_FILE and point not in FORGETTING]
PATIENCE_SECONDS: Final = 20.0
"""A life that neither ends nor says anything for so long hangs."""
RANDOM_SECONDS: Final = 0.15
"""How long a life may last at most that is killed at random."""


@dataclass
class Figures:
    """The sums of many rounds."""

    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """Place -> kills there; ``random`` for those from outside."""
    acknowledged: int = 0
    applied: int = 0
    asked_again: int = 0
    reborn: int = 0
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line."""
        named = [point for point in POINTS if self.kills[point]]
        return (
            f"{self.rounds} rounds, {self.kills.total()} kills, of which {self.kills['random']} at random and"
            f" {self.kills.total() - self.kills['random']} at {len(named)} named places;"
            f" {self.acknowledged} acknowledged writes and {self.applied} batches of peers checked,"
            f" {self.asked_again} requests asked again, {self.reborn} new incarnations without need;"
            f" {len(self.violations)} violations"
        )


def run(rounds: int, seed: int) -> Figures:
    """So many rounds; it stops at the first that breaks a promise."""
    figures = Figures()
    with without_libraries():
        # else each life, which makes files for its peers, too, imports it
        import_module("sqlite_utils")
    root = Path(tempfile.mkdtemp(prefix="kills-", dir=in_memory(ROOM)))
    try:
        for number, plan, promised in _plans(rounds, seed, root):
            _round(plan, promised, figures)
            figures.violations += [
                f"round {number} of seed {seed}, {plan.point} {plan.times}: {text}"
                for text in violations(plan.directory, promised, plain=plan.plain)
            ]
            if figures.violations:
                break
    finally:
        shutil.rmtree(root)
    return figures


def _plans(rounds: int, seed: int, root: Path) -> Iterator[tuple[int, Plan, Promised]]:
    random = Random(seed)
    promised, points, now_ms, directory, plain = Promised(), list[str](), START_MS, root, False
    for number in range(rounds):
        if number % LIVES == 0:
            promised, plain = Promised(), number // LIVES % 4 == 2
            if number:
                shutil.rmtree(directory)
            directory = root / str(number)
            directory.mkdir()
        if not points:
            points = random.sample(OFTEN, len(OFTEN))
        forgets = number // LIVES % 4 == 3
        point = "random" if number % 2 else random.choice(FORGETTING) if forgets else points.pop()
        if number % LIVES == 0 and number % 2 == 0 and random.random() < 0.3:
            point = NEW_FILE
        now_ms += random.choice((0, 1_000, 7_200_000))
        deep = point in DISK or point in ("commit", "begin", "log:row", "documents:row", AFTER_COMMIT)
        times = random.randrange(1, 12) if deep else random.choice((1, 1, 2, 3))
        if point.startswith("open:"):
            times = 1
        again, promised.unanswered = promised.unanswered, []
        yield (
            number,
            Plan(directory, random.getrandbits(60), now_ms, point, times, again, plain, forgets),
            promised,
        )


def _round(plan: Plan, promised: Promised, figures: Figures) -> None:
    """One life and its end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        live(plan, writer)
    os.close(writer)
    figures.rounds += 1
    figures.asked_again += len(plan.again)
    within = Random(plan.seed).uniform(0, RANDOM_SECONDS) if plan.point == "random" else PATIENCE_SECONDS
    said = _listen(reader, child, within)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    promised.unanswered = list(plan.again)
    where = ""
    for line in said:
        where = line.get("at", where)
        _note(line, promised, figures)
    if killed:
        figures.kills[where or "random"] += 1
    elif os.waitstatus_to_exitcode(status) != 0:
        figures.violations.append(f"the store ended with {status}, {plan}")


def _note(line: dict[str, Any], promised: Promised, figures: Figures) -> None:
    """One line of a life."""
    if "fault" in line:
        figures.violations.append(line["fault"])
    elif line.get("reborn"):
        figures.reborn += 1
    elif "ask" in line:
        promised.unanswered.append(line["ask"])
    elif "done" in line:
        if line["done"] in promised.unanswered:
            promised.unanswered.remove(line["done"])
        for origin, seq, digest in line["written"]:
            promised.writes[origin, seq] = digest
            figures.acknowledged += 1
    elif "applied" in line:
        figures.applied += 1
        for origin, seq in line["applied"].items():
            promised.applied[origin] = max(seq, promised.applied.get(origin, 0))


def _listen(reader: int, child: int, seconds: float) -> list[dict[str, Any]]:
    """All that a life says; it is killed when its time is over. A line cut off promised nothing."""
    deadline, data, killed = time.monotonic() + seconds, b"", False
    while True:
        left = deadline - time.monotonic()
        if left <= 0 and not killed:
            os.kill(child, signal.SIGKILL)
            killed = True
        if not select.select([reader], [], [], 1.0 if killed else left)[0]:
            continue
        part = os.read(reader, 1 << 20)
        if not part:
            break
        data += part
    os.close(reader)
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
