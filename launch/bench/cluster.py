"""W3, W4 and W5: the work of several connected nodes, seen from outside them."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from entgldb.client.writes import PART_DOCUMENTS
from entgldb.launch.bench.link_floor import converge_on_floor, notice_on_floor
from entgldb.launch.bench.sides import COLLECTION, document
from entgldb.launch.bench.works import Bench, Figure, Result, in_turns, percentile, taken_in_turns
from entgldb.launch.playground.cluster import Member, Playground, wait_for
from entgldb.launch.playground.processes import cpu_seconds, pss_bytes
from entgldb.messages.client import Isolate
from entgldb.messages.errors import EntglError
from entgldb.storage.log.read import LogReader

NODES: Final = 3
PROBES: Final = 300
PROBE_INTERVAL: Final = 0.02
"""Seconds between two writes, so that no one waits for another."""
SHARED_KEYS: Final = 1_000
WRITES: Final = 5_000
"""The writes of each node while it is apart."""
IDLE_SECONDS: Final = 20.0
QUIET_SECONDS: Final = 4.0
"""From the last thing that happened to when a node counts as idle; elections are over by then."""
PATIENCE_SECONDS: Final = 60.0
APART_SECONDS: Final = 600.0
"""Longer than anybody is kept apart; the isolation is ended by hand."""
END: Final = "end"


@contextmanager
def cluster(root: Path, count: int) -> Iterator[list[Member]]:
    """So many LAN nodes, each connected to all the others."""
    with Playground(root) as playground:
        playground.make_lan(count)
        playground.start()
        wait_connected(playground.lan)
        yield playground.lan


def wait_connected(members: Sequence[Member]) -> None:
    """Return when every node has a session with each of the others, and has all they had."""

    def all_in_sync() -> bool:
        rows = [member.db.status("sync")["peers"] for member in members]
        return all(
            len(peers) == len(members) - 1
            and all(peer["state"] == "connected" and peer["behind_in"] == 0 for peer in peers)
            for peers in rows
        )

    wait_for("links between all nodes", all_in_sync, PATIENCE_SECONDS)


@contextmanager
def apart(members: Sequence[Member]) -> Iterator[Callable[[], None]]:
    """The nodes without links until what is given is called, at the latest when the block ends."""

    def together() -> None:
        for member in members:
            member.db.ask("sync", Isolate(0.0))

    for member in members:
        member.db.ask("sync", Isolate(APART_SECONDS))
    try:
        yield together
    finally:
        together()


def visibility(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """W3: from calling put on one node to the change feed of another."""
    shares = {"p50": 0.5, "p99": 0.99}
    with cluster(root, NODES) as (writer, reader, _):
        time.sleep(QUIET_SECONDS)
        probes = bench.amount(PROBES)
        ways, floors = taken_in_turns(
            bench.turns("W3"),
            lambda: _way(writer, reader, probes),
            lambda: notice_on_floor(fresh(root), probes, PROBE_INTERVAL),
        )
    for figure in figures:
        ours, floor = (
            statistics.median(percentile(way, shares[figure.name]) for way in side) for side in (ways, floors)
        )
        yield Result(figure, ours, floor)


def _way(writer: Member, reader: Member, probes: int) -> list[float]:
    """Milliseconds of each write from put on one node to the feed of another."""
    seen: dict[str, float] = {}
    begun: dict[str, float] = {}
    ready = threading.Event()

    def follow() -> None:
        for change in reader.db.changes(reader.db.documents.token(), collection=COLLECTION, follow=True):
            seen[change.key] = time.perf_counter()
            ready.set()
            if change.key == END:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    collection = writer.db[COLLECTION]
    wait_for("the first change", lambda: collection.put("first", {}) and ready.wait(1.0), PATIENCE_SECONDS)
    for number in range(probes):
        begun[f"probe{number}"] = time.perf_counter()
        collection.put(f"probe{number}", document(number))
        time.sleep(PROBE_INTERVAL)
    collection.put(END, {})
    follower.join(PATIENCE_SECONDS)
    if follower.is_alive() or not begun.keys() <= seen.keys():
        raise EntglError(f"{reader.node_id} did not show every write of {writer.node_id}")
    return [(seen[name] - at) * 1000 for name, at in begun.items()]


def convergence(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """W4: two nodes that wrote the same keys while apart; from the first link allowed to equal documents."""
    writes = bench.amount(WRITES)
    with cluster(root, 2) as members:
        for figure in figures:
            yield in_turns(
                figure,
                bench.turns(figure.full_name),
                lambda: _converge(members, writes),
                lambda: converge_on_floor(fresh(root), writes),
            )


def _converge(members: Sequence[Member], writes: int) -> float:
    with ExitStack() as stack, apart(members) as together:
        logs = [stack.enter_context(log_of(member)) for member in members]
        before = logs[0].vector()
        for member in members:
            _write_shared(member, writes)
        if any(log.vector() == before for log in logs) or logs[0].vector() == logs[1].vector():
            raise EntglError("the nodes were not apart")
        begun = time.perf_counter()
        together()
        wait_for("equal nodes", lambda: logs[0].vector() == logs[1].vector(), PATIENCE_SECONDS)
        seconds = time.perf_counter() - begun
    wait_connected(members)
    one, other = (dict(member.db.documents.find(COLLECTION)) for member in members)
    if one != other:
        raise EntglError("documents differ although all entries are on both nodes")
    return seconds


def _write_shared(member: Member, writes: int) -> None:
    numbers = iter(range(writes))
    while part := list(islice(numbers, PART_DOCUMENTS)):
        member.db[COLLECTION].put_many(
            (f"shared{number % SHARED_KEYS}", {"by": member.node_id, **document(number)}) for number in part
        )


def idle(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """W5: processor time (percent of one core) and memory (PSS) of the node that uses most."""
    seconds = max(1.0, IDLE_SECONDS * bench.scale)
    rounds = []
    with cluster(root, NODES) as members:
        for member in members:
            member.db.let_go()
        time.sleep(QUIET_SECONDS)
        pids = [member.pids() for member in members]
        for _ in bench.turns("W5"):
            before, begun = [cpu_seconds(of_node) for of_node in pids], time.perf_counter()
            time.sleep(seconds)
            took = time.perf_counter() - begun
            used = [cpu_seconds(of_node) - at for of_node, at in zip(pids, before, strict=True)]
            memory = max(pss_bytes(of_node) for of_node in pids) / 1e6
            rounds.append({"cpu": 100 * max(used) / took, "pss": memory})
    for figure in figures:
        yield Result(figure, statistics.median(taken[figure.name] for taken in rounds))


def fresh(root: Path) -> Path:
    """A new folder for one turn of a floor, on the disk of the nodes."""
    return Path(tempfile.mkdtemp(prefix="floor-", dir=root))


@contextmanager
def log_of(member: Member) -> Iterator[LogReader]:
    log = LogReader.open(member.directory)
    try:
        yield log
    finally:
        log.close()
