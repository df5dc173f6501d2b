"""A running cluster with a cloud link that something befalls, watched through open databases."""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import Any

from entgldb.client.database import Database, connect
from tests.system.support.cluster_fixture import Cluster, Node
from tests.system.support.kernel_view import eventually

LAN_REASONS = {"peer-closed", "unreachable", "tls-refused", "heartbeat-lost", "slow-reader", "duplicate-link"}


class Trial:
    """A cluster whose gateway is connected to a cloud node, with a database open on each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.gateway_node: Node = cluster.lan[0]
        # another one that was up before it hands over to it a while later: not in the middle of a trial
        eventually(lambda: cluster.gateway() is self.gateway_node, "the node that ranks best leads", 60.0)
        self.member, self.cloud, self.gateway = (
            connect(node.directory) for node in (cluster.members()[0], cluster.clouds[0], self.gateway_node)
        )
        self._keys = itertools.count()

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database in (self.member, self.cloud, self.gateway):
            database.close()

    @property
    def link(self) -> dict[str, Any]:
        """The row of the cloud link in the gateway's status."""
        rows: list[dict[str, Any]] = self.gateway.status("gateway")["links"]
        return rows[0]

    @property
    def troubles(self) -> dict[str, str]:
        """The troubles of the cluster's cloud links, as a node that is not gateway tells them."""
        found: dict[str, str] = self.member.status("election")["troubles"]
        return found

    def count(self, reason: str) -> int:
        found: int = self.gateway.status("gateway")["counts"].get(reason, 0)
        return found

    def lan_faults(self) -> dict[str, int]:
        counts: dict[str, int] = self.gateway.status("sync")["counts"]
        return {reason: times for reason, times in counts.items() if reason in LAN_REASONS}

    def seconds_to(self, other: Database) -> float:
        """From the acknowledged write on the member to the document on ``other``."""
        key = f"k{next(self._keys)}"
        self.member["notes"].put(key, {"n": 1})
        begun = time.monotonic()
        eventually(lambda: other["notes"].get(key), f"{key} has arrived")
        return time.monotonic() - begun

    def lan_is_untouched(self) -> None:
        took = [self.seconds_to(self.gateway)]
        while took[-1] >= 1.0 and len(took) < 3:  # a busy machine may delay one of them
            took.append(self.seconds_to(self.gateway))
        assert took[-1] < 1.0, took

    def is_well(self) -> None:
        """At the beginning of a test, also after one that failed."""
        eventually(lambda: self.link["state"] == "connected", "the cloud link is open", 60.0)
        eventually(lambda: self.link["reason"] == "", "nothing is wrong with it", 20.0)

    def recovers(self, seconds: float) -> None:
        issued = self.cluster.control()["issued"]
        eventually(
            lambda: (
                self.cluster.control()["issued"] > issued
                and (self.link["state"], self.link["reason"]) == ("connected", "")
            ),
            "a new token and an open link",
            seconds,
        )
        self.seconds_to(self.cloud)
