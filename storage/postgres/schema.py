"""The tables on PostgreSQL, made and changed, with row-level security that the role must not be able to pass.

A database is made in format 1, and every other format of the one before it by one step, as a node's file is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from entgldb.messages.errors import ConfigError
from entgldb.storage.postgres.server import SETTING, PostgresFault, Server
from entgldb.storage.postgres.tables import SIDED, TENANT, on_side, tables
from entgldb.storage.snapshot.shadow import WATCHED

STEPS: Final[tuple[str, ...]] = ()
"""The first makes format 2 of format 1, and so on: statements with ``;`` between them. A released one is
never edited."""
FORMAT: Final = 1 + len(STEPS)
"""The number in ``entgldb_schema``: a program refuses tables with a higher one."""
FORMAT_BITS: Final = 56
"""A tenant's row has the format, less 1, above so many bits of its version: a step moves the rows of all
tenants, and a process of an earlier release notices it in its next group."""
_TRIES: Final = 3
_THERE: Final = (
    "SELECT 1 FROM information_schema.tables"
    " WHERE table_name = 'entgldb_schema' AND table_schema = current_schema()"
)
_PARTS: Final = (
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
)
_STEP: Final = "UPDATE entgldb_schema SET version = version + 1 WHERE version = $1"
"""Of two processes that begin a step the second waits here for the first, and then finds nothing to do."""
_FORCED: Final = (
    "SELECT relname FROM pg_class WHERE relforcerowsecurity AND relnamespace = current_schema()::regnamespace"
)
_MOVE: Final = f"UPDATE entgldb_tenants SET version = version + {1 << FORMAT_BITS}"  # noqa: S608 -- constants
_TENANTS: Final = (
    "CREATE TABLE entgldb_tenants (tenant TEXT PRIMARY KEY, version BIGINT NOT NULL,"
    " issuer TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'active',"
    " since_ms BIGINT NOT NULL DEFAULT 0, documents BIGINT NOT NULL DEFAULT 0,"
    " bytes BIGINT NOT NULL DEFAULT 0, writes BIGINT NOT NULL DEFAULT 0, links BIGINT NOT NULL DEFAULT 0,"
    " origins BIGINT NOT NULL DEFAULT 0, side BIGINT NOT NULL DEFAULT 0, noted BIGINT NOT NULL DEFAULT 0)"
)
"""The row that a group of writes locks; it is also the tenant's row in the catalogue of all processes.

``side``: the tables of documents that the tenant shows. ``noted``: whether it is noted of which keys anything
changes."""
_PROCESSES: Final = (
    "CREATE TABLE entgldb_processes (process TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL, links TEXT NOT NULL)"
)
"""The gateways that each process has, as it said last: names of the host, no tenant's data."""
_NAMES: Final = "CREATE POLICY entgldb_names ON entgldb_tenants FOR SELECT USING (true)"
"""A process looks at the rows of all its tenants at once: a name is there, and no document."""
_MINE: Final = f"tenant = current_setting('{SETTING}', true)"
PARTED: Final = ("entgldb_oplog", "entgldb_documents_a", "entgldb_documents_b")
"""The tables that grow with what is written."""
PARTS: Final = 16
"""Of each of them, by a hash of the tenant: VACUUM, and each index, has to do with a part of the rows."""
_OTHERS: Final = ("CockroachDB", "-YB-")
"""In their ``version()``: they spread the rows of every table by themselves, as Citus does."""
_CITUS: Final = "SELECT 1 FROM pg_extension WHERE extname = 'citus'"
_SHOWN: Final = (
    "CREATE VIEW {name} AS SELECT d.* FROM {one} d JOIN entgldb_tenants t ON t.tenant = d.tenant"
    " WHERE t.side = 0 UNION ALL SELECT d.* FROM {two} d JOIN entgldb_tenants t ON t.tenant = d.tenant"
    " WHERE t.side = 1"
)
"""For people: no statement of ours reads it."""
NOTES: Final = "entgldb.noted"
"""Set to ``1`` in a transaction whose changes are noted: see ``merging/sides.py``."""
_NOTE: Final = (
    "CREATE FUNCTION entgldb_touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'DELETE' THEN"
    " INSERT INTO entgldb_next_touched (tenant, collection, key) VALUES (OLD.tenant, OLD.collection, OLD.key)"
    " ON CONFLICT DO NOTHING; ELSE"
    " INSERT INTO entgldb_next_touched (tenant, collection, key) VALUES (NEW.tenant, NEW.collection, NEW.key)"
    " ON CONFLICT DO NOTHING; END IF; RETURN NULL; END $$"
)
_TRIGGER: Final = (
    "CREATE TRIGGER entgldb_touch AFTER {events} ON {name} FOR EACH ROW"
    f" WHEN (current_setting('{NOTES}', true) = '1') EXECUTE FUNCTION entgldb_touch()"
)
_TRIGGERS: Final = (
    "SELECT 1 FROM pg_trigger WHERE tgname = 'entgldb_touch' AND tgrelid = 'entgldb_oplog'::regclass"
)
_C: Final = 'TEXT COLLATE "C"'
"""Byte by byte, as SQLite orders text; CockroachDB orders all text so by itself."""


def prepare(server: Server) -> None:
    """Make the tables where there are none, and bring older ones to this release's form.

    Raises ConfigError: newer tables, unreleased ones, a role that sees all rows.
    """
    _check_role(server)
    for left in reversed(range(_TRIES)):
        try:
            if not server.alone(_THERE):
                _make(server)
            while (found := _format(server)) < FORMAT:
                _bring_forward(server, found)
            break
        except PostgresFault:
            # another process makes them at this moment
            if not left:
                raise
    if not server.whole:
        _check_parts(server)
        server.notes = bool(server.alone(_TRIGGERS))
        server.whole = True


def must_be_current(server: Server) -> None:
    """Raise ConfigError where the tables are not of this release: who only reads changes nothing."""
    found = _format(server)
    if found < FORMAT:
        raise ConfigError(
            f"the tables on PostgreSQL have format {found}", hint="start a cloud node: it brings them up"
        )


def first_version() -> int:
    """The version of the row of a new tenant."""
    return FORMAT - 1 << FORMAT_BITS


def is_newer(version: int) -> bool:
    """Whether a tenant's row is of a format that this release does not know."""
    return version >> FORMAT_BITS >= FORMAT


def statements(*, collate: bool, parted: bool) -> list[str]:
    """All of what makes the tables, in format 1. ``parted``: for PostgreSQL itself, with triggers."""
    made, names = [_TENANTS], ["entgldb_tenants"]
    for called, table in tables().items():
        name = on_side(called, 0)
        first, *others = (on_side(one, 0) for one in table.ddl)
        names.append(name)
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
    made += [
        _SHOWN.format(name=name, one=on_side(name, 0), two=on_side(name, 1))
        for name in (f"entgldb_{one}" for one in SIDED)
    ]
    if parted:
        made += [_NOTE, *_triggers()]
    made += [_NAMES, _PROCESSES, "CREATE TABLE entgldb_schema (version BIGINT PRIMARY KEY)"]
    made.append("INSERT INTO entgldb_schema (version) VALUES (1)")
    return made


def _triggers() -> Iterator[str]:
    """Those of a file, but that they are there all the time."""
    for of in dict.fromkeys(of for of, *_ in WATCHED):
        events = " OR ".join(event for watched, event, _ in WATCHED if watched == of)
        for name in dict.fromkeys(on_side(f"entgldb_{of}", side) for side in (0, 1)):
            yield _TRIGGER.format(events=events, name=name)


def _make(server: Server) -> None:
    ((said,),) = server.alone("SELECT version()")
    parted = not any(name in said for name in _OTHERS) and not server.alone(_CITUS)
    script = statements(collate="CockroachDB" not in said, parted=parted)
    server.alone("; ".join(["BEGIN", "SET LOCAL lock_timeout = '2s'", *script, "COMMIT"]))


def _format(server: Server) -> int:
    ((found,),) = server.alone("SELECT version FROM entgldb_schema")
    if found > FORMAT:
        raise ConfigError(
            f"the tables on PostgreSQL have format {found}, this release knows up to {FORMAT}",
            hint="use the newer release of entgldb that made them",
        )
    return int(found)


def _bring_forward(server: Server, found: int) -> None:
    """One step, in a transaction: nothing where another process has done it."""
    with server.changing("") as held:
        if not held.execute(_STEP, [found]).rowcount:
            return
        # the owner, too, sees no row of any tenant where row-level security is forced
        forced = [name for (name,) in held.execute(_FORCED).fetchall()]
        for name in forced:
            held.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
        held.execute(STEPS[found - 1])
        held.execute(_MOVE)
        for name in forced:
            held.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")


def _check_parts(server: Server) -> None:
    """While nothing was released, format 1 got columns and tables now and then."""
    wanted = {(on_side(name, 0), column) for name, table in tables().items() for column in table.columns}
    wanted |= {("entgldb_tenants", "noted"), ("entgldb_processes", "links")}
    missing = wanted - set(server.alone(_PARTS))
    if missing:
        raise ConfigError(
            "the tables on PostgreSQL were made before the first release, in a form that no release reads"
            f" ({'.'.join(min(missing))} is missing)",
            hint="begin with an empty database, which the gateways fill",
        )


def _check_role(server: Server) -> None:
    ((name, passes),) = server.alone(
        "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    if passes:
        raise ConfigError(
            f"the role {name} of cloud.storage can read every row, row-level security or not",
            hint=f"ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS, or name another role",
        )
