"""The matters that a person should look at, each with its remedy. Made of a node's status alone; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from entgldb.client.health.finding import cloud_troubles
from entgldb.messages.limits import DRIFT_MS_MAX

ACTORS: Final = ("store", "oplog", "sync", "election", "gateway")
MATTERS_MAX: Final = 50
"""Rows that are shown; there may be more, which the page says."""


class Remedy(NamedTuple):
    """A remedy: a request (``method``, ``path``), a page to look at (``view``), or a command to type."""

    label: str
    method: str = ""
    path: str = ""
    body: Mapping[str, str] | None = None
    name: str = ""
    """The name that a person types to say that they mean it; empty: the request harms nothing."""
    warning: str = ""
    view: str = ""
    command: str = ""


class Matter(NamedTuple):
    """One trouble."""

    grave: bool
    """Whether something does not work now; otherwise it will, or someone should decide."""
    code: str
    subject: str
    text: str
    since_ms: int | None
    remedy: Remedy | None


_VIEWS: Final = {
    "fork": Remedy("Compare", view="upkeep"),
    "undecided": Remedy("See", view="upkeep"),
    "duplicate-node": Remedy("See", view="nodes"),
    "not-heard": Remedy("See", view="nodes"),
}
"""Code of an alarm -> where a person decides about it."""
_DOCTOR: Final = Remedy("Copy", command="entgldb doctor")
_HISTORY: Final = Remedy("Copy", command="entgldb gateway --history")
_INCARNATION: Final = re.compile(r"(/[0-9a-f]{6})[0-9a-f]{26}\b")
"""The second half of an origin, of which a person compares the first digits."""
_WAITING: Final = (
    ("held", "entries that wait, since their writer's clock runs ahead", "Look", "upkeep"),
    ("unfit", "entries that cannot be applied here", "Decide", "upkeep"),
    ("conflicts", "versions that lost a concurrent write and are kept", "Settle", "conflicts"),
)
"""Field of the store's status, its meaning, and where a person decides."""


def matters(status: Mapping[str, Any]) -> list[Matter]:
    """All, the grave ones first."""
    found = (one._replace(text=_INCARNATION.sub(r"\1…", one.text)) for one in _all(status))
    return sorted(found, key=lambda one: (not one.grave, one.code, one.subject))


def _all(status: Mapping[str, Any]) -> Iterator[Matter]:
    for actor in ACTORS:
        if status.get(actor) is None:
            yield Matter(True, "no-answer", actor, f"{actor} does not answer", None, _DOCTOR)
    for alarm in status.get("alarms") or []:
        yield _of_alarm(alarm)
    yield from _of_store(status.get("store") or {})
    yield from _of_the_cluster(status)
    yield from _of_clouds(status)


def _of_alarm(alarm: Mapping[str, Any]) -> Matter:
    """An alarm with the command that its text ends with as its remedy, or with a better one."""
    code, subject = str(alarm.get("code")), str(alarm.get("subject", ""))
    text, found, own = str(alarm.get("text", "")).rpartition(": entgldb ")
    words, _, where = own.partition(" on ")
    if not found:
        text, words = own, "doctor"
    elif where:
        text = f"{text}: on {where}"
    remedy = _VIEWS.get(code) or Remedy("Copy", command=f"entgldb {words}")
    if code == "token-not-renewed":
        remedy = _test(subject)
    elif words == "tell sync SyncNow":
        remedy = Remedy("Sync now", "POST", "/v1/actors/sync/_tell", {"message": "SyncNow"})
    return Matter(True, code, subject, text, alarm.get("since_ms"), remedy)


def _of_store(store: Mapping[str, Any]) -> Iterator[Matter]:
    disk, clock = store.get("disk") or {}, store.get("clock") or {}
    if disk.get("state") in ("low", "full"):
        full = disk["state"] == "full"
        text = "writes are refused" if full else "the node warns"
        free = f"{(disk.get('free_bytes') or 0) / 1e6:.0f} MB are free: {text}"
        compact = Remedy("Make the file smaller", "POST", "/v1/actors/oplog/_tell", {"message": "Compact"})
        yield Matter(full, "disk", "", free, None, compact)
    if clock.get("state") in ("off", "accepted"):
        off = -(clock.get("offset_ms") or 0) / 1000
        text = f"this clock is off by {off:.0f} s against most peers"
        yield Matter(
            clock["state"] == "off", "clock", "", text, None, Remedy("Set it", command="entgldb clock")
        )
    if (clock.get("ahead_ms") or 0) > DRIFT_MS_MAX:
        text = f"stamps run {clock['ahead_ms'] / 1000:.0f} s ahead: others hold what is written here"
        yield Matter(True, "stamps", "", text, None, Remedy("Reset", command="entgldb clock --reset"))
    for field, text, label, view in _WAITING:
        count = store.get(field)
        if count:
            yield Matter(False, field, "", f"{text}: {count}", None, Remedy(label, view=view))


def _of_the_cluster(status: Mapping[str, Any]) -> Iterator[Matter]:
    sync, election = status.get("sync") or {}, status.get("election") or {}
    if sync.get("retired"):
        command = Remedy("Join again", command="entgldb stop && entgldb rejoin")
        yield Matter(True, "retired", "", "this node was retired", None, command)
    if status.get("role") == "lan" and not election.get("gateway"):
        yield Matter(True, "no-gateway", "", "no gateway is elected", None, _HISTORY)
    for peer in [*(sync.get("peers") or []), *((status.get("gateway") or {}).get("links") or [])]:
        if peer.get("behind_snapshot"):
            name = str(peer.get("node_id"))
            yield Matter(
                False, "behind-snapshot", name, f"{name} gets a snapshot: the log has no more", None, None
            )
    for name, kept in ((status.get("oplog") or {}).get("held_back_by") or {}).items():
        text = f"{kept.get('entries')} entries and {kept.get('tombstones')} tombstones are kept for {name}"
        yield Matter(False, "holds-back", name, text, kept.get("since"), _retire(name))


def _retire(name: str) -> Remedy:
    warning = f"{name} is refused from now on, on every node, until it rejoins. Nothing is kept for it."
    return Remedy("Retire it", "POST", f"/v1/nodes/{quote(name, safe='')}/_retire", {}, name, warning)


def _of_clouds(status: Mapping[str, Any]) -> Iterator[Matter]:
    """Cloud links of the cluster that are down or will be, as the gateway tells every node."""
    for one, connected in cloud_troubles(dict(status)):
        remedy = Remedy(f"On {one.subject}", command=one.remedy)
        if one.code == "cloud-link":
            remedy = _test(one.subject)
        yield Matter(not connected, one.code, one.subject, one.text, None, remedy)


def _test(name: str) -> Remedy:
    return Remedy("Test it", "POST", f"/v1/peers/{quote(name, safe='')}/_test", {})
