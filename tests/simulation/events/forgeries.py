"""Certified nodes that forge the logs of others as they relay them: in every fifth seed, and to no avail."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from entgldb.launch.testing.network import End, Network
from entgldb.launch.testing.world import World
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.model import Entry, node_of
from entgldb.messages.schema import Message
from entgldb.storage.rules import header as headers
from tests.simulation.world.node import SimulatedNode
from tests.support.keys import Writer

FORGER_SEEDS, FORGER = 5, 3
"""Every fifth seed; the histories of all others are as they would be without this module."""
INTERVAL_SECONDS = 2.0
FALSE = b'{"forged":true}'
"""The body of whatever is forged."""


class Forgeries:
    """A node at a time changes what it says of the logs of others; its own file stays as it is."""

    def __init__(self, world: World, network: Network, nodes: list[SimulatedNode]) -> None:
        self._world, self._network, self._nodes = world, network, nodes
        self._random = Random(world.seed)
        self._writer = Writer("forger")
        self._forger = ""
        self.over = False

    def begin(self) -> None:
        """From now on, another node every few seconds."""
        self.tell(self._random.choice(self._nodes))
        if not self.over:
            self._world.after(INTERVAL_SECONDS, self.begin)

    def tell(self, forger: SimulatedNode) -> None:
        """``forger`` forges from now on, and nobody else."""
        self._forget()
        self._forger = forger.name
        self._network.forge = None if self.over else self.as_forged

    def end(self) -> None:
        """Nobody forges any more."""
        self.over, self._network.forge = True, None
        self._forget()

    def _forget(self) -> None:
        """Break the links of the forger, so that the others ask anew for what it has kept back."""
        for end in [end for end in self._network.ends.values() if end.place.name == self._forger]:
            self._network.close(end, Reason.PEER_CLOSED, "broken")

    def as_forged(self, end: End, message: Message) -> Message:
        """A frame of the forger, changed now and then."""
        if end.place.name != self._forger or self._random.random() < 0.5:
            return message
        if isinstance(message, wire.Heartbeat) and message.vector is not None and end.other is not None:
            return self._vector(end, message)
        if not isinstance(message, wire.Entries | wire.Supply) or not message.entries:
            return message
        place = self._random.randrange(len(message.entries))
        entry = message.entries[place]
        if node_of(headers.decode(entry.header).origin) == end.place.name:
            return message
        self._world.fault("forgery", f"{end.place.name} {message}")
        made = self._random.choice((self._onward, self._rewritten, self._unsigned, self._invented))(entry)
        entries = (*message.entries[:place], *made, *message.entries[place + 1 :])
        return replace(message, entries=entries)

    def _vector(self, end: End, message: wire.Heartbeat) -> Message:
        """A vector that says that the receiver's own log is another one."""
        assert end.other is not None
        theirs = [origin for origin in message.vector or {} if node_of(origin) == end.other.place.name]
        vector = dict(message.vector or {})
        vector |= {origin: (vector[origin][0], b"f" * 32) for origin in theirs}
        self._world.fault("forgery", f"{end.place.name} a vector")
        return replace(message, vector=vector)

    def _onward(self, entry: Entry) -> tuple[Entry, ...]:
        old = headers.decode(entry.header)
        made = self._false(
            old._replace(seq=old.seq + 1, prev_hash=headers.digest(entry.header), group_index=0, group_size=1)
        )
        return entry, self._random.choice((made, self._writer.signed(made)))

    def _rewritten(self, entry: Entry) -> tuple[Entry, ...]:
        made = self._false(headers.decode(entry.header))
        return (
            self._random.choice((made, self._writer.signed(made), replace(made, signature=entry.signature))),
        )

    def _unsigned(self, entry: Entry) -> tuple[Entry, ...]:
        return (replace(entry, signature=None),)

    def _invented(self, entry: Entry) -> tuple[Entry, ...]:
        header = headers.decode(entry.header)
        origins = [
            f"{self._random.choice(self._nodes).name}/{self._random.getrandbits(128):032x}" for _ in range(20)
        ]
        first = header._replace(seq=1, prev_hash=b"", parent=None, group_index=0, group_size=1)
        return entry, *(self._writer.signed(self._false(first._replace(origin=one))) for one in origins)

    def _false(self, header: headers.Header) -> Entry:
        made = header._replace(hlc=header.hlc + 1, op=headers.PUT, body_sha256=headers.digest(FALSE), seen=())
        return Entry(headers.encode(made), FALSE)


def believed(world: World, nodes: list[SimulatedNode]) -> None:
    """Report each node that has taken something forged."""
    for node in nodes:
        for table in ("documents", "oplog", "held", "conflicts"):
            (found,) = node.store.connection.execute(
                f"SELECT count(*) FROM _entgldb_{table} WHERE CAST(body AS BLOB) = ?",
                (FALSE,),
            ).fetchone()
            if found:
                world.violate(f"{node.name} believes a forgery: {table}")
