"""Some test crosses every named limit; the page of security says at which door which kinds are tried."""

from __future__ import annotations

import re
from pathlib import Path

from entgldb.messages import limits

ROOT = Path(__file__).parent.parent
NO_LIMITS = {"PACK_BYTES"}
"""Constants of that module that bound nothing that another side could make larger."""
DOORS = (
    "TLS port of the LAN",
    "TLS port of a cloud",
    "client socket",
    "lane",
    "actors' ports",
    "announcements",
    "HTTP",
    "authority",
    "tokens",
    "imports",
    "backups",
    "snapshots",
    "MQTT",
    "webhooks",
    "invitations",
    "names",
)


def test_every_named_limit_stands_in_a_test() -> None:
    words = {
        word
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__)
        for word in re.findall(r"\w+", path.read_text())
    }
    named = {name for name in vars(limits) if name.isupper()} - NO_LIMITS
    assert len(named) > 90
    assert sorted(named - words) == []


def test_every_door_has_its_hostile_kinds() -> None:
    """That the tests they name exist is looked at with all others of the page."""
    _, _, page = (ROOT / "docs" / "security.md").read_text().partition("## Hostile input, door by door")
    rows = [line.strip("|").split("|") for line in page.split("\n## ")[0].splitlines() if "::" in line]
    assert {row[0].partition(":")[0].strip() for row in rows} == set(DOORS)
    assert len(rows) > 40
