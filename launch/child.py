"""Children of this process that run the same code."""

from __future__ import annotations

import os
from pathlib import Path

import entgldb


def environment() -> dict[str, str]:
    """For a child that shall run the code that runs here, installed or not."""
    home = str(Path(str(entgldb.__file__)).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
