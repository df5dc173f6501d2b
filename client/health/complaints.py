"""The matters of a report of ``node`` that an operator should look at, most with the command that helps."""

from __future__ import annotations

from typing import Any, Final

from entgldb.client.health.finding import cloud_troubles
from entgldb.client.health.reported import of_another_key, way_back
from entgldb.messages.limits import DRIFT_MS_MAX

ACTORS: Final = ("store", "oplog", "sync", "election", "gateway")


def complaints(body: dict[str, Any]) -> list[str]:
    """A sentence each."""
    wrong = [f"{name} does not answer: entgldb doctor" for name in ACTORS if body.get(name) is None]
    store, gateway = body.get("store") or {}, body.get("gateway") or {}
    if (body.get("sync") or {}).get("retired"):
        wrong.append("this node was retired: stop it, then `entgldb rejoin`")
    for address in of_another_key(body.get("sync") or {}):
        wrong.append(f"{address} goes by another cluster key. {way_back(body)}")
    if store.get("quarantined"):
        wrong.append(f"{store['quarantined']} origins are quarantined: entgldb forks")
    disk, clock = store.get("disk") or {}, store.get("clock") or {}
    if disk.get("state") in ("low", "full"):
        what = "the node warns" if disk["state"] == "low" else "writes are refused"
        wrong.append(f"the disk has {disk['free_bytes']} bytes free, {what}: entgldb doctor disk")
    if clock.get("state") in ("off", "accepted"):
        what = "writes are refused" if clock["state"] == "off" else "which an operator has accepted"
        wrong.append(f"the clock is off by {-clock['offset_ms'] / 1000:.0f} s, {what}: entgldb clock")
    if clock.get("ahead_ms", 0) > DRIFT_MS_MAX:
        ahead = clock["ahead_ms"] / 1000
        wrong.append(f"stamps run {ahead:.0f} s ahead, others hold them: entgldb clock --reset")
    elif clock.get("behind_mark_ms", 0) > DRIFT_MS_MAX:
        behind = clock["behind_mark_ms"] / 1000
        wrong.append(f"the clock is {behind:.0f} s behind what was written here: stamps go on from there")
    if store.get("held"):
        wrong.append(f"{store['held']} entries are held, their clock is ahead: entgldb held")
    if store.get("unfit"):
        wrong.append(f"{store['unfit']} entries cannot be applied: entgldb quarantine")
    wrong += [f"{alarm['code']}: {alarm['text']}" for alarm in body.get("alarms") or []]
    for peer in ((body.get("sync") or {}).get("peers") or []) + (gateway.get("links") or []):
        if peer.get("behind_snapshot"):
            wrong.append(f"{peer.get('node_id')} lacks entries that the log has no more")
    for node_id, kept in ((body.get("oplog") or {}).get("held_back_by") or {}).items():
        what = f"{kept.get('entries')} log entries and {kept.get('tombstones')} tombstones"
        wrong.append(f"{node_id} holds back {what} from being forgotten: entgldb nodes")
    wrong += [f"{one.text}: {one.remedy}" for one, _ in cloud_troubles(body)]
    if body.get("role") == "lan" and not (body.get("election") or {}).get("gateway"):
        wrong.append("no gateway is elected: entgldb gateway --history")
    return wrong
