"""What SyncActor and CloudGatewayActor are told about snapshots, handed to the session it is meant for."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.session_owner import SessionOwner
from entgldb.messages.model import Vector
from entgldb.messages.snapshots import SnapshotFrozen, SnapshotInstalled, SnapshotStaged


class SnapshotRouting(SessionOwner):
    """A base of both."""

    _gained: Vector

    def on_snapshot_frozen(self, message: SnapshotFrozen, ctx: Context) -> None:
        for session in self.sessions():
            if session.name == message.session:
                session.snapshots.giving.frozen(message, ctx)

    def on_snapshot_staged(self, message: SnapshotStaged, ctx: Context) -> None:
        for session in self.sessions():
            if session.name == message.session:
                session.snapshots.taking.staged(message, ctx)

    def on_snapshot_installed(self, message: SnapshotInstalled, ctx: Context) -> None:
        self._gained.update(message.changes)
        self.each(lambda session: session.installed(message, ctx), ctx)
