"""The server as a child of a node's launcher: ``python -m entgldb.web JSON``, with sockets that it is handed.

One byte on ``control`` every few seconds says that requests are served; the launcher ends a child that is
silent.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from entgldb.messages.errors import EntglError
from entgldb.web.door.place import Place
from entgldb.web.server import serve


def main(told: dict[str, Any]) -> None:
    """Serve as ``told`` says."""
    certificate, key = (None if name is None else Path(name) for name in told["files"])
    place = Place(told["host"], told["port"], tuple(told["names"]), certificate, key, told["tokens"])
    control: int = told["control"]
    os.set_blocking(control, False)

    def beat() -> None:
        with contextlib.suppress(BlockingIOError):  # a launcher that is stopped reads nothing
            os.write(control, b".")

    gc.freeze()  # what is loaded by now stays: the collector need not look at it
    listener = socket.socket(fileno=told["listener"])
    serve(Path(told["directory"]), place, lambda url: None, listener=listener, beat=beat)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except EntglError as error:
        sys.exit(f"{error.code}: {error.text}")
