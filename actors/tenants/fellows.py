"""The other processes that serve the same tenants from one database: what each tells them, and asks of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from entgldb.actors.behaviour import Context
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local.tenants import TenantLink
from entgldb.messages.schema import Json
from entgldb.messages.tenants import Tenant

PUBLISH_SECONDS: Final = 5.0
"""At least, between two times that a process says which gateways it has: sync tells it every ten."""


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
    restored: Callable[[str], None]
    """Notes that the database has lost commits of a tenant: who opens it next goes on as a new writer, and a
    process that has it open closes it before it writes. Raises EntglError."""


class Gateways:
    """Those of this process, as the others are told, and those of the others."""

    def __init__(self, fellows: Fellows | None) -> None:
        """None: there are no others."""
        self.links: tuple[TenantLink, ...] = ()
        self._fellows, self._said_at = fellows, -PUBLISH_SECONDS

    def say(self, count: Callable[[Reason], None], ctx: Context) -> None:
        """Say which gateways there are here, unless that was done just now."""
        if self._fellows is None or ctx.monotonic() - self._said_at < PUBLISH_SECONDS:
            return
        self._said_at = ctx.monotonic()
        try:
            self._fellows.publish(self.links)
        except EntglError:
            count(Reason.STORAGE_UNAVAILABLE)

    def of(self, tenant: str) -> dict[str, Json]:
        """The field ``gateways`` of a tenant; of none where it is not named. Raises EntglError."""
        if self._fellows is None or not tenant:
            return {}
        found: list[Json] = [
            {"process": process, "node_id": link.node_id, "epoch": link.epoch, "address": link.address}
            for process, link in self._fellows.gateways(tenant)
        ]
        return {"gateways": found}
