"""The reference page names every setting that there is, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from entgldb.launch.node import config
from entgldb.launch.node.init import Plan, init
from entgldb.messages.errors import ConfigError
from entgldb.messages.settings import NodeSettings

PAGE = (Path(__file__).parents[3] / "docs" / "reference.md").read_text()
ROWS = re.findall(r"^\| (`[a-z_.`, ]+`) \| (.+?) \|", PAGE, re.MULTILINE)
DEFAULTS = {
    name.strip("` "): value.strip("` ")
    for names, values in ROWS
    for name, value in zip(names.split(","), values.split(","), strict=False)
}


def settings(directory: Path, text: str = "") -> NodeSettings:
    init(Plan(directory, "lan-1", host="127.0.0.1"))
    file = directory / "entgldb.toml"
    file.write_text(file.read_text() + text)
    return config.load(directory)


def test_the_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    found = settings(tmp_path / "n")
    assert float(DEFAULTS["sync.interval"]) == found.sync.sync_interval == found.gateway.sync_interval
    assert float(DEFAULTS["sync.heartbeat_interval"]) == found.sync.heartbeat_interval
    assert float(DEFAULTS["election.takeover_delay"]) == found.election.takeover_delay
    assert float(DEFAULTS["election.gateway_timeout"]) == found.election.gateway_timeout
    assert float(DEFAULTS["gateway.backoff_first"]) == found.gateway.backoff_first
    assert float(DEFAULTS["gateway.backoff_max"]) == found.gateway.backoff_max
    assert float(DEFAULTS["verify.interval"]) == found.oplog.verify_interval
    assert float(DEFAULTS["retention.hours"]) == found.oplog.retention_hours
    assert int(DEFAULTS["retention.bytes"]) == found.oplog.retention_bytes
    assert float(DEFAULTS["retention.absence_limit"]) == found.oplog.absence_limit
    assert int(DEFAULTS["election.priority"]) == found.election.priority
    assert DEFAULTS["sync.live_push"] == str(found.sync.live_push).lower()
    assert int(DEFAULTS["disk.soft_floor"]) == found.store.soft_floor
    assert int(DEFAULTS["disk.hard_floor"]) == found.store.hard_floor
    assert DEFAULTS["node.log_level"] == f'"{found.log_level}"'


def test_every_documented_setting_is_known(tmp_path: Path) -> None:
    wrong = "".join(
        f"[{section}]\n"
        + "".join(f"{name.split('.')[1]} = {{}}\n" for name in DEFAULTS if name.startswith(section))
        for section in ("sync", "election", "gateway", "retention", "disk", "verify")
    )
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path / "n", wrong)
    assert "unknown" not in caught.value.text
    assert len(caught.value.text.splitlines()) == sum(
        name.startswith(("sync.", "election.", "gateway.", "retention.", "disk.", "verify."))
        for name in DEFAULTS
    )
