"""Runs what ``entgldb bench`` was asked for, work by work, each on nodes of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from entgldb.launch.bench.catchup import catchup, snapshot
from entgldb.launch.bench.cluster import convergence, idle, visibility
from entgldb.launch.bench.feeds import feeds
from entgldb.launch.bench.floor import floor
from entgldb.launch.bench.hosting.clouds import clouds, need_server
from entgldb.launch.bench.hosting.tokens import tokens
from entgldb.launch.bench.large import Step, large
from entgldb.launch.bench.sides import Side, lone_node, opened
from entgldb.launch.bench.web import web
from entgldb.launch.bench.works import DOCUMENTS, Bench, Figure, Result, in_turns
from entgldb.launch.node.web import require
from entgldb.launch.playground.temporary import temporary
from entgldb.messages.errors import EntglError

OPENED_DOCUMENTS: Final = 20_000
"""In a directory that is open in the program itself, before the clock runs."""
TIMED: Final[dict[str, tuple[Callable[[Side, int], float], int]]] = {
    "W1.single": (Side.single, 2_000),
    "W1.bulk": (Side.bulk, 20_000),
    "W1.inflight64": (Side.in_flight, 20_000),
    "W6.get": (Side.gets, 20_000),
    "W6.query": (Side.queries, 500),
    "W8.single": (Side.single, 2_000),
    "W8.bulk": (Side.bulk, 20_000),
    "W8.get": (Side.gets, 20_000),
}
"""The method that is timed for a figure, and the number of its calls in one turn."""


def measurable(figures: Sequence[Figure], bench: Bench) -> list[Figure]:
    """Those of ``figures`` for which all is installed; of others it tells the first thing that they lack."""
    lacking = []
    for work, need in (("W9", partial(need_server, bench.postgres)), ("W11", require)):
        try:
            need()
        except EntglError as fault:
            bench.tell(f"{work} is left out: {fault}\n")
            lacking.append(work)
    return [figure for figure in figures if figure.work not in lacking]


def measured(bench: Bench, figures: Sequence[Figure]) -> Generator[Result, None, None]:
    """Each of ``figures``, in their order, as soon as it is known; leaves no process and no file."""
    for work, of_work in groupby(figures, lambda figure: figure.work):
        with temporary("bench") as root:
            bench.tell(f"{work}: starting ...")
            yield from WORKS[work](bench, root, list(of_work))


def measured_grown(
    bench: Bench, figures: Sequence[Figure], documents: int, *, steps: bool
) -> Generator[Result | Step, None, None]:
    """``figures`` of a node that holds so many documents, with one that holds DOCUMENTS as their floor.

    With ``steps`` all that nodes with so many documents do, too.
    """
    if figures:
        few = bench.amount(DOCUMENTS)
        with temporary("bench") as root:
            bench.tell(f"writing {few} and {documents} documents ...")
            with lone_node(root / "few", few) as small, lone_node(root / "many", documents) as many:
                yield from _compared(bench, figures, many, small)
    if steps:
        with temporary("bench") as root:
            yield from large(bench, root, documents)


def _writes(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    with lone_node(root) as ours, floor(root / "floor.db") as least:
        yield from _compared(bench, figures, ours, least)


def _reads(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    documents = bench.amount(DOCUMENTS)
    with lone_node(root, documents) as ours, floor(root / "floor.db", documents) as least:
        yield from _compared(bench, figures, ours, least)


def _in_process(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    documents = bench.amount(OPENED_DOCUMENTS)
    with opened(root / "opened", documents) as ours, floor(root / "floor.db", documents) as least:
        yield from _compared(bench, figures, ours, least)


def _compared(bench: Bench, figures: Sequence[Figure], ours: Side, least: Side) -> Iterator[Result]:
    for figure in figures:
        do, whole = TIMED[figure.full_name]
        amount, rounds = bench.amount(whole), bench.turns(figure.full_name)
        # both are called before the next figure is taken up
        yield in_turns(figure, rounds, lambda: do(ours, amount), lambda: do(least, amount))  # noqa: B023 -- as said above


WORKS: Final[dict[str, Callable[[Bench, Path, Sequence[Figure]], Iterator[Result]]]] = {
    "W1": _writes,
    "W2": catchup,
    "W3": visibility,
    "W4": convergence,
    "W5": idle,
    "W6": _reads,
    "W7": snapshot,
    "W8": _in_process,
    "W9": clouds,
    "W10": feeds,
    "W11": web,
    "W12": tokens,
}
