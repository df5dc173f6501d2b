"""The place in a feed up to which an integration has done its work, kept over restarts."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode
from entgldb.storage.file.durable import write_whole

FOLDER: Final = "integrations"
"""In the directory of a node."""


class Place:
    """The change token and the counts of one integration, in ``DIR/integrations/NAME.json``.

    ``with Place(...)`` holds it: a second process with the same name is refused.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.file: Final = directory / FOLDER / f"{name}.json"
        self.token: str | None = None
        """None: it has never kept one."""
        self.counts: Final = Counter[str]()
        self._lock = -1

    def __enter__(self) -> Place:
        """Raises EntglError in-use, ConfigError for a file that holds no place."""
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            os.close(self._lock)
            raise EntglError(
                f"another process works for {self.file.stem}", code=ErrorCode.IN_USE, hint="end it first"
            ) from None
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def keep(self, token: str) -> None:
        """Everything up to ``token`` is done, and stays so over a power cut."""
        self.token = token
        told = {"schema_version": 1, "token": token, "counts": dict(self.counts)}
        write_whole(self.file, json.dumps(told).encode())

    def _read(self) -> None:
        try:
            found = json.loads(self.file.read_text("utf-8"))
            self.token = str(found["token"])
            self.counts.update({str(name): int(count) for name, count in found["counts"].items()})
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, AttributeError):
            hint = "remove it to begin anew"
            raise ConfigError(f"{self.file} holds no place in a feed", hint=hint) from None
