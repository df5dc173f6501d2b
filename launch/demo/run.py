"""``entgldb demo``: the whole of EntglDB in fourteen steps, each checked from outside."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from entgldb.launch.demo import hosted
from entgldb.launch.demo.faults import gateway_killed, restart_all
from entgldb.launch.demo.figures import DemoFigure, usage
from entgldb.launch.demo.partition import gateway_returns, partition
from entgldb.launch.demo.peers import (
    cloud_to_lan,
    disable,
    enable,
    gateway_connects,
    list_cloud_peer,
    modify,
    replace,
)
from entgldb.launch.demo.stage import Stage
from entgldb.launch.demo.start import import_airports, nodes_up, replicated
from entgldb.launch.node.config_tenants import check_storage
from entgldb.launch.playground.cluster import Playground
from entgldb.launch.playground.postgres import a_server
from entgldb.launch.playground.temporary import temporary

TAKEOVER_SECONDS: Final = 2.0
"""Instead of 10: nobody wants to watch a better-ranked node wait."""

STEPS: Final[dict[str, Callable[[Stage], str]]] = {
    "nodes-up": nodes_up,
    "import": import_airports,
    "replicated": replicated,
    "add-cloud-peer": list_cloud_peer,
    "gateway-connects": gateway_connects,
    "cloud-to-lan": cloud_to_lan,
    "disable": disable,
    "enable": enable,
    "modify": modify,
    "replace": replace,
    "partition": partition,
    "gateway-killed": gateway_killed,
    "gateway-returns": gateway_returns,
    "restart-all": restart_all,
}
HOSTED: Final[dict[str, Callable[[Stage], str]]] = {
    "nodes-up": hosted.nodes_up,
    "import": import_airports,
    "replicated": replicated,
    "add-cloud-peer": list_cloud_peer,
    "gateway-connects": gateway_connects,
    "second-tenant": hosted.second_tenant,
    "disable": disable,
    "enable": enable,
    "modify": modify,
    "other-process": hosted.other_process,
    "partition": partition,
    "gateway-killed": gateway_killed,
    "gateway-returns": gateway_returns,
    "process-killed": hosted.process_killed,
    "restart-all": hosted.restart_all,
}
"""Those of a cloud of two processes over one PostgreSQL."""


@dataclass(slots=True)
class Step:
    """How one step went. ``detail`` is what was measured, or why it failed."""

    name: str
    ok: bool
    seconds: float
    detail: str

    def fields(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "seconds": round(self.seconds, 3), "detail": self.detail}


@dataclass(slots=True)
class DemoResult:
    """The steps up to the first that failed, the nodes that took part, and what was measured."""

    steps: list[Step] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)

    figures: list[DemoFigure] = field(default_factory=list)
    wanted: int = len(STEPS)
    """Steps that there are."""

    @property
    def ok(self) -> bool:
        return len(self.steps) == self.wanted and all(step.ok for step in self.steps)

    def fields(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "steps": [step.fields() for step in self.steps],
            "nodes": self.nodes,
            "figures": [figure.fields() for figure in self.figures],
        }


def run_demo(
    keep: Path | None,
    tell: Callable[[str], None],
    then: Callable[[Playground], None] | None = None,
    dsn: str | None = None,
) -> DemoResult:
    """Run the steps until one fails; ``tell`` is given a line when a step begins and one when it ends.

    ``then`` is called with the cluster when all went well, before it is stopped. ``dsn``: the cloud is two
    processes over this PostgreSQL; empty: over one that is started for it.
    Leaves no process, and no directory unless ``keep`` names one. Raises EntglError where it cannot begin.
    """
    steps = STEPS if dsn is None else HOSTED
    result = DemoResult(wanted=len(steps))
    with ExitStack() as stack:
        root = keep or stack.enter_context(temporary("demo"))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {"election": {"takeover_delay": TAKEOVER_SECONDS}}
        stage = _stage(Playground(root, settings=settings), dsn, stack)
        playground = stack.enter_context(stage.playground)
        for number, (name, do) in enumerate(steps.items(), 1):
            tell(f"[{number:>2}/{len(steps)}] {name} ...")
            step = _run_step(name, do, stage)
            result.steps.append(step)
            tell(f"\r[{number:>2}/{len(steps)}] {_line(step)}\n")
            if not step.ok:
                break
        if result.ok:
            tell("measuring idle nodes ...")
            stage.figures.usage = usage(playground.members)
            tell("\r")
        result.nodes, result.figures = stage.nodes(), stage.figures.all()
        if result.ok and then is not None:
            then(playground)
    return result


def _stage(playground: Playground, dsn: str | None, stack: ExitStack) -> Stage:
    if dsn is None:
        return Stage(playground, TAKEOVER_SECONDS)
    stage = hosted.Hosted(playground, TAKEOVER_SECONDS)
    if dsn:
        stage.dsn = check_storage(dsn)
        stack.callback(hosted.remove_tenants, stage)
    else:
        stage.dsn = stack.enter_context(a_server()).address
    return stage


def _run_step(name: str, do: Callable[[Stage], str], stage: Stage) -> Step:
    begun = time.monotonic()
    try:
        detail, ok = do(stage), True
    except Exception as fault:  # noqa: BLE001 -- a step that breaks in whatever way has failed
        detail, ok = f"{type(fault).__name__}: {fault}", False
    return Step(name, ok, time.monotonic() - begun, detail)


def _line(step: Step) -> str:
    return f"{step.name:<17} {'ok  ' if step.ok else 'FAIL'} {step.seconds:>7.2f} s  {step.detail}"


def report(result: DemoResult) -> str:
    """The outcome for a person."""
    lines = [_line(step) for step in result.steps]
    total = sum(step.seconds for step in result.steps)
    done = sum(step.ok for step in result.steps)
    lines += ["", *(figure.line() for figure in result.figures)] if result.figures else []
    lines.append(f"{done} of {result.wanted} steps ok in {total:.1f} s")
    return "\n".join(lines)


def quiet(_: str) -> None:
    """Tells nobody."""


def speak(text: str) -> None:
    """Tells a person, at once; a line that is overwritten later is for terminals only."""
    if sys.stderr.isatty():
        click.echo(text.replace("\r", "\r\x1b[K"), err=True, nl=False)
    elif text.endswith("\n"):
        click.echo(text.lstrip("\r"), err=True, nl=False)
