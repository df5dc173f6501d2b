"""Rates on the command line: ``200kB``, ``1.5MB/s``, bytes without a unit, 0 for no limit."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"": 1, "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2}
_FORM: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)(?:/s)?")


def read_rate(text: str) -> int:
    """Bytes a second. Raises BadParameter."""
    found = _FORM.fullmatch(text)
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise click.BadParameter(f"{text!r:.40} is not like 200kB, 1.5MB/s, 64KiB, or 0 for no limit")
    return round(float(found[1]) * units[found[2].lower()])


def told(rate: Any) -> str:
    """A limit for a person; nothing where there is none."""
    if not rate:
        return ""
    unit = next((unit for unit in ("GB", "MB", "kB") if rate >= _UNITS[unit]), "B")
    return f"at most {rate / _UNITS[unit]:.3g} {unit}/s"


max_rate_option = click.option(
    "--max-rate",
    type=read_rate,
    metavar="RATE",
    help="Send it at most so much a second: 200kB, 1.5MB/s; 0: no limit.",
)
