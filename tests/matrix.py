"""``make matrix``: the quick tests on every CPython from 3.11 on that is found, each in its own environment.

Looks on PATH and, where pyenv is, among its versions; takes the newest patch release of each minor one. Exits
with 1 when any of them fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "matrix"
OLDEST = (3, 11)
NEWEST_LOOKED_FOR = 20
ASK = "import sys; print(sys.implementation.name, *sys.version_info[:3])"


def candidates() -> list[str]:
    """Commands that may be an interpreter."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], NEWEST_LOOKED_FOR)]
    own = sorted(str(path) for path in pyenv.glob("*/bin/python"))
    return [sys.executable, *(path for path in named if path), *own]


def found() -> dict[str, str]:
    """Minor version -> the command of its newest patch release."""
    newest: dict[tuple[int, int], tuple[int, str]] = {}
    for command in candidates():
        asked = subprocess.run([command, "-c", ASK], capture_output=True, text=True, check=False)
        told = re.fullmatch(r"cpython (\d+) (\d+) (\d+)", asked.stdout.strip())
        if asked.returncode or told is None:
            continue
        major, minor, patch = map(int, told.groups())
        if (major, minor) >= OLDEST:
            newest[major, minor] = max(newest.get((major, minor), (-1, "")), (patch, command))
    return {f"{at[0]}.{at[1]}": newest[at][1] for at in sorted(newest)}


def run(version: str, command: str) -> int:
    """Install and test; the exit code of whichever failed first, or 0."""
    folder = FOLDER / version
    python = str(folder / "bin" / "python")
    steps = (
        [command, "-m", "venv", "--clear", str(folder)],
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", f"{ROOT}[demo,test]"],
        [python, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"],
    )
    for step in steps:
        code = subprocess.run(step, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


def main() -> int:
    """Run all and print what came of it."""
    interpreters = found()
    lines = []
    failed = False
    for version, command in interpreters.items():
        print(f"== Python {version}: {command}", flush=True)
        begun = time.monotonic()
        code = run(version, command)
        failed = failed or code != 0
        lines.append(f"{version:8}{'passed' if code == 0 else 'FAILED':8}{time.monotonic() - begun:6.0f} s")
    print("", *lines, sep="\n")
    return int(failed or not interpreters)


if __name__ == "__main__":
    sys.exit(main())
