"""The other processes that serve the same tenants from one database: what each tells them, and asks of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from entgldb.messages.tenants import Tenant


class Fellows(Protocol):
    """All of them, by the database that they share."""

    def look(self, tenants: Collection[str]) -> dict[str, tuple[Tenant, int]]:
        """Tenant -> its row in the catalogue, and the version of its data. Raises EntglError."""

    def tell(self, tenant: str, lsn: int) -> None:
        """Tell them of the last row of a tenant; 0: of its row in the catalogue.

        It returns at once, and may be lost.
        """
