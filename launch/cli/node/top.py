"""``entgldb top``: a node on one screen, looked at again and again."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.launch.cli.common import common, draw, say, show, with_database
from entgldb.launch.cli.data.durations import read_duration
from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.health.figures import Sample

INTERVAL_MIN: Final = 0.2
KEYS_MAX: Final = 64
"""Keys that are read at once."""


@click.command()
@common
@click.option("--interval", type=read_duration, default="2s", show_default=True, metavar="TIME")
@click.option("--once", is_flag=True, help="Show it once, with the rates of one interval, and end.")
@with_database
def top(db: Database, as_json: bool, interval: float, once: bool) -> None:
    """Show a node on one screen, again and again: writes, commits, links and lag, gateway, alarms, memory.

    q ends it. In a pipe, and with --once, nothing is drawn over. With --json each look is an object on a line
    of its own. A node that does not answer is said to be so, and looked for again.

    Example: entgldb top --once
    """
    interval = max(interval, INTERVAL_MIN)
    before = _sample(db) if once else None
    draws = not (once or as_json) and sys.stdout.isatty()
    with _keys(draws) as quits:
        while True:
            if (once or before is not None) and quits(interval):
                return
            try:
                before = _show(_sample(db), before, as_json=as_json, draws=draws)
            except EntglError as fault:
                if once:
                    raise
                before = None
                _draw([fault.text], draws=draws)
                if quits(interval):
                    return
            if once:
                return


def _show(now: Sample, before: Sample | None, *, as_json: bool, draws: bool) -> Sample:
    from entgldb.client.health.figures import figures, lines

    found = figures(before, now)
    if as_json:
        show(found)
    else:
        _draw(lines(found, shutil.get_terminal_size().columns), draws=draws)
    return now


def _draw(told: list[str], *, draws: bool) -> None:
    if not draws:
        for line in told:
            say(line)
        return
    draw(told, shutil.get_terminal_size().lines - 1)


def _sample(db: Database) -> Sample:
    from entgldb.client.health.figures import Sample

    body = db.status("node")
    pids: dict[str, Any] = body.get("pids") or {}
    memory = {name: size for name, pid in pids.items() if (size := _own_memory(pid)) is not None}
    return Sample(body, time.monotonic(), memory)


def _own_memory(pid: int) -> int | None:
    """Its proportional share (PSS), where the kernel tells it to this user."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


@contextmanager
def _keys(draws: bool) -> Iterator[Any]:
    """A function that waits so long, and tells whether q was pressed meanwhile."""
    if not (draws and sys.stdin.isatty()):
        yield _waits
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    draw([], 0)
    try:
        tty.setcbreak(sys.stdin)
        yield partial(_quit_was_pressed, sys.stdin.fileno())
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quit_was_pressed(keyboard: int, seconds: float) -> bool:
    ready, _, _ = select.select([keyboard], [], [], seconds)
    return bool(ready) and b"q" in os.read(keyboard, KEYS_MAX).lower()


def _waits(seconds: float) -> bool:
    time.sleep(seconds)
    return False
