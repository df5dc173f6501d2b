"""One log file per node, appended to by all its processes, a line at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from pathlib import Path
from typing import ClassVar, Final

LOG_BYTES_MAX = 4 * 1024 * 1024
"""A log file of this size is renamed to ``.1``, that to ``.2`` and so on, and a new one begun."""
OLD_FILES_MAX: Final = 3
"""The oldest of so many renamed ones goes."""


class LogFile(logging.Handler):
    """Appends whole lines with one write each, so that processes do not tear each other's lines."""

    as_json: ClassVar = False
    """An object a line instead of text: of all log files of this process, and of those it forks."""

    def __init__(self, path: Path, who: str) -> None:
        super().__init__()
        self.path = path
        self.who = who
        self._fd = -1

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of the standard library's logging."""
        try:
            text = record.getMessage()
            # a library warns with a trace of what it goes on after, such as an interface without multicast
            if record.exc_info and record.levelno >= logging.ERROR:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            self.line(record.levelno, f"{record.name}: {text}")
        except Exception:  # noqa: BLE001 -- a log that cannot be written must not stop the node
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the standard library's name
        """A full disk silences the log, it does not fill stderr."""

    def line(self, level: int, text: str) -> None:
        """One entry; a text of several lines is indented below it."""
        if not text:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        name = logging.getLevelName(level)
        if LogFile.as_json:
            row = {"time": stamp, "pid": os.getpid(), "who": self.who, "level": name, "text": text.rstrip()}
            data = json.dumps(row) + "\n"
        else:
            body = text.rstrip().replace("\n", "\n    ")
            data = f"{stamp} {os.getpid():>7} {self.who:<8} {name:<7} {body}\n"
        try:
            self._rotate()
            os.write(self._fd, data.encode(errors="replace"))
        except OSError:
            return

    def _rotate(self) -> None:
        """Follow a file that another process renamed; rename it ourselves when it is full."""
        self._open()
        if os.fstat(self._fd).st_size < LOG_BYTES_MAX:
            return
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if self._current():
                for number in range(OLD_FILES_MAX, 1, -1):
                    with contextlib.suppress(FileNotFoundError):
                        self._old(number - 1).rename(self._old(number))
                self.path.rename(self._old(1))
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._open()

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _open(self) -> None:
        if self._fd >= 0 and not self._current():
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _current(self) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False


_ROOT, _MANAGER = logging.root, logging.Logger.manager


def use_log(log: LogFile) -> None:
    """Thespian sends records to a process of its own, from any thread; ours go straight to the file."""
    logging.root = logging.Logger.root = _ROOT
    logging.Logger.manager = _MANAGER
    _ROOT.handlers[:] = [log]
    _ROOT.setLevel(logging.WARNING)
