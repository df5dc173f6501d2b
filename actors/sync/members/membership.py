"""SyncActor's part about members: whose rows are kept, who is missed, what ``status`` shows of them."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.nodes import read_documents, removed_clouds
from entgldb.actors.ports import LogReader
from entgldb.actors.session.members import Members, Unheard, shown
from entgldb.actors.sync.members.admittance import Admittance
from entgldb.actors.sync.members.lacking import Lacking
from entgldb.messages.local.members import MembersHeard, RememberMembers, Settled
from entgldb.messages.model import REMOTE_PEERS, node_of
from entgldb.messages.schema import Json


class Membership:
    """The table of members, and what comes of it."""

    def __init__(self, log: LogReader, cluster: str, *, cloud: bool) -> None:
        self._log = log
        self._unheard = Unheard()
        self._lacking = Lacking(log)
        self.members = Members(cloud=cloud, cluster="" if cloud else cluster)

    def on_members_heard(self, message: MembersHeard, ctx: Context) -> None:
        for row in message.rows:
            self.members.hear(row, ctx.now_ms())

    def on_settled(self, message: Settled, ctx: Context) -> None:
        self.members.settled = message.vector

    def tend(self, interval: float, ctx: Context) -> None:
        """At each heartbeat: our own row, and what the file should know."""
        self.members.look(self._log, interval, ctx)
        self._unheard.look(self.members.rows, ctx)
        if not self.members.cloud:
            self._lacking.tend(ctx)
        rows = self.members.changed(interval, ctx)
        if rows:
            ctx.tell("store", RememberMembers(rows))

    def alarms(self, linked: set[str], refused: Admittance, ctx: Context) -> list[Json]:
        """Of machines that are refused, of members who are silent, and of configuration that none of
        them gives.

        ``linked`` are the node ids that have a link.
        """
        clouds = {document.get("NodeId") for document in read_documents(self._log, REMOTE_PEERS)}
        clouds |= removed_clouds(self._log, self.members.rows)
        expected = {
            name: heard
            for name, heard in self.members.rows.items()
            if name not in clouds and heard.row.origin not in refused.retired and name not in refused.expelled
        }
        silent = self._unheard.alarms(expected, {*linked, *self.members.own()}, ctx)
        return refused.alarms(node_of(self._log.origin), ctx) + silent + self._lacking.alarms(ctx)

    def rows(self) -> list[Json]:
        """All that belong to the cluster as far as is known; in the cloud role, all that were heard of."""
        rows = self.members.rows
        gone = set() if self.members.cloud else removed_clouds(self._log, rows)
        return [{"name": name, **shown(heard)} for name, heard in sorted(rows.items()) if name not in gone]
