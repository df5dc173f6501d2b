"""The cloud processes of a database, and the gateways that each has, as they say every few seconds.

Two gateways of a cluster that was split may be linked to two processes: either shows both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from entgldb.messages.local.tenants import TenantLink
from entgldb.messages.schema import from_array, to_array

if TYPE_CHECKING:
    from entgldb.storage.postgres.catalogue import Catalogue

ALIVE_MS: Final = 35_000
"""A process that has said nothing for so long is not shown: it says something every ten seconds."""
FORGET_MS: Final = 24 * 3_600_000
"""And after so long its row goes."""
_NOW: Final = "(extract(epoch FROM now()) * 1000)::BIGINT"
"""By the clock of the database, which is the same for all."""
_SAY: Final = (
    f"INSERT INTO entgldb_processes (process, seen_ms, links) VALUES ($1, {_NOW}, $2)"  # noqa: S608 -- constants
    " ON CONFLICT (process) DO UPDATE SET seen_ms = excluded.seen_ms, links = excluded.links"
)
_READ: Final = (
    f"SELECT process, links FROM entgldb_processes WHERE seen_ms > {_NOW} - {ALIVE_MS}"  # noqa: S608 -- constants
    " ORDER BY process"
)
_FORGET: Final = f"DELETE FROM entgldb_processes WHERE seen_ms < {_NOW} - {FORGET_MS}"  # noqa: S608 -- constants


class Processes:
    """All of them; this one is called ``name``."""

    def __init__(self, catalogue: Catalogue, name: str) -> None:
        self._catalogue, self._name = catalogue, name

    def publish(self, links: Sequence[TenantLink]) -> None:
        """Say which gateways this process has. Raises EntglError."""
        with self._catalogue.asked() as on:
            on.alone(_SAY, [self._name, json.dumps([to_array(link) for link in links])])
            on.alone(_FORGET)

    def gateways(self, tenant: str) -> list[tuple[str, TenantLink]]:
        """The gateways of a tenant, each with the process that has it. Raises EntglError."""
        return [(name, link) for name, link in self._all() if link.tenant == tenant]

    def others(self) -> list[tuple[str, TenantLink]]:
        """The gateways of all tenants at the other processes, each with its process. Raises EntglError."""
        return [(name, link) for name, link in self._all() if name != self._name]

    def _all(self) -> list[tuple[str, TenantLink]]:
        with self._catalogue.asked() as on:
            rows = on.alone(_READ)
        return [(name, from_array(TenantLink, link)) for name, links in rows for link in json.loads(links)]
