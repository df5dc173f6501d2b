"""Clients: each writes, waits for its answer, and asks again with the same request id when none comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from entgldb.launch.testing.world import World
from entgldb.messages.administration import SetConflict, SetExpiry
from entgldb.messages.client import (
    Commit,
    CommitDone,
    PutPeer,
    Refused,
    RemovePeer,
    RequestId,
    Write,
    Written,
)
from entgldb.messages.codec import encode
from entgldb.messages.model import Version
from entgldb.messages.schema import Message
from entgldb.storage.documents.reading import Read
from tests.simulation.events import conditions
from tests.simulation.events.conditions import REFUSALS, conditional, tally_update
from tests.simulation.events.edits import LARGE_BYTES, PROFILES, beyond, decision, edit
from tests.simulation.events.tallies import KEYS, TALLIES, amount_of, tally
from tests.simulation.watch.oracle import MERGE, read_operation
from tests.simulation.world.node import SimulatedNode

PATIENCE_SECONDS = 1.5
LIVES_MS = (0, 1, 300, 1_500, 4_000)
CLOUD = "cloud"
SECOND_CLOUD = "cloud-2"


@dataclass
class Acknowledged:
    """All that was promised to clients."""

    writes: dict[tuple[str, int], bytes | None] = field(default_factory=dict)
    """(origin, seq) -> the body that was acknowledged."""
    edits: dict[tuple[str, int], str] = field(default_factory=dict)
    """(origin, seq) -> what an acknowledged edit of a document that merges wrote into a field."""
    increments: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    """(origin, seq) -> the key of an acknowledged increment, and by how much."""
    decisions: set[tuple[str, int]] = field(default_factory=set)
    """Acknowledged changes of peers and rules, and acknowledged settlements of conflicts."""

    def lose(self, made: tuple[str, int]) -> None:
        """It went with a disk or a node, and nobody has it."""
        self.forget(made)
        self.increments.pop(made, None)

    def forget(self, made: tuple[str, int]) -> None:
        """It is not asked for any more; an increment that was written again still counts."""
        self.writes.pop(made, None)
        self.decisions.discard(made)


class Waiting:
    """The asker of one attempt."""

    def __init__(self, client: Client, counter: int) -> None:
        self._client, self._counter = client, counter

    def answer(self, message: Message) -> None:
        self._client.answered(self._counter, message)


class Client:
    """One client of one node; at most one request at a time."""

    def __init__(
        self, world: World, node: SimulatedNode, acks: Acknowledged, *, keys: int, think: float
    ) -> None:
        self.world = world
        self.node = node
        self.id = world.random.randbytes(16)
        self.stopped = False
        self.client_id = "cluster"
        """By which its gateway comes to a cloud."""
        self.merges = False
        """Whether it also edits documents that merge, and decides about conflicts."""
        self.counts = False
        """Whether it also counts and changes sets,"""
        self.tallies: Sequence[str] = KEYS
        """in which documents."""
        self.conditional = False
        """Whether it also inserts, updates, and writes for one version alone."""
        self._versions: dict[tuple[str, str], Version] = {}
        """The versions that it has seen, for such writes."""
        self._edits: dict[bytes, str] = {}
        self._reads: dict[str, Read] = {}
        """The documents that merge as it has read them, however long ago."""
        self.wild_clocks = False
        """Whether a clock may be so wrong that its node writes nothing."""
        self.large = False
        """Whether some of their fields are large."""
        self.unfit = False
        """Whether it also writes documents that a picky node cannot merge."""
        self.expires = False
        """Whether some of what it writes expires."""
        self._failed_before = 0
        """Transactions of its node that failed and of which it may have been told."""
        self.acks = acks
        self._keys = keys
        self._think = think
        self._counter = 0
        self._asked = 0
        self._pending: Message | None = None
        self._writes: tuple[Write, ...] = ()
        self._answers: dict[int, CommitDone] = {}

    def begin(self) -> None:
        """Write after a while, and again and again until ``stopped``."""
        self.world.after(self.world.random.expovariate(1 / self._think), self._write)

    @property
    def waiting(self) -> bool:
        """Whether a request has no answer yet."""
        return self._pending is not None

    def put_peer(self, address: str, *, add: bool, enabled: bool) -> bool:
        """Add the cloud peer, or switch it; False while another request is under way."""
        if self._pending is not None:
            return False
        self._counter += 1
        request = RequestId(self.id, self._counter)
        self._writes = ()
        if add:
            self._pending = PutPeer(
                request,
                True,
                CLOUD,
                type=2,
                address=address,
                authority="https://authority.example",
                client_id=self.client_id,
                secret="simulated secret",
                scopes=("entgldb:sync",),
                enabled=enabled,
            )
        else:
            self._pending = PutPeer(request, False, CLOUD, enabled=enabled)
        self._send(self._counter)
        return True

    def set_rule(self, rule: str, collection: str = PROFILES) -> None:
        """Have a collection settle concurrent writes in another way; asked again until it may be."""
        if self._pending is not None or not self.node.up:
            self.world.after(0.2, self.set_rule, rule, collection)
            return
        self._counter += 1
        self._writes = ()
        self._pending = SetConflict(RequestId(self.id, self._counter), collection, rule)
        self._send(self._counter)

    def set_expiry(self, life_ms: int, collection: str) -> None:
        """Have what is written to a collection expire; asked again until it may be."""
        if self._pending is not None or not self.node.up:
            self.world.after(0.2, self.set_expiry, life_ms, collection)
            return
        self._counter += 1
        self._writes = ()
        self._pending = SetExpiry(RequestId(self.id, self._counter), collection, life_ms)
        self._send(self._counter)

    def _decide(self) -> None:
        request = RequestId(self.id, self._counter + 1)
        decided = decision(self.world.random, self.node, request)
        if decided is not None:
            self._counter += 1
            self._writes = ()
            self._pending = decided
            self.world.reached[f"{type(decided).__name__} asked"] += 1
            self._send(self._counter)

    def remove_peer(self) -> None:
        """Remove the cloud peer, everywhere and for good."""
        self._counter += 1
        self._writes = ()
        self._pending = RemovePeer(RequestId(self.id, self._counter), CLOUD)
        self._send(self._counter)

    def write_now(self, *keys: str, life_ms: int | None = None) -> None:
        """Write documents of these keys at this very moment, unless a request is under way."""
        if self._pending is None and not self.stopped:
            writes = [self._put("users", key) for key in keys]
            if life_ms is not None:
                writes = [replace(write, expire_after=life_ms) for write in writes]
            self._request(tuple(writes))

    def delete_now(self, *keys: str) -> None:
        """Delete these at this very moment, unless a request is under way."""
        if self._pending is None and not self.stopped:
            self._request(tuple(Write("users", key, None) for key in keys))

    def answered(self, counter: int, message: Message) -> None:
        """An answer, perhaps one of several to the same request: all must be equal."""
        if isinstance(message, CommitDone):
            before = self._answers.setdefault(counter, message)
            if before != message:
                self.world.violate(f"{self.node.name} answered request {counter} twice, differently")
        if counter != self._counter or self._pending is None:
            return
        # a peer that is there already, or not yet, is the answer to a question, not a failure
        expected = set() if self._writes else {"already-exists", "not-found"}
        if self.node.store.full or self.node.disk.free is not None or self.world.time < self.node.short_until:
            expected.add("disk-full")
        if self.node.store.failed != self._failed_before:
            self._failed_before = self.node.store.failed
            expected.add("disk-error")
        if self.wild_clocks:
            expected.add("clock")
        if any(write.operations for write in self._writes):
            # a disk that went back in time may have forgotten the rule
            expected.add("invalid")
        if conditions.stumbles(self._writes):
            expected.add("invalid")
        if any(write.expects is not None for write in self._writes):
            expected |= REFUSALS
            self.world.reached["condition refused"] += isinstance(message, Refused)
        if isinstance(message, Refused) and message.code not in expected:
            self.world.violate(f"{self.node.name} refused a write: {message.code} {message.text}")
        if isinstance(message, CommitDone):
            self._acknowledge(message)
        self.world.note(f"{self.node.name} answers {counter}", encode(message))
        self._pending = None

    def _write(self) -> None:
        if self.stopped:
            return
        if self._pending is None and self.node.up:
            random = self.world.random
            if self.merges and random.random() < 0.1:
                self._decide()
                self.begin()
                return
            count = 1 if random.random() < 0.6 else random.randint(2, 4)
            self._request(tuple(self._any_write() for _ in range(count)))
        self.begin()

    def _request(self, writes: tuple[Write, ...]) -> None:
        self._counter += 1
        self._writes = writes
        self._pending = Commit(RequestId(self.id, self._counter), writes)
        self._send(self._counter)

    def _any_write(self) -> Write:
        random = self.world.random
        if self.counts and TALLIES in self.node.store.state.merging and random.random() < 0.3:
            if self.conditional and random.random() < 0.7:
                return tally_update(random, self.tallies)
            return tally(random, self.tallies)
        if self.merges and random.random() < 0.5:
            write, uid = edit(random, self.node, min(self._keys, 5), self._reads, large=self.large)
            self.world.reached["large row"] += len(write.body or b"") > LARGE_BYTES
            if write.body is not None:
                self._edits[write.body] = uid
                write = replace(write, expire_after=self._life())
            return write
        collection = random.choice(("users", "orders"))
        key = f"k{random.randrange(self._keys)}"
        write = Write(collection, key, None) if random.random() < 0.2 else self._put(collection, key)
        if self.conditional and write.body is not None and random.random() < 0.5:
            uid = json.loads(write.body)["uid"]
            return conditional(random, self.node, write, uid, self._versions)
        return write

    def _put(self, collection: str, key: str) -> Write:
        random = self.world.random
        body = {"uid": f"{random.getrandbits(64):016x}", "by": self.node.name}
        if self.unfit and random.random() < 0.05:
            body["unfit"] = "for some"
        if random.random() < 0.05:
            body["fill"] = "x" * random.randrange(4000)
        return Write(collection, key, json.dumps(body).encode(), expire_after=self._life())

    def _life(self) -> int | None:
        """Milliseconds; None: as the collection has it."""
        if not self.expires or self.world.random.random() < 0.6:
            return None
        return self.world.random.choice(LIVES_MS)

    def _send(self, counter: int) -> None:
        """Try, and try again until an answer has come."""
        if self._pending is None or counter != self._counter:
            return
        again = counter == self._asked
        self.world.reached["request asked again"] += again
        self.world.reached["request answered from memory"] += again and self._is_remembered(counter)
        self._asked = counter
        self.node.ask("store", self._pending, Waiting(self, counter))
        self.world.after(PATIENCE_SECONDS, self._send, counter)

    def _is_remembered(self, counter: int) -> bool:
        if (self.id, counter) in self.node.store.state.answers:
            return self.node.up
        found = self.node.store.connection.execute(
            "SELECT 1 FROM _entgldb_requests WHERE client = ? AND counter = ?", (self.id, counter)
        )
        return self.node.up and found.fetchone() is not None

    def _acknowledge(self, done: CommitDone) -> None:
        if self.node.store.connection.in_transaction:
            self.world.violate(f"{self.node.name} acknowledged inside its transaction")
        if not self._writes:
            made = {(one.origin, one.seq) for one in done.written if one.seq}
            self.world.reached["decision acknowledged"] += len(made)
            self.acks.decisions |= made
            return
        if len(done.written) != len(self._writes):
            self.world.violate(f"{self.node.name}: {len(self._writes)} writes, {len(done.written)} versions")
        for write, made in zip(self._writes, done.written, strict=False):
            if made.seq:
                body = write.body
                if write.expects is not None or write.update is not None:
                    body = self._look_at_condition(write, made)
                self.acks.writes[made.origin, made.seq] = body
                if write.operations:
                    self.acks.increments[made.origin, made.seq] = (write.key, amount_of(write))
                self._look_beyond(write, made)
                if write.body in self._edits:
                    self.acks.edits[made.origin, made.seq] = self._edits[write.body]

    def _look_at_condition(self, write: Write, made: Written) -> bytes | None:
        """The body of a write whose condition held, which only the log tells of an update."""
        one = conditions.entry(self.node, (made.origin, made.seq))
        if one is None:
            self.world.violate(f"{self.node.name} acknowledged {made}, which is not in its log")
            return write.body
        if write.collection == TALLIES:
            # where a disk that went back in time has forgotten the rule, it replaced the document
            if one.op == MERGE:
                self.acks.increments[made.origin, made.seq] = (write.key, conditions.amount_of(write))
        elif fault := conditions.broken(self.node, write, one):
            self.world.violate(f"{self.node.name}: {made.origin} {made.seq} {fault}")
        self.world.reached["update done" if write.update else "condition met"] += 1
        return None if one.body is None else one.body.encode()

    def _look_beyond(self, write: Write, made: Written) -> None:
        """A write that names its base writes only the changed fields."""
        row = self.node.store.connection.execute(
            "SELECT l.header, l.body FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE o.name = ? AND l.seq = ?",
            (made.origin, made.seq),
        ).fetchone()
        if write.base is not None and row is not None:
            self.world.reached["edit of what was read"] += 1
            if more := beyond(write, read_operation(*row)):
                self.world.violate(f"{self.node.name} wrote {sorted(more)}, which nobody had changed")
