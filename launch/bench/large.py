"""W9: all that nodes with very many documents do, step by step, with what it needs of memory and patience.

While a step runs, a client of each node puts one document after another, and the memory of each node is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from entgldb.client.database import connect
from entgldb.launch.bench.catchup import prune
from entgldb.launch.bench.cluster import log_of
from entgldb.launch.bench.sides import COLLECTION, NodeSide
from entgldb.launch.bench.works import Bench
from entgldb.launch.playground.cluster import Member, Playground, wait_for
from entgldb.launch.playground.processes import pss_bytes
from entgldb.messages.administration import Compact
from entgldb.messages.client import Isolate, Verify
from entgldb.messages.errors import EntglError
from entgldb.storage.rules.vector import missing

WORK: Final = "W9"
STEPS: Final = ("put", "index", "open", "find", "catchup", "verify", "snapshot", "compact")
QUERIES: Final = 500
PSS_MB_MAX: Final = 150.0
"""Memory that the processes of a node may have together, whatever they do."""
WAIT_SECONDS_MAX: Final = 1.0
"""How long a write may have to wait for a step."""
ALONE: Final = frozenset({"verify"})
"""Steps without other clients: a comparison of very many documents begins anew with each write meanwhile."""
DOCUMENTS_PER_SECOND_MIN: Final = 500
"""A step that is slower than that is given up."""
LINK_SECONDS: Final = 60.0
"""A node may take so long to start and to be linked."""
ASIDE: Final = "aside"
"""The collection that the clients at the side write to."""
ASIDE_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.5


class Step(NamedTuple):
    """One thing that was done, of the node that needed most."""

    name: str
    seconds: float
    rate: float
    """Documents a second; for ``find`` queries a second."""
    pss_mb: float
    wait_s: float
    """The longest that a write of another client waited for its commit."""

    @property
    def full_name(self) -> str:
        return f"{WORK}.{self.name}"

    @property
    def reached(self) -> bool:
        return self.pss_mb <= PSS_MB_MAX and self.wait_s <= WAIT_SECONDS_MAX

    def fields(self) -> dict[str, Any]:
        """One element of ``steps``."""
        return {name: value if name == "name" else round(value, 3) for name, value in self._asdict().items()}

    def headings(self) -> str:
        """Stand above lines of steps."""
        return f"{'step':<13} {'seconds':>10} {'documents/s':>12} {'PSS MB':>8} {'longest wait s':>14}"

    def line(self) -> str:
        """For a person."""
        verdict = "reached" if self.reached else "missed"
        start = f"{self.full_name:<13} {self.seconds:>10,.1f} {self.rate:>12,.0f}"
        return f"{start} {self.pss_mb:>8.1f} {self.wait_s:>14.3f}  {verdict}"


def large(bench: Bench, root: Path, documents: int) -> Iterator[Step]:
    """Do each step with nodes of so many documents."""
    with Playground(root) as playground:
        playground.make_lan(3)
        cluster = _Large(bench, playground, documents)
        yield from cluster.alone()
        yield from cluster.together()
        yield from cluster.from_a_snapshot()
        yield cluster.taken("compact", [cluster.full], cluster.compact)


class _Large:
    """Three nodes: one that has everything, one that gets it from the log, one that gets a snapshot."""

    def __init__(self, bench: Bench, playground: Playground, documents: int) -> None:
        self._bench, self._playground, self._documents = bench, playground, documents
        self.full, self._second, self._third = playground.lan
        self._side = NodeSide(self.full.db)
        self._patience = LINK_SECONDS + documents / DOCUMENTS_PER_SECOND_MIN

    def alone(self) -> Iterator[Step]:
        """Write them, index them, start again, find them."""
        self._playground.start([self.full], LINK_SECONDS)
        self.full.db.timeout = self._patience
        yield self.taken("put", [self.full], lambda: self._side.write(self._documents))
        yield self.taken("index", [self.full], self._side.index)
        self._playground.stop([self.full])
        yield self.taken("open", [], lambda: self._playground.start([self.full], LINK_SECONDS))
        queries = self._bench.amount(QUERIES)
        yield self.taken("find", [self.full], lambda: self._side.queries(queries), queries)

    def together(self) -> Iterator[Step]:
        """An empty node catches up by the log; both compare."""
        yield self._joined("catchup", self._second)
        yield self.taken("verify", [self.full, self._second], self._verify)
        self._playground.stop([self.full, self._second])

    def from_a_snapshot(self) -> Iterator[Step]:
        """An empty node takes a snapshot, since nothing is left of the log."""
        prune(self.full)
        self._playground.start([self.full], LINK_SECONDS)
        yield self._joined("snapshot", self._third)
        self._playground.stop([self._third])

    def compact(self) -> None:
        """Give back the free pages that the log has left."""
        self.full.db.ask("oplog", Compact(), timeout=self._patience)

    def taken(
        self, name: str, members: Sequence[Member], work: Callable[[], object], amount: int = 0
    ) -> Step:
        """Do one step, with an eye on ``members``."""
        self._bench.tell(f"\r{WORK}.{name} ...")
        begun = time.perf_counter()
        with _Watch(members, self._patience, writing=name not in ALONE) as watch:
            work()
        seconds = time.perf_counter() - begun
        pss = watch.pss_bytes or pss_bytes(self.full.pids())
        return Step(name, seconds, (amount or self._documents) / seconds, pss / 1e6, watch.wait)

    def _joined(self, name: str, empty: Member) -> Step:
        self.full.db.ask("sync", Isolate(self._patience))
        self._playground.start([empty], LINK_SECONDS)
        step = self.taken(name, [self.full, empty], lambda: self._join(empty))
        if empty.db[COLLECTION].count() != self._documents:
            raise EntglError(f"{empty.node_id} has all entries, but not all documents")
        return step

    def _join(self, empty: Member) -> None:
        with log_of(self.full) as here, log_of(empty) as there:
            wanted = here.vector()
            self.full.db.ask("sync", Isolate(0.0))
            wait_for("all documents", lambda: not missing(wanted, there.vector()), self._patience)

    def _verify(self) -> None:
        wait_for("a link", lambda: self.full.db.status("sync")["peers"], LINK_SECONDS)
        self.full.db.ask("oplog", Verify(self._second.node_id, False))

        def found() -> str:
            (row,) = self.full.db.status("oplog")["verify"]["peers"]
            return "" if row["running"] else str(row["result"])

        result = wait_for("the end of the comparison", found, self._patience)
        if result != "equal":
            raise EntglError(f"{self._second.node_id} compared: {result}")


class _Watch:
    """While it is entered: the longest wait of a write, and the most memory, of several nodes."""

    def __init__(self, members: Sequence[Member], patience: float, *, writing: bool = True) -> None:
        self.wait, self.pss_bytes = 0.0, 0
        self._members, self._patience = members, patience
        self._over = threading.Event()
        writers = members if writing else []
        self._threads = [threading.Thread(target=self._write, args=[member]) for member in writers]
        self._threads.append(threading.Thread(target=self._weigh))

    def __enter__(self) -> _Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, member: Member) -> None:
        with connect(member.directory, timeout=self._patience) as database:
            over = False
            while not over:
                begun = time.perf_counter()
                database[ASIDE].put(member.node_id, {})
                self.wait = max(self.wait, time.perf_counter() - begun)
                over = self._over.wait(ASIDE_SECONDS)

    def _weigh(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            weights = [pss_bytes(member.pids()) for member in self._members]
            self.pss_bytes = max([self.pss_bytes, *weights])
