"""The row that each kind of request has in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from entgldb.actors.behaviour import Asker
from entgldb.messages import client
from entgldb.messages.administration import (
    AcceptClock,
    AcceptKey,
    Audited,
    Compact,
    Event,
    ExpelNode,
    Happened,
    HealOrigin,
    PauseSync,
    ResetClock,
    RetireNode,
    RotateKey,
    RotateSecret,
    SetConflict,
    SetExpiry,
    SetLogLevel,
    UnpinCluster,
)
from entgldb.messages.errors import InvalidError
from entgldb.messages.schema import Message
from entgldb.storage.audit.rows import Act

CLIENTS_MAY_TELL: Final = frozenset((Event.INVITED, Event.JOINED, Event.HTTP_TOKEN, Event.TOKEN, Event.KEY))
AUDITED: Final[dict[type[Message], Callable[[Any], Act]]] = {
    client.PutPeer: lambda said: Act(Event.PEER, said.node_id, "added" if said.add else "changed"),
    client.RemovePeer: lambda said: Act(Event.PEER, said.node_id, "removed"),
    SetConflict: lambda said: Act(Event.RULE, said.collection, f"conflict {said.conflict}"),
    SetExpiry: lambda said: Act(Event.RULE, said.collection, f"expires after {said.expire_after} ms"),
    RetireNode: lambda said: Act(Event.MEMBER, said.node_id, "retired"),
    ExpelNode: lambda said: Act(Event.MEMBER, said.node_id, "expelled"),
    RotateKey: lambda said: Act(Event.KEY, "cluster key", "rotated"),
    RotateSecret: lambda said: Act(Event.KEY, said.node_id, "client secret rotated"),
    AcceptKey: lambda said: Act(Event.KEY, said.node_id, "accepted", key_id=said.key),
    HealOrigin: lambda said: Act(Event.FORK, said.origin, f"healed, {said.keep} kept"),
    AcceptClock: lambda said: Act(Event.CLOCK, "", "accepted as it is"),
    ResetClock: lambda said: Act(Event.CLOCK, "", "reset"),
    client.Stop: lambda said: Act(Event.NODE, "stop", "asked for"),
    client.Reload: lambda said: Act(Event.NODE, "reload", "asked for"),
    SetLogLevel: lambda said: Act(
        Event.NODE, "log level", f"{said.level or 'as configured'} for {said.seconds:.0f} s"
    ),
    client.StandDown: lambda said: Act(Event.NODE, "stand down", f"for {said.seconds:.0f} s"),
    client.Isolate: lambda said: Act(Event.NODE, "isolate", f"for {said.seconds:.0f} s"),
    client.Verify: lambda said: Act(
        Event.NODE, "verify", f"{'repair' if said.repair else 'compare'} with {said.peer or 'all'}"
    ),
    Compact: lambda said: Act(Event.NODE, "compact", "asked for"),
    client.SettleUnfit: lambda said: Act(
        Event.UNFIT, f"{said.origin} {said.seq}", "applied" if said.retry else "dropped"
    ),
    client.ReleaseOrigin: lambda said: Act(Event.HELD, said.origin, "let in"),
    UnpinCluster: lambda said: Act(Event.CLUSTER, said.cluster, "unpinned"),
    PauseSync: lambda said: Act(Event.PAUSE, said.what, "paused" if said.paused else "resumed"),
    Audited: lambda said: Act(
        event_of(said), said.subject, said.outcome, key_id=said.key_id, left_out=said.left_out
    ),
    Happened: lambda said: Act(
        Event(said.event), said.subject, said.outcome, said.who, said.key_id, said.left_out
    ),
}
"""Kind of request -> its row."""


def event_of(said: Audited) -> Event:
    """The event that a client tells of. Raises InvalidError for what no client may tell."""
    if said.event not in CLIENTS_MAY_TELL:
        raise InvalidError(f"{said.event!r:.40} is no event that a client may tell of")
    return Event(said.event)


def who_is(asker: Asker | None) -> str:
    """The one who asks, as far as is known: a client of the socket by the word of the kernel."""
    return str(getattr(asker, "who", ""))


def act_of(message: Message, asker: Asker | None) -> Act:
    """The row of a request of a kind that has one."""
    act, who = AUDITED[type(message)](message), who_is(asker)
    return act._replace(who=who) if who else act
