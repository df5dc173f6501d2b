"""Rows that change behind the store's back, and the verification that finds them."""

from __future__ import annotations

from hashlib import sha256

from entgldb.launch.testing.world import World
from entgldb.messages.client import Verify
from entgldb.messages.errors import Reason
from tests.simulation.watch.oracle import read_state
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import DAY_HOURS

DAMAGED_SEEDS, SOUND_SEEDS = 2, 3
"""Remainders modulo EVERY: seeds whose rows are damaged, and seeds that verify for nothing."""
EVERY = 5
INTERVAL_SECONDS = 3.0
"""Between comparisons in those seeds, all through their troubles."""
OTHER = '{"damaged":true}'
PATIENCE_SECONDS = 60.0
"""Beyond the time that the rows themselves take on their lines."""
SHOWN_TIMES = 4
"""Both sides show a row that differs, and may look again before the mended one counts."""


def interval_of(seed: int) -> float:
    """How often the nodes of a seed verify by themselves; 0: never."""
    return INTERVAL_SECONDS if seed % EVERY in (DAMAGED_SEEDS, SOUND_SEEDS) else 0.0


def at_rest(world: World, nodes: list[SimulatedNode], bandwidth: float) -> None:
    """All is calm: in some seeds rows are damaged and mended, in some nothing may seem to be wrong.

    ``bandwidth``: bytes a second of each way of a link.
    """
    missing = _may_be_missing(world, nodes)
    if not interval_of(world.seed) and not missing:
        return
    false = sum(_counted(node, Reason.REPAIRED) + _counted(node, Reason.UNDECIDED) for node in nodes)
    if false and not missing:
        world.violate(f"verification found {false} differences where there were none")
    size = damage(world, nodes) if world.seed % EVERY == DAMAGED_SEEDS else 0
    for node in nodes:
        node.deliver("oplog", Verify(repair=True))
    written = 0

    def agree() -> bool:
        nonlocal written
        before, written = written, sum(node.store.connection.total_changes for node in nodes)
        # they agree, or do not, as they did before, until somebody writes
        return written != before and _agree(nodes)

    world.run(PATIENCE_SECONDS + SHOWN_TIMES * size / bandwidth, agree)
    for node in nodes:
        node.followers[0].spoilt.clear()
        node.followers[0].look(node.store)
    mended = sum(_counted(node, Reason.REPAIRED) for node in nodes)
    world.reached["row mended"] += mended
    if world.seed % EVERY == SOUND_SEEDS and mended and not missing:
        world.violate(f"verification mended {mended} rows that were sound")


def _may_be_missing(world: World, nodes: list[SimulatedNode]) -> bool:
    """Whether a document is missing that stood below one of a node that is out, and whose entry was pruned: a
    member that never had the other brings it."""
    return bool(world.faults["expel"]) and nodes[0].retention_hours < DAY_HOURS


def damage(world: World, nodes: list[SimulatedNode]) -> int:
    """On one LAN node some rows change or go, never on two nodes the same; how many bytes they had."""
    node = world.random.choice([one for one in nodes if one.role == "lan"])
    rows = node.store.connection.execute(
        "SELECT id, body, collection, key FROM _entgldb_documents"
        " WHERE substr(collection, 1, 8) != '_system_' ORDER BY id"
    ).fetchall()
    # a row whose entry is pruned is known by its digest alone, and a tombstone that all others have collected
    # is known by nobody: no rule can tell such a row from a sound one when it is whole in itself
    pruned = node.retention_hours < DAY_HOURS
    rows = [row for row in rows if row[1] is not None or not pruned]
    chosen = world.random.sample(rows, min(len(rows), world.random.randint(1, 8)))
    for number, body, collection, key in chosen:
        ways = [_change] + ([_lose] if body is not None else []) + ([] if pruned else [_age])
        world.random.choice(ways)(node, number)
        node.followers[0].spoilt.add((collection, key))
        world.fault("damage", node.name)
    return sum(len(body or "") for _, body, _, _ in chosen)


def _change(node: SimulatedNode, number: int) -> None:
    """Another body under the old digest; a tombstone that seems to live."""
    node.store.connection.execute("UPDATE _entgldb_documents SET body = ? WHERE id = ?", (OTHER, number))


def _age(node: SimulatedNode, number: int) -> None:
    """Whole in itself, with the digest of another body and an older clock."""
    node.store.connection.execute(
        "UPDATE _entgldb_documents SET hlc = hlc - 1, body = ?, sha256 = ? WHERE id = ?",
        (OTHER, sha256(OTHER.encode()).digest(), number),
    )


def _lose(node: SimulatedNode, number: int) -> None:
    node.store.connection.execute("DELETE FROM _entgldb_documents WHERE id = ?", (number,))


def _counted(node: SimulatedNode, reason: Reason) -> int:
    return node.all_counts()[reason.value]


def _agree(nodes: list[SimulatedNode]) -> bool:
    """Whether all show the same users' documents, and the LAN the same configuration."""
    shown = [(node.role, read_state(node.store.connection).documents) for node in nodes]
    users = [{place: it for place, it in all_.items() if not _is_system(place)} for _, all_ in shown]
    system = [
        {place: it for place, it in all_.items() if _is_system(place)}
        for role, all_ in shown
        if role == "lan"
    ]
    return all(one == each[0] for each in (users, system) for one in each)


def _is_system(place: tuple[str, str]) -> bool:
    return place[0].startswith("_system_")
