"""``entgldb why``: is a document here, where did it come from, who has it, and why has somebody not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import NOT_FOUND, common, database, leave, plain, say, show
from entgldb.messages.errors import EntglError, NotFoundError

if TYPE_CHECKING:
    from entgldb.storage.documents.tracing import Trace, Tracer
    from entgldb.storage.rules.why import KeyState, Other, Ourselves


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@click.option("--on", default="", metavar="N", help="Tell of this node only.")
def why(directory: Path, as_json: bool, collection: str, key: str, on: str) -> None:
    """Tell whether a document is here and on the other nodes, where it came from, and why it is missing.

    Works without a running node, too, as far as its file knows. The reasons: peer-offline, not-yet-sent,
    held-clock, quarantined, overwritten, deleted, expired, filtered, auth, disk-full, behind-snapshot,
    unknown.
    Exits with 3 when no node that is known has it.

    \b
    Example:
      entgldb why users u1
      entgldb why users u1 --on lan-3
    """
    from entgldb.storage.documents.tracing import Tracer

    tracer = Tracer.open(directory)
    try:
        known, traces = tracer.trace(collection, key)
        rows = _rows(tracer, known, _live(directory))
        me = tracer.origin.partition("/")[0]
    finally:
        tracer.close()
    if on:
        rows = [row for row in rows if row["node_id"] == on]
        if not rows:
            raise NotFoundError(f"no node {on:.80} is known here", hint="entgldb nodes")
    versions = [_version(one, known) for one in traces]
    if as_json:
        show({"collection": collection, "key": key, "node_id": me, "nodes": rows, "versions": versions})
    else:
        _tell(collection, key, rows, versions)
    if not any(row["has"] for row in rows):
        leave(NOT_FOUND)


def _live(directory: Path) -> dict[str, Any]:
    """The status of the running node; empty where none runs or answers."""
    try:
        with database(directory) as db:
            return dict(db.status("node"))
    except EntglError:
        return {}


def _rows(tracer: Tracer, known: KeyState, live: dict[str, Any]) -> list[dict[str, Any]]:
    """This node first, then all others that are known."""
    from entgldb.storage.rules import why as rules

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
    from entgldb.storage.rules.why import Other

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
    from entgldb.storage.rules.why import Ourselves

    disk = (live.get("store") or {}).get("disk") or {}
    rows = ((live.get("sync") or {}).get("peers") or []) + ((live.get("gateway") or {}).get("links") or [])
    return Ourselves(
        disk_full=disk.get("state") == "full",
        behind_in=sum(row.get("behind_in") or 0 for row in rows),
        absent=tuple(other for other in others if not other.linked),
    )


def _version(one: Trace, known: KeyState) -> dict[str, Any]:
    from entgldb.storage.rules.why import of_version

    reason = of_version(one.version, known, delete=one.delete)
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


def _tell(collection: str, key: str, rows: list[dict[str, Any]], versions: list[dict[str, Any]]) -> None:
    for row in rows:
        place = f"{row['node_id']}{' (this node)' if row['here'] else ''}"
        say(f"{place:<24} {'has it' if row['has'] else 'has it not: ' + row['reason']}")
    if not versions:
        say(f"no version of {collection} {plain(key)} is known here")
    for one in versions:
        came = "" if one["came_from"] is None else f", came from {one['came_from']} {_time(one['came_ms'])}"
        state = "shown" if one["shown"] else one["reason"]
        say(f"  {one['op']} {one['origin']} {one['seq']}, written {_time(one['written_ms'])}{came}: {state}")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
