"""The words of a node that runs as a service to systemd: sd_notify(3), datagrams to one socket."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping


class Supervisor:
    """The program that has started this one and asked, by ``NOTIFY_SOCKET``, to hear of it."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Takes ``NOTIFY_SOCKET`` out of ``environ``, by default this process's: its children tell nobody."""
        found = (os.environ if environ is None else environ).pop("NOTIFY_SOCKET", "")
        self._path = "\0" + found[1:] if found.startswith("@") else found

    def ready(self, status: str) -> None:
        """The node serves."""
        self._tell("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._tell(f"STATUS={text}")

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def well(self) -> None:
        """Every actor serves: the watchdog may wait for the next word."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The node ends in good order."""
        self._tell("STOPPING=1", "STATUS=closing links and files")

    def _tell(self, *lines: str) -> None:
        """Nothing waits for a supervisor, and nothing fails without one."""
        if not self._path:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.setblocking(False)
            made.sendto("\n".join(lines).encode(), self._path)
