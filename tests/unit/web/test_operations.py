"""Rules and dashboard of the documentation: they parse, and every figure in them is one that there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from entgldb.web.metrics import Given, families
from tests.unit.web.test_metrics import PAGE, STATUS

PROMTOOL = shutil.which("promtool")
BOARD = PAGE.parent / "grafana.json"
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not here: rules, queries and figures were read by parsers alone"
)


def rules() -> str:
    """The rules of the page, as a file of Prometheus has them."""
    (found,) = re.findall(r"```yaml\n(groups:.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def queries() -> list[str]:
    """The queries of all panels, as Grafana sends them."""
    panels = json.loads(BOARD.read_text())["panels"]
    return [target["expr"].replace("$node", ".*") for panel in panels for target in panel["targets"]]


def checked(what: str, given: str, folder: Path) -> None:
    file = folder / "given.yml"
    file.write_text(given)
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", what, *([str(file)] if what == "rules" else [])],
        input=given,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_ten_rules_each_with_a_remedy() -> None:
    (group,) = yaml.safe_load(rules())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == 10
    for rule in group["rules"]:
        assert rule["annotations"].keys() == {"summary", "remedy"}
        assert rule["expr"]


def test_every_figure_on_the_page_is_drawn_and_every_one_that_is_drawn_is_on_the_page() -> None:
    told = set(re.findall(r"^\| `(entgldb_[a-z_]+)`", PAGE.read_text(), re.MULTILINE))
    used = {
        re.sub(r"_(total|bucket|count|sum)$", "", name)
        for query in queries()
        for name in re.findall(r"entgldb_[a-z_]+", query)
    }
    assert used <= told
    assert told - used == {"entgldb_actor_up", "entgldb_origins", "entgldb_log_bytes", "entgldb_has_gateway"}


def test_panels_stand_side_by_side() -> None:
    panels = json.loads(BOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(p["gridPos"]["x"] + x, p["gridPos"]["y"]) for p in panels for x in range(p["gridPos"]["w"])]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


@needs_promtool
def test_promtool_takes_the_rules_and_the_queries(tmp_path: Path) -> None:
    checked("rules", rules(), tmp_path)
    records: list[dict[str, Any]] = [
        {"record": f"drawn:{at}", "expr": query} for at, query in enumerate(queries())
    ]
    checked("rules", json.dumps({"groups": [{"name": "drawn", "rules": records}]}), tmp_path)


@needs_promtool
def test_promtool_takes_the_figures(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(Given([*families(STATUS)]))
    checked("metrics", generate_latest(registry).decode(), tmp_path)
