"""Findings made of the report of a node that runs (``Status`` to ``node``). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from entgldb.client.health.finding import NODE, Finding, Look, of_cloud_link
from entgldb.messages.errors import Reason, by_a_code, of_expelled
from entgldb.messages.limits import DRIFT_MS_MAX

ACTORS: Final = ("store", "oplog", "sync", "election", "gateway")
APART_MS: Final = 5_000
"""A clock so far from a peer's is worth a line long before it matters."""
OLD_MS: Final = 24 * 3600 * 1000
"""A comparison with a peer that is older is worth a line."""
BY_REASON: Final = {
    Reason.TLS_REFUSED.value: "cluster-key",
    Reason.WRONG_CLUSTER.value: "cluster-key",
    Reason.CLOCK.value: "certificate-time",
    Reason.RETIRED.value: "retired",
    Reason.WRONG_NODE.value: "wrong-node",
    Reason.DUPLICATE_NODE.value: "same-name",
}
"""The findings of addresses that answer, and refuse."""
ANSWERED: Final = frozenset({Reason.DUPLICATE_LINK.value, Reason.STOPPING.value, Reason.ENDED.value})
"""Ends of links that are in order."""
REFUSALS: Final = frozenset(
    reason.value
    for reason in Reason
    if reason.value in {*BY_REASON, "unreachable", "handshake-timeout", "too-many-links", "heartbeat-lost"}
)


_OF_TOPICS: Final = frozenset({"wal-large", "fork", "duplicate-node", "paused"})
"""Alarms that a topic has a finding for."""


def whole(body: dict[str, Any]) -> Look:
    """The actors, and alarms of no topic."""
    down = [name for name in ACTORS if body.get(name) is None]
    found = [Finding(NODE, "actor-down", name, f"{name} does not answer") for name in down]
    for alarm in body.get("alarms") or []:
        if alarm["code"] not in _OF_TOPICS:
            found.append(Finding(NODE, "alarm", alarm["subject"], f"{alarm['code']}: {alarm['text']}"))
    restarts = {name: count for name, count in (body.get("restarts") or {}).items() if count}
    return Look({"node_id": body.get("node_id"), "role": body.get("role"), "restarts": restarts}, found)


def network(body: dict[str, Any]) -> Look:
    """Links, dials, refusals and discovery."""
    sync = body.get("sync") or {}
    counts = sync.get("counts") or {}
    facts = {
        "linked_with": [peer["node_id"] for peer in sync.get("peers") or []],
        **(sync.get("links") or {}),
        "refused": {reason: counts[reason] for reason in sorted(REFUSALS & counts.keys())},
        "discovery": sync.get("discovery") or {},
    }
    found = []
    if sync.get("isolated"):
        found.append(Finding("network", "isolated", "", "an administrator has cut this node off for a while"))
    if sync.get("retired"):
        found.append(Finding("network", "retired", "", "this node was retired: stop it first"))
    rows = [row for row in sync.get("unanswered") or [] if row["reason"] not in ANSWERED]
    found += [_unanswered(row, way_back(body)) for row in rows]
    discovery = facts["discovery"]
    if discovery.get("state") == "failed":
        text = f"discovery by multicast does not work: {discovery.get('text')}"
        found.append(Finding("network", "multicast", "", text))
    others = {row["name"].partition("/")[0] for row in sync.get("members") or []}
    others -= {body.get("node_id"), *_clouds(body)}
    if body.get("role") == "lan" and others and not facts["linked_with"] and not sync.get("paused"):
        text = f"no link to any node of the cluster; known are {', '.join(sorted(others)[:5])}"
        found.append(Finding("network", "alone", "", text))
    for alarm in body.get("alarms") or []:
        if alarm["code"] == "duplicate-node":
            found.append(Finding("network", "same-name", alarm["subject"], alarm["text"]))
    found += _paused("network", body)
    return Look(facts, found)


def _paused(topic: str, body: dict[str, Any]) -> list[Finding]:
    """Pauses of the links of this topic."""
    kind = "cloud" if topic == "cloud" else "lan"
    alarms = [alarm for alarm in body.get("alarms") or [] if alarm["code"] == "paused"]
    return [Finding(topic, "paused", kind, one["text"]) for one in alarms if one["subject"] == kind]


def _clouds(body: dict[str, Any]) -> set[str]:
    election, gateway = body.get("election") or {}, body.get("gateway") or {}
    listed = {row["node_id"] for row in gateway.get("links") or []}
    return {*(election.get("connected") or ()), *(election.get("troubles") or ()), *listed}


def _unanswered(row: dict[str, Any], way: str) -> Finding:
    who = f"{row['address']} ({row['node_id']})" if row["node_id"] else row["address"]
    code = BY_REASON.get(row["reason"], "unanswered")
    text = f"{row['reason']}{': ' + row['text'] if row['text'] else ''}"
    subject = row["node_id"] if code == "wrong-node" else row["address"]
    times = f"{row['failures']} times in a row; again in {row['again_in']:.0f} s"
    ending = f". {way}" if code == "cluster-key" else ""
    return Finding("network", code, subject, f"{who}: {text}, {times}{ending}")


def way_back(body: dict[str, Any]) -> str:
    """How a node gets a link where others go by another cluster key.

    One that was expelled, and started again since, does not know: no member speaks with it by its old key.
    """
    name = str(body.get("node_id"))
    if any(alarm["code"] == Reason.EXPELLED for alarm in body.get("alarms") or []):
        return of_expelled(name)
    return (
        f"If that is a node of its cluster, {by_a_code(name, f' (where it is refused, {of_expelled(name)})')}"
    )


def of_another_key(sync: dict[str, Any]) -> list[str]:
    """The addresses that refuse a node without any link for its cluster key, or are refused for theirs."""
    rows = [] if sync.get("peers") else sync.get("unanswered") or []
    return [row["address"] for row in rows if BY_REASON.get(row["reason"]) == "cluster-key"]


def clock(body: dict[str, Any]) -> Look:
    """This clock beside those of peers, and the stamps."""
    store, sync = body.get("store") or {}, body.get("sync") or {}
    said = store.get("clock") or {}
    offsets = {peer["node_id"]: peer["clock_offset_ms"] for peer in sync.get("peers") or []}
    facts = {**said, "peers_ms": offsets, "held": store.get("held")}
    found = []
    if said.get("state") in ("off", "accepted"):
        what = "writes are refused" if said["state"] == "off" else "which an operator has accepted"
        text = f"the clock is off by {-said['offset_ms'] / 1000:.0f} s, {what}"
        found.append(Finding("clock", "clock-off", "", text))
    if said.get("ahead_ms", 0) > DRIFT_MS_MAX:
        text = f"stamps run {said['ahead_ms'] / 1000:.0f} s ahead, others hold them"
        found.append(Finding("clock", "stamps-ahead", "", text))
    for node_id, offset in offsets.items():
        if abs(offset) > APART_MS:
            bound = f"beyond {DRIFT_MS_MAX // 1000} s writes are held"
            text = f"the clock of {node_id} is {offset / 1000:+.1f} s from this one: {bound}"
            found.append(Finding("clock", "clock-apart", node_id, text))
    if store.get("held"):
        text = f"{store['held']} entries wait, stamped by clocks that run ahead"
        found.append(Finding("clock", "held", "", text))
    return Look(facts, found)


def disk(body: dict[str, Any]) -> Look:
    """Free space and the write-ahead log."""
    store = body.get("store") or {}
    said = store.get("disk") or {}
    facts = {
        **said,
        "wal_bytes": store.get("wal_bytes"),
        "log_bytes": (body.get("oplog") or {}).get("log_bytes"),
    }
    found = []
    if said.get("state") in ("low", "full"):
        what = "the node warns" if said["state"] == "low" else "writes are refused"
        text = f"{said['free_bytes']:,} bytes are free: {what}"
        found.append(Finding("disk", f"disk-{said['state']}", "", text))
    for alarm in body.get("alarms") or []:
        if alarm["code"] == "wal-large":
            found.append(Finding("disk", "wal-large", alarm["subject"], alarm["text"]))
    for node_id, kept in ((body.get("oplog") or {}).get("held_back_by") or {}).items():
        what = f"{kept.get('entries')} log entries and {kept.get('tombstones')} tombstones"
        text = f"{what} are kept for {node_id}"
        found.append(Finding("disk", "held-back", node_id, text))
    return Look(facts, found)


def db(body: dict[str, Any]) -> Look:
    """Quarantine, forks, comparisons with peers, indexes."""
    store, oplog = body.get("store") or {}, body.get("oplog") or {}
    indexes, now_ms = store.get("indexes") or {}, (body.get("sync") or {}).get("now_ms") or 0
    verified = (oplog.get("verify") or {}).get("peers") or []
    facts = {
        **{
            name: store.get(name)
            for name in ("documents", "oplog_entries", "conflicts", "unfit", "quarantined")
        },
        "indexes": indexes,
        "verified": {row["node_id"]: row["result"] for row in verified},
    }
    found = []
    if store.get("unfit"):
        found.append(Finding("db", "unfit", "", f"{store['unfit']} entries cannot be applied here"))
    for origin in store.get("quarantined_origins") or []:
        found.append(Finding("db", "forked", origin, f"two branches of the log of {origin} exist"))
    for row in verified:
        if row["result"] in ("differing", "no-answer"):
            text = f"{row['node_id']}: {row['result']}, {row['differing']} documents differ"
            found.append(Finding("db", "differs", row["node_id"], text))
        elif row["at_ms"] is not None and now_ms - row["at_ms"] > OLD_MS:
            hours = (now_ms - row["at_ms"]) // 3_600_000
            text = f"documents were compared with {row['node_id']} {hours} hours ago"
            found.append(Finding("db", "not-verified", row["node_id"], text))
    for name in indexes.get("building") or []:
        found.append(Finding("db", "index-building", str(name), f"index {name} is being built"))
    for name in indexes.get("refused") or []:
        found.append(Finding("db", "index-refused", str(name), f"index {name} is refused on this node"))
    return Look(facts, found)


def cloud(body: dict[str, Any]) -> Look:
    """The links to cloud peers, as the gateway tells every node."""
    election, gateway = body.get("election") or {}, body.get("gateway") or {}
    links = {row["node_id"]: row for row in gateway.get("links") or []}
    facts = {
        "gateway": election.get("gateway"),
        "epoch": election.get("epoch"),
        "connected": election.get("connected") or [],
    }
    found = _paused("cloud", body)
    if body.get("role") == "lan" and not election.get("gateway"):
        found.append(Finding("cloud", "no-gateway", "", "no gateway is elected: nobody speaks to the clouds"))
    troubles = dict(election.get("troubles") or {})
    troubles |= {name: row["reason"] for name, row in links.items() if row.get("reason")}
    for name, why in sorted(troubles.items()):
        if why == Reason.PEER_DISABLED.value:
            found.append(Finding("cloud", "disabled", name, f"{name} is disabled: it is not dialled"))
        else:
            found.append(of_cloud_link(name, why, f"the link to {name}: {why}"))
    return Look(facts, found)


BY_TOPIC: Final[dict[str, Callable[[dict[str, Any]], Look]]] = {
    NODE: whole,
    "network": network,
    "clock": clock,
    "disk": disk,
    "db": db,
    "cloud": cloud,
}
