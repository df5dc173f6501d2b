"""The catalogue of tenants on PostgreSQL, which all processes of the database share.

A row is changed only where it is still as it was read: of two processes that change it the second is told to
try again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.schema import to_array
from entgldb.messages.tenants import Tenant, TenantState
from entgldb.storage.file.faults import translating
from entgldb.storage.postgres import identity, schema
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.tenants.catalogue import as_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS: Final = "tenant, issuer, state, since_ms, documents, bytes, writes, links, origins"
_SELECT: Final = f"SELECT {_COLUMNS} FROM entgldb_tenants"  # noqa: S608 -- constants
_ADD: Final = (
    f"INSERT INTO entgldb_tenants (version, {_COLUMNS})"  # noqa: S608 -- constants
    " VALUES ($10, $1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
)
_CHANGE: Final = (
    "UPDATE entgldb_tenants SET version = version + 1, issuer = $2, state = $3, since_ms = $4,"
    " documents = $5, bytes = $6, writes = $7, links = $8, origins = $9 WHERE tenant = $1 AND issuer = $10"
    " AND state = $11 AND since_ms = $12 AND documents = $13 AND bytes = $14 AND writes = $15"
    " AND links = $16 AND origins = $17"
)
"""Its version moves, so that each process hears of it as of a write."""


class Catalogue:
    """Implements ``ports.Catalogue``."""

    def __init__(self, dsn: str, here: Callable[[], list[str]]) -> None:
        """``here``: the tenants of which this process has files. PostgreSQL need not be there yet."""
        self._server, self._here = server(dsn), here
        self._prepared = False

    def get(self, name: str) -> Tenant | None:
        with self.asked() as on:
            rows = on.alone(f"{_SELECT} WHERE tenant = $1", [name])
        return as_tenant(rows[0]) if rows else None

    def page(self, after: str) -> list[Tenant]:
        with self.asked() as on:
            rows = on.alone(f"{_SELECT} WHERE tenant > $1 ORDER BY tenant LIMIT {PAGE_ROWS_MAX}", [after])
        return [as_tenant(row) for row in rows]

    def states(self) -> dict[str, int]:
        with self.asked() as on:
            return dict(on.alone("SELECT state, count(*) FROM entgldb_tenants GROUP BY state"))

    def deleting(self) -> list[str]:
        """Tenants whose data are to be removed, or of which this process has files still."""
        with self.asked() as on:
            rows = on.alone(
                "SELECT tenant FROM entgldb_tenants WHERE state = $1 OR (state = $2 AND tenant = ANY($3))"
                " ORDER BY tenant",
                [TenantState.DELETING.value, TenantState.DELETED.value, self._here()],
            )
        return [name for (name,) in rows]

    def look(self, tenants: Collection[str]) -> dict[str, tuple[Tenant, int]]:
        """Name -> row, and the version of its data, of those that there are."""
        with self.asked() as on:
            rows = on.alone(
                f"SELECT version, {_COLUMNS} FROM entgldb_tenants WHERE tenant = ANY($1)",  # noqa: S608 -- constants
                [list(tenants)],
            )
        return {name: (as_tenant((name, *row)), version) for version, name, *row in rows}

    def put(self, row: Tenant, before: Tenant | None) -> None:
        """Write a row anew that was ``before`` when it was read. Raises EntglError ``busy`` where not."""
        with self.asked() as on:
            if before is None:
                done = on.carry_out(row.name, _ADD, [*_values(row), schema.first_version()])
            else:
                done = on.carry_out(row.name, _CHANGE, [*_values(row), *_values(before)])
        if not done:
            raise EntglError(
                f"tenant {row.name} was changed by another process", code=ErrorCode.BUSY, hint="try again"
            )

    def restored(self, name: str) -> None:
        """The database has lost commits of a tenant: see ``identity.mark``. Raises EntglError."""
        with self.asked() as on:
            identity.mark(on, name)

    def forget_oldest(self) -> bool:
        with self.asked() as on:
            rows = on.alone(
                "SELECT tenant FROM entgldb_tenants WHERE state = $1 ORDER BY since_ms, tenant LIMIT 1",
                [TenantState.DELETED.value],
            )
            sql = "DELETE FROM entgldb_tenants WHERE tenant = $1 AND state = $2"
            return bool(rows and on.carry_out(rows[0][0], sql, [TenantState.DELETED.value]))

    @contextmanager
    def asked(self) -> Iterator[Server]:
        """The server, with its tables. Raises EntglError."""
        with translating("PostgreSQL"):
            if not self._prepared:
                schema.prepare(self._server)
                self._prepared = True
            yield self._server


def _values(row: Tenant) -> list[object]:
    return [row.issuer, row.state, row.since_ms, *to_array(row.quotas)]
