"""The log for every process but the store: read-only, one short transaction per call."""

from __future__ import annotations

from pathlib import Path

from entgldb.storage.file.open import open_reader
from entgldb.storage.log.read import LogQueries


class LogReader(LogQueries):
    """Implements ``ports.OplogReader`` on a node's file."""

    @classmethod
    def open(cls, directory: str | Path) -> LogReader:
        """Raises NotFoundError where there is no database, ConfigError for a newer format."""
        return cls(open_reader(directory))
