"""Those who are refused: clients of clusters that a cloud node does not serve are told of while they come,
links and tokens that prove nothing stand in the audit log."""

from __future__ import annotations

from typing import Final

from entgldb.actors.alarms import Alarms
from entgldb.actors.auditing import Auditing
from entgldb.actors.behaviour import Context
from entgldb.actors.ports import LogReader
from entgldb.messages.administration import Event
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import LinkDown
from entgldb.messages.schema import Json

COMES_NO_MORE: Final = 600.0
"""Seconds after which a client that was refused and has not come again is told of no more."""
TOLD_MAX: Final = 32
"""Such clients that are told of; of more, those that came last."""


UNPROVEN: Final = frozenset(
    (
        *(Reason.TLS_REFUSED, Reason.CLOCK, Reason.WRONG_NODE, Reason.DUPLICATE_NODE, Reason.OTHER_CLUSTER),
        *(Reason.RETIRED, Reason.EXPELLED, Reason.NOT_A_MEMBER, Reason.OLD_KEY, Reason.WRONG_KEY),
    )
)
"""Reasons for which a link ends whose other side has not shown that it belongs here."""


def served(log: LogReader, *, shared: bool) -> dict[str, Json]:
    """For ``status``: the cluster that this cloud node serves."""
    cluster, client_id = log.pinned_cluster()
    return {"id": cluster, "client_id": client_id, "shared": shared}


class Strangers:
    """The alarms ``other-cluster``, and the rows of the audit log."""

    def __init__(self) -> None:
        self._audit = Auditing()
        self._alarms = Alarms()
        self._came: dict[str, tuple[str, float]] = {}
        """Client id -> its cluster, when it came last; the longest away first."""

    def refused(self, client_id: str, cluster: str, ctx: Context) -> None:
        """It came and was refused."""
        self._came.pop(client_id, None)
        if len(self._came) >= TOLD_MAX:
            self._forget(next(iter(self._came)))
        self._came[client_id] = (cluster, ctx.monotonic())
        text = (
            f"client {client_id} of cluster {cluster or '(none)'} was refused: this node serves another; "
            "if that is the wrong one: entgldb unpin-cluster"
        )
        self._alarms.sound(Reason.OTHER_CLUSTER.value, client_id, text, ctx.now_ms())

    def down(self, message: LinkDown, ctx: Context) -> None:
        """A link is down."""
        if message.reason in UNPROVEN:
            self._audit.tell(ctx, Event.HANDSHAKE, message.address, message.reason)

    def brought(self, address: str, reason: str, ctx: Context) -> None:
        """A token was refused."""
        self._audit.tell(ctx, Event.TOKEN, address, reason)

    def tend(self, ctx: Context) -> None:
        """At each heartbeat."""
        self._audit.tend(ctx)

    def report(self, pinned: str, ctx: Context) -> list[Json]:
        """The alarms that stand while the node serves ``pinned``: none once nothing is pinned."""
        for client_id, (cluster, came) in list(self._came.items()):
            if pinned in ("", cluster) or ctx.monotonic() - came >= COMES_NO_MORE:
                self._forget(client_id)
        return self._alarms.report()

    def _forget(self, client_id: str) -> None:
        del self._came[client_id]
        self._alarms.clear(Reason.OTHER_CLUSTER.value, client_id)
