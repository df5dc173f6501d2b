"""The other processes that serve the same tenants from one database: what each tells them, and asks of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import Context
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local.tenants import TenantLink
from entgldb.messages.schema import Json
from entgldb.messages.tenants import Tenant

PUBLISH_SECONDS: Final = 5.0
"""At least, between two times that a process says which gateways it has: sync tells it every ten."""
RIVALS: Final = "rival-gateways"
RIVAL_SECONDS: Final = 60.0
"""So long a tenant has several gateways before that is an alarm: longer than one is shown that has died, or
whose cluster has elected another."""
NAMED_MAX: Final = 4
"""Gateways that the text of an alarm names."""


class Fellows(NamedTuple):
    """All of them, by the database that they share."""

    look: Callable[[Collection[str]], dict[str, tuple[Tenant, int]]]
    """Tenants -> their rows in the catalogue, and the versions of their data. Raises EntglError."""
    tell: Callable[[str, int], None]
    """Tells them of the last row of a tenant; 0: of its row in the catalogue. It may be lost."""
    publish: Callable[[Sequence[TenantLink]], None]
    """Says which gateways this process has. Raises EntglError."""
    gateways: Callable[[str], list[tuple[str, TenantLink]]]
    """The gateways of a tenant, each with the process that has it. Raises EntglError."""
    others: Callable[[], list[tuple[str, TenantLink]]]
    """The gateways of all tenants that other processes have, each with its process. Raises EntglError."""
    restored: Callable[[str], None]
    """Notes that the database has lost commits of a tenant: who opens it next goes on as a new writer, and a
    process that has it open closes it before it writes. Raises EntglError."""


class Gateways:
    """Those of this process, as the others are told, and those of the others."""

    def __init__(self, fellows: Fellows | None) -> None:
        """None: there are no others."""
        self.links: tuple[TenantLink, ...] = ()
        self.elsewhere = defaultdict[str, list[str]](list)
        """Tenant -> the node ids of its links at other processes, as they said last."""
        self.alarms = Alarms()
        self._since: dict[str, float] = {}
        """Tenant -> since when it has several gateways."""
        self._fellows, self._said_at = fellows, -PUBLISH_SECONDS

    def say(self, count: Callable[[Reason], None], ctx: Context) -> None:
        """Say which gateways there are here, unless that was done just now."""
        if self._fellows is None or ctx.monotonic() - self._said_at < PUBLISH_SECONDS:
            return
        self._said_at = ctx.monotonic()
        try:
            self._fellows.publish(self.links)
            others = self._fellows.others()
        except EntglError:
            count(Reason.STORAGE_UNAVAILABLE)
            return
        self.elsewhere = defaultdict(list)
        for _, link in others:
            self.elsewhere[link.tenant].append(link.node_id)
        self._look([*(("this process", link) for link in self.links), *others], ctx)

    def _look(self, found: Iterable[tuple[str, TenantLink]], ctx: Context) -> None:
        """Sound an alarm for each tenant that has had several gateways for a while."""
        gateways: dict[str, dict[str, str]] = {}
        for process, link in found:
            one = f"{link.node_id} in epoch {link.epoch} at {process}"
            gateways.setdefault(link.tenant, {})[link.node_id] = one
        rivals = {tenant: known for tenant, known in gateways.items() if len(known) > 1}
        for tenant in self._since.keys() - rivals.keys():
            del self._since[tenant]
            self.alarms.clear(RIVALS, tenant)
        for tenant, known in rivals.items():
            since = self._since.setdefault(tenant, ctx.monotonic())
            if ctx.monotonic() - since >= RIVAL_SECONDS:
                named = ", ".join(sorted(known.values())[:NAMED_MAX])
                text = f"tenant {tenant} has {len(known)} gateways, {named}; its cluster is split"
                remedy = f"entgldb tenant show {tenant}"
                self.alarms.sound(RIVALS, tenant, f"{text}: {remedy}", ctx.now_ms())

    def of(self, tenant: str) -> dict[str, Json]:
        """The field ``gateways`` of a tenant; of none where it is not named. Raises EntglError."""
        if self._fellows is None or not tenant:
            return {}
        found: list[Json] = [
            {"process": process, "node_id": link.node_id, "epoch": link.epoch, "address": link.address}
            for process, link in self._fellows.gateways(tenant)
        ]
        return {"gateways": found}
