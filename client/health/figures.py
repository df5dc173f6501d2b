"""The few figures of a node that one screen shows, made of two reports some seconds apart. Pure."""

from __future__ import annotations

import textwrap
from typing import Any, Final, NamedTuple

from entgldb.client.health.complaints import complaints

WIDTH_MIN: Final = 8
"""Characters of a line into which a complaint is wrapped, however narrow the terminal is."""


class Sample(NamedTuple):
    """A report of ``node``, and when it came."""

    body: dict[str, Any]
    at: float
    """Seconds of a clock that never goes back."""
    memory: dict[str, int]
    """Actor -> bytes of memory that are its own; none of one that is gone."""


def figures(before: Sample | None, now: Sample) -> dict[str, Any]:
    """All that one screen shows. Rates are None at the first look, and where an actor began anew between."""
    body, store = now.body, now.body.get("store") or {}
    sync, election = body.get("sync") or {}, body.get("election") or {}
    gateway = body.get("gateway") or {}
    commits = _since(before, now, "commit_seconds")
    fsync, size = _since(before, now, "fsync_seconds"), _since(before, now, "commit_requests")
    return {
        "node_id": body.get("node_id"),
        "role": body.get("role"),
        "gateway": election.get("gateway"),
        "is_gateway": election.get("is_gateway"),
        "epoch": election.get("epoch"),
        "writes_per_s": _rate(before, now, "written"),
        "commits_per_s": None if commits is None else commits.per_second,
        "commit_ms": None if commits is None else commits.mean_ms,
        "fsync_ms": None if fsync is None else fsync.mean_ms,
        "requests_per_commit": None if size is None else size.mean,
        **{name: store.get(name) for name in ("documents", "conflicts", "held", "unfit", "wal_bytes")},
        "disk_free_bytes": (store.get("disk") or {}).get("free_bytes"),
        "clock": (store.get("clock") or {}).get("state"),
        "links": [_link(row, "lan") for row in sync.get("peers") or []]
        + [_link(row, "cloud") for row in gateway.get("links") or []],
        "alarms": [{"code": one["code"], "text": one["text"]} for one in body.get("alarms") or []],
        "complaints": complaints(body),
        "memory_bytes": now.memory,
        "restarts": sum((body.get("restarts") or {}).values()),
    }


def lines(found: dict[str, Any], width: int) -> list[str]:
    """The screen, each line at most ``width`` characters; a complaint goes on in the next: its end says what
    to do."""
    mine = ", this node" if found["is_gateway"] else ""
    lead = f"gateway {found['gateway'] or 'nobody'} (epoch {found['epoch']}{mine})"
    told = [
        f"{found['node_id']} ({found['role']})  {lead if found['role'] == 'lan' else ''}".rstrip(),
        f"writes {_number(found['writes_per_s'])}/s  commits {_number(found['commits_per_s'])}/s  "
        f"of {_number(found['requests_per_commit'])} requests",
        f"commit {_number(found['commit_ms'])} ms  fsync {_number(found['fsync_ms'])} ms  "
        f"WAL {_bytes(found['wal_bytes'])}  free {_bytes(found['disk_free_bytes'])}",
        f"documents {_count(found['documents'])}  conflicts {_count(found['conflicts'])}  "
        f"held {_count(found['held'])}  unfit {_count(found['unfit'])}  clock {found['clock'] or '?'}",
        "memory "
        + "  ".join(f"{name} {_bytes(size)}" for name, size in found["memory_bytes"].items())
        + f"  restarts {found['restarts']}",
        "",
        *(_link_line(row) for row in found["links"]),
        *([] if found["links"] else ["no links"]),
        "",
        *(line for one in found["complaints"] for line in _wrapped(f"! {one}", width)),
        *([] if found["complaints"] else ["nothing needs attention"]),
    ]
    return [line if len(line) <= width else line[: max(0, width - 1)] + "…" for line in told]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, WIDTH_MIN), subsequent_indent="  ")


class _Histogram(NamedTuple):
    per_second: float
    mean: float | None
    mean_ms: float | None


def _since(before: Sample | None, now: Sample, name: str) -> _Histogram | None:
    """A histogram of the store, of the time between the two."""
    seconds = _seconds(before, now)
    old, new = _held(before, name), _held(now, name)
    if not seconds or old is None or new is None:
        return None
    number, total = sum(new["counts"]) - sum(old["counts"]), new["sum"] - old["sum"]
    if number < 0:
        return None  # the store has begun anew
    mean = total / number if number else None
    return _Histogram(number / seconds, mean, None if mean is None else mean * 1000)


def _rate(before: Sample | None, now: Sample, name: str) -> float | None:
    seconds = _seconds(before, now)
    old, new = _held(before, name), _held(now, name)
    return None if not seconds or old is None or new is None or new < old else (new - old) / seconds


def _held(sample: Sample | None, name: str) -> Any:
    return None if sample is None else (sample.body.get("store") or {}).get(name)


def _seconds(before: Sample | None, now: Sample) -> float:
    return 0.0 if before is None else now.at - before.at


def _link(row: dict[str, Any], kind: str) -> dict[str, Any]:
    names = ("node_id", "state", "reason", "behind_in", "behind_out", "seconds_in", "seconds_out")
    return {"kind": kind, **{name: row.get(name) for name in names}}


def _link_line(row: dict[str, Any]) -> str:
    ways = "  ".join(
        f"{way} {_count(row[f'behind_{way}'])}"
        + (f" ({row[f'seconds_{way}']:.1f} s)" if row[f"behind_{way}"] and row[f"seconds_{way}"] else "")
        for way in ("in", "out")
    )
    why = f" ({row['reason']})" if row["reason"] else ""
    return f"{row['kind']:<5} {row['node_id']} {row['state']}{why}  behind {ways}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "?"
    size, unit = float(value), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
