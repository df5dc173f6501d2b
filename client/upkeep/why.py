"""Is a document here, where did it come from, who has it, and why has somebody not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entgldb.storage.documents.tracing import Trace, Tracer
from entgldb.storage.rules import why as rules
from entgldb.storage.rules.why import KeyState, Other, Ourselves


def trace(directory: Path, collection: str, key: str, live: dict[str, Any]) -> dict[str, Any]:
    """The trace of one key in the file of a node: ``node_id``, ``nodes`` (this one first) and ``versions``.

    ``live`` is the status of the node that runs there; empty where none does. Raises InvalidError for a
    name or key that cannot be one.
    """
    tracer = Tracer.open(directory)
    try:
        known, traces = tracer.trace(collection, key)
        rows = _rows(tracer, known, live)
        me = tracer.origin.partition("/")[0]
    finally:
        tracer.close()
    versions = [_version(one, known) for one in traces]
    return {"collection": collection, "key": key, "node_id": me, "nodes": rows, "versions": versions}


def _rows(tracer: Tracer, known: KeyState, live: dict[str, Any]) -> list[dict[str, Any]]:
    """This node first, then all others that are known."""
    me = tracer.origin.partition("/")[0]
    others = _others(tracer, me, live)
    reason = rules.here(known, _ourselves(live, others))
    rows = [_row(me, reason, here=True)]
    return rows + [_row(other.node_id, rules.there(known, other), here=False) for other in others]


def _row(node_id: str, reason: Any, *, here: bool) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "here": here,
        "has": reason is None,
        "reason": None if reason is None else reason.value,
    }


def _others(tracer: Tracer, me: str, live: dict[str, Any]) -> list[Other]:
    vectors = {name.partition("/")[0]: heard.row.vector for name, heard in tracer.members().items()}
    sync, gateway = live.get("sync") or {}, live.get("gateway") or {}
    for row in sync.get("members") or []:
        vectors[row["name"].partition("/")[0]] = row["vector"]
    links = {row["node_id"]: row for row in (sync.get("peers") or [])}
    clouds = {row["node_id"]: row for row in (gateway.get("links") or [])}
    floors = tracer.floors()
    found = []
    for name in sorted((vectors.keys() | links.keys() | clouds.keys() | set(tracer.nodes())) - {me}):
        row, vector = links.get(name) or clouds.get(name) or {}, vectors.get(name)
        behind = vector is not None and any(vector.get(o, 0) < floor for o, floor in floors.items())
        found.append(
            Other(
                name,
                vector,
                row.get("state") == "connected",
                str(row.get("reason") or ""),
                name in clouds,
                behind_floor=behind or bool(row.get("behind_snapshot")),
            )
        )
    return found


def _ourselves(live: dict[str, Any], others: list[Other]) -> Ourselves:
    disk = (live.get("store") or {}).get("disk") or {}
    rows = ((live.get("sync") or {}).get("peers") or []) + ((live.get("gateway") or {}).get("links") or [])
    return Ourselves(
        disk_full=disk.get("state") == "full",
        behind_in=sum(row.get("behind_in") or 0 for row in rows),
        absent=tuple(other for other in others if not other.linked),
    )


def _version(one: Trace, known: KeyState) -> dict[str, Any]:
    reason = rules.of_version(one.version, known, delete=one.delete)
    return {
        "origin": one.version.origin,
        "seq": one.version.seq,
        "op": "delete" if one.delete else "put",
        "written_ms": one.written_ms,
        "came_from": None if one.arrival is None else one.arrival.peer,
        "came_ms": None if one.arrival is None else one.arrival.at_ms,
        "shown": reason is None,
        "reason": None if reason is None else reason.value,
    }
