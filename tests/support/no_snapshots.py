"""A shelf of snapshots with nothing on it."""

from __future__ import annotations


class NoSnapshots:
    """A ``ports.SnapshotChunks`` for tests that are about something else."""

    def chunk(self, snapshot_id: str, number: int) -> tuple[bytes, bytes] | None:
        return None
