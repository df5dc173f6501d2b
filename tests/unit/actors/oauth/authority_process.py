"""A development authorization server as a process of its own, and its controls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

SOURCE = Path(__file__).parents[4] / "src"
CODE = "from entgldb.launch.playground.dev_authority import dev_authority; dev_authority()"


class AuthorityProcess:
    """``with AuthorityProcess("gw:s3cret") as authority``: it serves until the block ends."""

    def __init__(self, *clients: str, arguments: tuple[str, ...] = ()) -> None:
        options = [word for client in clients for word in ("--client", client)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, "--json", *options, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.url: str = self.facts["authority"]

    def control(self, **wanted: Any) -> dict[str, Any]:
        """Change something, or only look; the state after it."""
        body = json.dumps(wanted).encode() if wanted else None
        request = urllib.request.Request(
            self.facts["control"], body, {"Content-Type": "application/json"} if wanted else {}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.terminate()
        status = self.process.wait(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def __enter__(self) -> AuthorityProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
