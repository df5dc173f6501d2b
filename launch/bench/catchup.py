"""W2 and W7: a node with everything, a node with nothing, and a link between them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from entgldb.launch.bench.cluster import PATIENCE_SECONDS, apart, cluster, fresh, log_of, wait_connected
from entgldb.launch.bench.link_floor import send_to_floor
from entgldb.launch.bench.sides import COLLECTION, document, key
from entgldb.launch.bench.works import Bench, Figure, Result, in_turns
from entgldb.launch.playground.cluster import Member, Playground, wait_for
from entgldb.messages.errors import EntglError
from entgldb.storage.rules.vector import missing
from entgldb.storage.snapshot.install import forget_log
from entgldb.storage.store import Store

FILLED_DOCUMENTS: Final = 100_000
SNAPSHOT_DOCUMENTS: Final = 200_000
EQUAL_DOCUMENTS: Final = 10_000
"""On both nodes that find out that they are equal."""


def catchup(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """W2: how fast an empty node fills, and in how many round trips equal nodes know that they are."""
    measure = {"catchup": _fill, "equal": _compare}
    for figure in figures:
        yield measure[figure.name](bench, root / figure.name, figure)


def snapshot(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """W7: the same, where nothing is left of the log."""
    for figure in figures:
        yield _fill(bench, root / figure.name, figure, bench.amount(SNAPSHOT_DOCUMENTS), pruned=True)


def _fill(bench: Bench, root: Path, figure: Figure, amount: int = 0, *, pruned: bool = False) -> Result:
    amount = amount or bench.amount(FILLED_DOCUMENTS)
    documents = [(key(number), document(number)) for number in range(amount)]
    root.mkdir()
    with Playground(root) as playground:
        playground.make_lan(1 + 2 * bench.rounds)
        full, *empty = playground.lan
        playground.start([full])
        full.db[COLLECTION].put_many(documents)
        if pruned:
            playground.stop([full])
            prune(full)
            playground.start([full])
        waiting = iter(empty)

        def ours() -> float:
            return _catch_up(playground, full, next(waiting), len(documents))

        return in_turns(
            figure, bench.turns(figure.full_name), ours, lambda: send_to_floor(fresh(root), documents)
        )


def prune(full: Member) -> None:
    """Do the work of a day's retention, once every member has everything."""
    store = Store.open(full.directory, full.node_id, time.time_ns() // 1_000_000)
    with store.group():
        for origin, known in store.state.origins.items():
            forget_log(store.connection, store.state, known.number, 0, known.head.seq)
            store.state.raise_floor(origin, known.head.seq, known.head.hlc)
        store.state.pruned_lsn = store.state.lsn
    store.close()


def _catch_up(playground: Playground, full: Member, empty: Member, documents: int) -> float:
    """Documents a second, from the moment that links are allowed to the last commit of the empty node."""
    with apart([full]) as together:
        playground.start([empty])
        with log_of(full) as here, log_of(empty) as there:
            wanted = here.vector()
            if there.vector():
                raise EntglError(f"{empty.node_id} was not empty")
            begun = time.perf_counter()
            together()
            wait_for("all documents", lambda: not missing(wanted, there.vector()), PATIENCE_SECONDS)
            seconds = time.perf_counter() - begun
    if empty.db[COLLECTION].count() != documents:
        raise EntglError(f"{empty.node_id} has all entries, but not all documents")
    playground.stop([empty])
    return documents / seconds


def _compare(bench: Bench, root: Path, figure: Figure) -> Result:
    with cluster(root, 2) as members:
        one, _ = members
        one.db[COLLECTION].put_many(
            (key(number), document(number)) for number in range(bench.amount(EQUAL_DOCUMENTS))
        )
        wait_connected(members)
        return in_turns(figure, bench.turns(figure.full_name), lambda: _round_trips(members))


def _round_trips(members: Sequence[Member]) -> float:
    """From both greetings to when both nodes know that they are equal, of the node that heard more for it."""
    with apart(members) as together:
        together()
        wait_connected(members)
    rows = [peer for member in members for peer in member.db.status("sync")["peers"]]
    return float(max(row["frames_until_synced"] for row in rows))
