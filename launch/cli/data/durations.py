"""Lengths of time on the command line: ``90s``, ``15m``, ``12h``, ``30d``, or ``never``."""

from __future__ import annotations

import math
import re
from typing import Final

import click

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FORM: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([smhd]?)")
NEVER: Final = "never"


def read_duration(text: str) -> float:
    """Seconds, infinite for ``never``. Raises BadParameter."""
    if text == NEVER:
        return math.inf
    found = _FORM.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r:.40} is not like 90s, 15m, 12h, 30d or never")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def told(seconds: float | None) -> str:
    """A length of time as ``read_duration`` reads it; None is ``never``."""
    if seconds is None:
        return NEVER
    unit = next((unit for unit in "dhm" if seconds % _SECONDS[unit] == 0), "s")
    return f"{seconds / _SECONDS[unit]:g}{unit}"


expire_option = click.option(
    "--expire-after",
    type=read_duration,
    metavar="TIME",
    help="How long it lives: 90s, 15m, 12h, 30d or never. Without it, as its collection says.",
)
