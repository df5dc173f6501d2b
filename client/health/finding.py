"""Findings about a node: a closed set of words, each with the verb that helps."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from entgldb.messages.errors import Reason

TOPICS: Final = ("network", "clock", "disk", "db", "cloud")
NODE: Final = "node"
"""The topic of what is said first, whatever was asked for: whether a node runs, and its configuration."""

REMEDIES: Final = {
    # code: the command that helps; {} is the subject of the finding
    "no-directory": "entgldb init",
    "config": "entgldb start",
    "node-down": "entgldb start",
    "opened": "entgldb status",
    "no-answer": "entgldb status",
    "actor-down": "entgldb status",
    "too-open": "entgldb doctor",
    "alarm": "entgldb status",
    "port-taken": "entgldb start",
    "port-closed": "entgldb status",
    "certificate": "entgldb status",
    "alone": "entgldb add-static-peer",
    "unanswered": "entgldb nodes",
    "cluster-key": "entgldb rejoin --join CODE",
    "certificate-time": "entgldb doctor clock",
    "retired": "entgldb rejoin",
    "wrong-node": "entgldb update-peer {}",
    "same-name": "entgldb stop",
    "paused": "entgldb resume {}",
    "isolated": "entgldb tell sync Isolate seconds=0",
    "multicast": "entgldb add-static-peer",
    "unsynchronized": "entgldb clock",
    "clock-off": "entgldb clock",
    "clock-apart": "entgldb clock",
    "stamps-ahead": "entgldb clock --reset",
    "held": "entgldb held",
    "disk-low": "entgldb compact",
    "disk-full": "entgldb compact",
    "slow-disk": "entgldb bench W1",
    "network-disk": "entgldb backup",
    "wal-large": "entgldb status",
    "reader": "entgldb status",
    "damaged": "entgldb verify --deep",
    "unfit": "entgldb quarantine",
    "forked": "entgldb forks",
    "differs": "entgldb verify --repair",
    "not-verified": "entgldb verify",
    "index-building": "entgldb index list",
    "index-refused": "entgldb index list",
    "held-back": "entgldb nodes",
    "no-gateway": "entgldb gateway --history",
    "disabled": "entgldb enable-peer {}",
    "cloud-name": "entgldb update-peer {} --address",
    "cloud-connection": "entgldb update-peer {} --address",
    "cloud-certificate": "entgldb update-peer {} --ca-file",
    "cloud-authority": "entgldb update-peer {} --authority",
    "cloud-token": "entgldb update-peer {} --client-secret-stdin",
    "cloud-refused": "entgldb test-peer {}",
    "cloud-clock": "entgldb clock",
    "cloud-link": "entgldb test-peer {}",
    "cloud-quota": "entgldb tenant limit",
    "cloud-tenant": "entgldb tenant list",
    "not-tried": "entgldb test-peer {}",
}
"""All findings that there are; a test compares the commands with the verbs."""
HARMLESS: Final = frozenset(
    {
        "index-building",
        "disabled",
        "not-verified",
        "reader",
        "multicast",
        "too-open",
        "unsynchronized",
        "paused",
    }
)
"""Worth a line, and no reason to wake anybody: the exit code stays 0."""
_OF_TENANTS: Final[dict[str, str]] = {
    **dict.fromkeys((one for one in Reason if one.startswith("quota-")), "cloud-quota"),
    Reason.NO_TENANT: "cloud-tenant",
    Reason.OTHER_TENANT: "cloud-tenant",
    Reason.TENANT_SUSPENDED: "cloud-tenant",
    Reason.TENANT_DELETED: "cloud-tenant",
    Reason.TOO_MANY_TENANTS: "cloud-tenant",
}
"""Why a cloud ends a link -> the finding. Its operator alone can change that; test-peer finds nothing."""


class Finding(NamedTuple):
    """Something about a node that is not as it should be, or worth knowing."""

    topic: str
    code: str
    subject: str
    """The peer, address or file that it is about; empty where there is but one."""
    text: str

    @property
    def remedy(self) -> str:
        """A command: the one that an alarm ends with, or that of the code."""
        _, found, own = self.text.rpartition(": entgldb ")
        return f"entgldb {own}" if found else REMEDIES[self.code].format(self.subject).rstrip()

    @property
    def harmless(self) -> bool:
        return self.code in HARMLESS

    def fields(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {**self._asdict(), "remedy": self.remedy, "harmless": self.harmless}


def of_cloud_link(name: str, why: str, text: str) -> Finding:
    """The finding ``text``: the link to the cloud peer ``name`` is down, or will be, because of ``why``."""
    code = _OF_TENANTS.get(why, "cloud-link")
    return Finding("cloud", code, name, text if code == "cloud-link" else f"{text}, to be changed on {name}")


def cloud_troubles(body: dict[str, Any]) -> list[tuple[Finding, bool]]:
    """Cloud links that are down (False) or end with their token (True), of a report of ``node``.

    The gateway tells every node of them; of its own links it has told by itself already.
    """
    election, gateway = body.get("election") or {}, body.get("gateway") or {}
    troubles = dict(election.get("troubles") or {})
    connected = set(election.get("connected") or [])
    for link in gateway.get("links") or []:
        if link.get("reason") and link.get("state") in ("backoff", "connected"):
            troubles[link["node_id"]] = link["reason"]
    fates = {False: "is down", True: "ends with its token"}
    return [
        (
            of_cloud_link(name, why, f"the link to {name} {fates[name in connected]} ({why})"),
            name in connected,
        )
        for name, why in sorted(troubles.items())
    ]


class Look(NamedTuple):
    """One topic: figures, and what is found."""

    facts: dict[str, Any]
    findings: list[Finding]
