"""A server process of a test, and a client of it."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from entgldb.launch.node.child import end_with_parent, environment


@contextmanager
def served(directory: Path, *options: str, verify: ssl.SSLContext | bool = True) -> Iterator[httpx.Client]:
    """``entgldb serve`` at a port of the kernel's choice."""
    arguments = [sys.executable, "-m", "entgldb", "serve", "-d", str(directory), "--json"]
    if "--listen" not in options:
        arguments += ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*arguments, *options], stdout=subprocess.PIPE, env=environment(), preexec_fn=end_with_parent
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server said nothing"
        with httpx.Client(base_url=json.loads(line)["url"], timeout=20, verify=verify) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
