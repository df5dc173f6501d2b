"""The backups that this node has put somewhere: the only files that retention may remove."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from entgldb.integrations.place import FOLDER
from entgldb.messages.errors import ConfigError, TooLargeError
from entgldb.storage.file.durable import write_whole

PLACES_MAX: Final = 100
ENTRIES_MAX: Final = 10_000


@dataclass(frozen=True)
class Kept:
    """One backup at one place."""

    name: str
    at_ms: int
    whole: bool = False
    """It was read back and is what it should be; before that, it may be there in part or not at all."""


class Ledger:
    """``DIR/integrations/backups.json``: place -> backups, oldest first."""

    def __init__(self, directory: Path, place: str) -> None:
        """Raises ConfigError for a file that is no ledger."""
        self._file = directory / FOLDER / "backups.json"
        self._place = place
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        self._all = self._read()

    def entries(self) -> Sequence[Kept]:
        """Those of this place, oldest first."""
        return self._all.get(self._place, [])

    def begin(self, name: str, at_ms: int) -> None:
        """``name`` is about to be put there. Raises TooLargeError."""
        rows = self._all.setdefault(self._place, [])
        if len(self._all) > PLACES_MAX or len(rows) >= ENTRIES_MAX:
            raise TooLargeError(
                f"{self._file} has too many places or backups", hint="remove those that are gone"
            )
        rows.append(Kept(name, at_ms))
        try:
            self._write()
        except OSError:
            rows.pop()  # nothing is put there
            raise

    def proven(self, name: str) -> None:
        """``name`` was read back and is whole."""
        rows = self._all[self._place]
        self._all[self._place] = [Kept(row.name, row.at_ms, row.whole or row.name == name) for row in rows]
        self._write()

    def forget(self, name: str) -> None:
        """``name`` is there no more."""
        self._all[self._place] = [row for row in self._all[self._place] if row.name != name]
        self._write()

    def _read(self) -> dict[str, list[Kept]]:
        try:
            found = json.loads(self._file.read_text("utf-8"))
            return {
                str(place): [Kept(str(row["name"]), int(row["at_ms"]), row["whole"] is True) for row in rows]
                for place, rows in found["places"].items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError):
            hint = "move it away: the backups that it knew are then yours to remove"
            raise ConfigError(f"{self._file} is no ledger of backups", hint=hint) from None

    def _write(self) -> None:
        places = {place: [asdict(row) for row in rows] for place, rows in self._all.items() if rows}
        write_whole(self._file, json.dumps({"schema_version": 1, "places": places}, indent=1).encode())


def surplus(rows: Sequence[Kept], keep: int) -> list[Kept]:
    """The backups to remove: those older than the newest whole one, without the ``keep`` newest whole."""
    whole = [row for row in rows if row.whole]
    kept = {row.name for row in whole[-keep:]}
    last = rows.index(whole[-1]) if whole else -1
    return [row for row in rows[: last + 1] if row.name not in kept]
