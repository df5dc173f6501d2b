"""One life of a store: the real behaviour on the real file, fed with all it may meet, until it is killed.

It tells each promise on a pipe, a line each, right after the answer went out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from entgldb.actors.behaviour import Asker
from entgldb.actors.host.free_space import FreeSpace
from entgldb.actors.node import supervision as child
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.messages import client, codec
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.actors import (
    Applied,
    Apply,
    BuildIndexes,
    HideExpired,
    ReleaseHeld,
    RememberPeer,
    Tick,
)
from entgldb.messages.local.members import Collect, Prune
from entgldb.messages.model import REMOTE_PEERS, Entry
from entgldb.messages.schema import Channel, Message
from entgldb.messages.settings import StoreSettings
from entgldb.storage.indexes import building
from entgldb.storage.rules.header import decode, digest, encode
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.rules.results import Lasted
from entgldb.storage.store import Store
from tests.kills.points import Trap
from tests.support.compacting import compacted
from tests.unit.actors.store.test_store_keeper import FakeSecrets

NODE: Final = "n1"
STEPS: Final = 400
"""After so many a life that nobody ended ends itself."""
KEYS: Final = 8

Say = Callable[[dict[str, Any]], None]


@dataclass
class Plan:
    """The parent's plan for one life."""

    directory: Path
    seed: int
    now_ms: int
    point: str
    times: int
    again: list[str] = field(default_factory=list)
    """Requests (encoded, hex) of former lives that had no answer: they are asked again first."""
    plain: bool = False
    """Only writes and well-behaved peers, so that conflicts can be compared as well."""
    forgets: bool = False
    """Plain, and the log is pruned, tombstones are collected, the file is compacted."""


class TrappedStore(Store):
    """The real store, killed right after a COMMIT where the trap says so."""

    trap: Trap

    @contextmanager
    def group(self, clock: Callable[[], float] | None = None) -> Iterator[Lasted]:
        with super().group(clock) as lasted:
            yield lasted
        self.trap.committed()


class Life:
    """The context of a StoreKeeper and the world around it."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.random = Random(plan.seed)
        self.asker: Asker | None = None
        self.plan, self.say = plan, say
        self._now_ms = plan.now_ms
        self._client, self._counter = self.random.randbytes(16), 0
        self._batches: dict[str, int] = {}
        self._stable: dict[str, int] = {}
        self._peers: dict[str, Store] = {}
        self._sent: dict[str, int] = {}

    def live(self) -> None:
        """Open the file, ask again what had no answer, and go on."""
        plan = self.plan
        # few documents take many steps then
        building.INDEX_STEP_ROWS = 5  # type: ignore[misc]  # a constant for all but this
        trap = TrappedStore.trap = Trap(plan.point, plan.times, self.say)
        connect = Store.open.__func__.__globals__["database"]._connect  # type: ignore[attr-defined]  # to trace the opening, too

        def traced(path: Path, mode: str, **how: Any) -> Any:
            connection = connect(path, mode, **how)
            connection.set_trace_callback(trap.statement)
            return connection

        Store.open.__func__.__globals__["database"]._connect = traced  # type: ignore[attr-defined]  # as above
        store = TrappedStore.open(plan.directory, NODE, self._now_ms)
        self.store = store
        self.say({"open": store.origin, "reborn": str(store.reborn or "")})
        settings = StoreSettings(NODE, str(plan.directory), "lan", "c", soft_floor=0, hard_floor=0)
        self.keeper = StoreKeeper(settings, store, FakeSecrets(), FreeSpace(plan.directory))
        self.keeper.start(self)
        for payload in plan.again:
            self._ask(codec.decode(bytes.fromhex(payload), Channel.CLIENT).message, payload)
        self.keeper.flush(self)
        works = [self._write, self._write, self._peer, self._peer, self._beat, self._hide]
        if plan.forgets:
            works += [self._prune, self._collect, self._compact]
        elif not plan.plain:
            works += [
                self._ahead,
                self._release,
                self._system,
                self._fork,
                self._unfit,
                self._admin,
                self._build,
                self._anew,
            ]
        for _ in range(STEPS):
            for _ in range(self.random.choice((1, 1, 2, 3))):
                self.random.choice(works)()
            self.keeper.flush(self)

    # --- Context ----------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return time.monotonic()

    def since_boot(self) -> float:
        return self.monotonic()

    def tell(self, actor: str, message: Message) -> None:
        if isinstance(message, Applied) and message.changes:
            self.say({"applied": {origin: seq for origin, (seq, _) in message.changes.items()}})

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        raise AssertionError("nothing is forwarded here")

    def after(self, seconds: float, message: Message) -> None:
        pass

    def spawn(self, name: str) -> None:
        raise AssertionError("a store starts nobody")

    def kill(self, name: str) -> None:
        raise AssertionError("a store ends nobody")

    def look(self, name: str) -> child.Life:
        raise AssertionError("a store looks after nobody")

    def busy(self, step: str) -> None:
        pass

    def log(self, level: int, text: str) -> None:
        self.say({"log": text})

    # --- what it meets ------------------------------------------------------------------------------

    def _write(self) -> None:
        count = self.random.choice((1, 1, 1, 2, 4))
        self._counter += 1
        writes = tuple(self._any_write() for _ in range(count))
        commit = client.Commit(client.RequestId(self._client, self._counter), writes)
        payload = codec.encode(commit).hex()
        self.say({"ask": payload})
        self._ask(commit, payload)

    def _any_write(self) -> client.Write:
        collection = self.random.choice(("users", "users", f"c{self.random.randrange(20)}"))
        key = f"k{self.random.randrange(KEYS)}"
        if self.random.random() < 0.2:
            return client.Write(collection, key, None)
        body = json.dumps({"uid": self.random.randbytes(8).hex()}).encode()
        life_ms = self.random.choice((1, 40, 5_000)) if self.random.random() < 0.2 else None
        return client.Write(collection, key, body, expire_after=life_ms)

    def _ask(self, message: Message, payload: str) -> None:
        self._hand(message, Promise(self.say, message, payload))

    def _hand(self, message: Message, asker: Asker | None = None) -> None:
        self.asker = asker
        self.keeper.handle(message, self)
        self.asker = None

    def _peer(self) -> None:
        """Another node, which knows some of what is here, writes concurrently."""
        peer = self._known("p")
        if self.random.random() < 0.5:
            self._catch_up(peer)
        self._made(peer, self._now_ms, [self._any_write() for _ in range(self.random.choice((1, 2, 3)))])
        self._deliver("p", self._fresh("p"))

    def _ahead(self) -> None:
        """Another one's clock runs ahead: what it writes is held, and released when time has passed."""
        peer = self._known("q")
        self._made(peer, self._now_ms + DRIFT_MS_MAX + 5_000, [self._any_write()])
        self._deliver("q", self._fresh("q"))

    def _release(self) -> None:
        self._now_ms += self.random.choice((100, 10_000, 61_000))
        self._hand(ReleaseHeld())
        held = sorted(self.store.held())
        if held and self.random.random() < 0.3:
            self._hand(client.ReleaseOrigin(held[0]), Nobody())

    def _system(self) -> None:
        """A system entry comes by a cloud, without its body; a LAN peer supplies it."""
        peer, key = self._known("s"), f"cloud-{self.random.randrange(4)}"
        body = json.dumps({"NodeId": key, "uid": self.random.randbytes(8).hex()}).encode()
        self._made(peer, self._now_ms, [client.Write(REMOTE_PEERS, key, body)], system=True)
        whole = self._fresh("s")
        self._deliver("s", [Entry(entry.header, None) for entry in whole], cloud=True)
        self._hand(Apply("sync", "sync:w", 0, 0, tuple(whole), cloud=False, supplied=True))

    def _fork(self) -> None:
        """A cloned node: two entries with one number."""
        name = f"f{self.random.randrange(1000)}"
        peer = self._known(name)
        self._made(peer, self._now_ms, [self._any_write_of("users")])
        (entry,) = self._fresh(name)
        other = Entry(encode(decode(entry.header)._replace(key="other")), entry.body)
        self._deliver(name, [entry])
        self._deliver(name, [other])

    def _unfit(self) -> None:
        """Deliver an entry whose body is no document; later it is let go."""
        name = f"u{self.random.randrange(1000)}"
        peer = self._known(name)
        write = self._any_write_of("users")
        self._made(peer, self._now_ms, [write])
        self._made(peer, self._now_ms, [client.Write(write.collection, write.key, None)])
        entry, after = self._fresh(name)
        bad = Entry(encode(decode(entry.header)._replace(body_sha256=digest(b"[]"))), b"[]")
        self._deliver(name, [bad])
        if self.random.random() < 0.5:
            self._hand(client.SettleUnfit(peer.origin, 1, retry=False), Nobody())
        else:
            header = decode(after.header)._replace(prev_hash=digest(bad.header))
            self._deliver(name, [Entry(encode(header), None)])

    def _admin(self) -> None:
        self._hand(RememberPeer(f"n{self.random.randrange(9)}", "127.0.0.1:1"))
        path, number = self.random.choice(("uid", "f")), self.random.randrange(6)
        if self.random.random() < 0.3:
            self._hand(client.DropIndex(client.RequestId(b"i" * 16, 0), "users", f"i{number}"), Nobody())
        else:
            kind: dict[str, Any] = {"text": number == 0, "unique": number == 1}
            where = b'{"uid":{"$gte":"8"}}' if number == 2 else None
            self._hand(client.CreateIndex("users", (path,), f"i{number}", where=where, **kind), Nobody())

    def _build(self) -> None:
        """The next step, as the behaviour's timer asks for it."""
        self._hand(BuildIndexes(self.keeper.building.number))

    def _anew(self) -> None:
        """Rarely: the file turns out to be a copy, and goes on under another name."""
        if self.random.random() < 0.1:
            self.keeper.flush(self)
            self.store.begin_anew(self.random.randbytes(32), Why.ROLLED_BACK, self._now_ms)

    def _prune(self) -> None:
        """Every member has all but the newest, and it is old enough."""
        self._stable = {origin: max(0, seq - 3) for origin, (seq, _) in self.store.vector().items()}
        self._now_ms += 10_000
        self._hand(Prune(self._stable, self._stable, 1 << 30, 5_000, 0))

    def _collect(self) -> None:
        self._hand(Collect(self._stable, 0))

    def _compact(self) -> None:
        if self.random.random() < 0.2:
            self.keeper.flush(self)
            compacted(self.store)

    def _hide(self) -> None:
        """Some documents have had their time."""
        self._now_ms += self.random.choice((1, 50, 6_000))
        self._hand(HideExpired())

    def _beat(self) -> None:
        self._now_ms += self.random.choice((0, 1, 50))
        if self.random.random() < 0.2:
            self._hand(Tick("checkpoint"))

    # --- other nodes --------------------------------------------------------------------------------

    def _any_write_of(self, collection: str) -> client.Write:
        return client.Write(
            collection, f"k{self.random.randrange(KEYS)}", b'{"uid":"%d"}' % self.random.getrandbits(60)
        )

    def _known(self, name: str) -> Store:
        if name not in self._peers:
            self._peers[name] = Store.memory(name, self.random.randbytes(32), self._now_ms)
        return self._peers[name]

    def _made(self, peer: Store, now_ms: int, writes: list[client.Write], *, system: bool = False) -> None:
        self._counter += 1
        with peer.group():
            peer.write(client.RequestId(self._client, self._counter), writes, now_ms, system=system)

    def _fresh(self, name: str) -> list[Entry]:
        """The peer's own entries that were not delivered yet."""
        peer = self._peers[name]
        rows = peer.rows(self._sent.get(name, 0) + 1, 500)
        self._sent[name] = peer.last_lsn()
        return [Entry(row.header, row.body) for row in rows if row.origin == peer.origin]

    def _catch_up(self, peer: Store) -> None:
        own = self.store.origin
        rows = self.store.rows(max(1, self.store.last_lsn() - 400), 500)
        with peer.group():
            peer.apply([Entry(row.header, row.body) for row in rows if row.origin == own], self._now_ms)

    def _deliver(self, name: str, entries: list[Entry], *, cloud: bool = False) -> None:
        number = self._batches.get(name, 0)
        self._batches[name] = number + 1
        self._hand(Apply("sync", f"sync:{name}", 0, number, tuple(entries), cloud))


class Nobody:
    """Does not care for the answer."""

    def answer(self, message: Message) -> None:
        pass


class Promise:
    """Tells the parent what a client has just been told."""

    def __init__(self, say: Say, message: Message, payload: str) -> None:
        self._say, self._message, self._payload = say, message, payload

    def answer(self, message: Message) -> None:
        assert isinstance(self._message, client.Commit)
        if not isinstance(message, client.CommitDone):
            self._say({"fault": f"{self._message} was answered by {message}"})
            return
        written = [
            [made.origin, made.seq, "" if write.body is None else sha256(write.body).hexdigest()]
            for made, write in zip(message.written, self._message.writes, strict=True)
            if made.seq
        ]
        self._say({"done": self._payload, "written": written})


def live(plan: Plan, pipe: int) -> None:
    """In the forked process: never returns."""
    import traceback

    def say(line: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(line).encode() + b"\n")

    try:
        Life(plan, say).live()
        os._exit(0)
    except BaseException:  # noqa: BLE001 -- whatever it is, the parent must hear of it
        say({"fault": traceback.format_exc(limit=-8)})
        os._exit(1)
