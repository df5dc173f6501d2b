"""Making the tables on PostgreSQL, with row-level security that the role must not be able to pass."""

from __future__ import annotations

from typing import Final

from entgldb.messages.errors import ConfigError
from entgldb.storage.postgres.server import SETTING, PostgresFault, Server
from entgldb.storage.postgres.tables import TENANT, tables

VERSION: Final = 1
_TRIES: Final = 3
_TENANTS: Final = (
    "CREATE TABLE entgldb_tenants (tenant TEXT PRIMARY KEY, version BIGINT NOT NULL,"
    " issuer TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'active',"
    " since_ms BIGINT NOT NULL DEFAULT 0, documents BIGINT NOT NULL DEFAULT 0,"
    " bytes BIGINT NOT NULL DEFAULT 0, writes BIGINT NOT NULL DEFAULT 0, links BIGINT NOT NULL DEFAULT 0,"
    " origins BIGINT NOT NULL DEFAULT 0)"
)
"""The row that a group of writes locks; it is also the tenant's row in the catalogue of all processes."""
_PROCESSES: Final = (
    "CREATE TABLE entgldb_processes (process TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL, links TEXT NOT NULL)"
)
"""The gateways that each process has, as it said last: names of the host, no tenant's data."""
_NAMES: Final = "CREATE POLICY entgldb_names ON entgldb_tenants FOR SELECT USING (true)"
"""A process looks at the rows of all its tenants at once: a name is there, and no document."""
_MINE: Final = f"tenant = current_setting('{SETTING}', true)"
PARTED: Final = ("entgldb_oplog", "entgldb_documents")
"""The tables that grow with what is written."""
PARTS: Final = 16
"""Of each of them, by a hash of the tenant: VACUUM, and each index, has to do with a part of the rows."""
_OTHERS: Final = ("CockroachDB", "-YB-")
"""In their ``version()``: they spread the rows of every table by themselves, as Citus does."""
_CITUS: Final = "SELECT 1 FROM pg_extension WHERE extname = 'citus'"
_C: Final = 'TEXT COLLATE "C"'
"""Byte by byte, as SQLite orders text; CockroachDB orders all text so by itself."""


def prepare(server: Server) -> None:
    """Make the tables where there are none. Raises ConfigError: newer tables, a role that sees all rows."""
    _check_role(server)
    for left in reversed(range(_TRIES)):
        if server.alone("SELECT 1 FROM information_schema.tables WHERE table_name = 'entgldb_schema'"):
            break
        try:
            _make(server)
        except PostgresFault:
            # another process makes them at this moment
            if not left:
                raise
    ((found,),) = server.alone("SELECT max(version) FROM entgldb_schema")
    if found > VERSION:
        raise ConfigError(
            f"the tables on PostgreSQL have version {found}, this release knows up to {VERSION}",
            hint="use the newer release of entgldb that made them",
        )


def statements(*, collate: bool, parted: bool) -> list[str]:
    """All of what makes the tables."""
    made, names = [_TENANTS], ["entgldb_tenants", *tables()]
    for name, table in tables().items():
        first, *others = table.ddl
        if parted and name in PARTED:
            parts = [f"{name}_{number}" for number in range(PARTS)]
            first += f" PARTITION BY HASH ({TENANT})"
            others += [
                f"CREATE TABLE {part} PARTITION OF {name}"
                f" FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {number})"
                for number, part in enumerate(parts)
            ]
            names += parts
        made += [first, *others]
    if collate:
        made = [one.replace(" TEXT", f" {_C}") for one in made]
    for name in names:
        made += [
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY entgldb ON {name} USING ({_MINE}) WITH CHECK ({_MINE})",
        ]
    made += [_NAMES, _PROCESSES, "CREATE TABLE entgldb_schema (version BIGINT PRIMARY KEY)"]
    made.append(f"INSERT INTO entgldb_schema (version) VALUES ({VERSION})")  # noqa: S608 -- a constant
    return made


def _make(server: Server) -> None:
    ((said,),) = server.alone("SELECT version()")
    parted = not any(name in said for name in _OTHERS) and not server.alone(_CITUS)
    script = statements(collate="CockroachDB" not in said, parted=parted)
    server.alone("; ".join(["BEGIN", "SET LOCAL lock_timeout = '2s'", *script, "COMMIT"]))


def _check_role(server: Server) -> None:
    ((name, passes),) = server.alone(
        "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    if passes:
        raise ConfigError(
            f"the role {name} of cloud.storage can read every row, row-level security or not",
            hint=f"ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS, or name another role",
        )
