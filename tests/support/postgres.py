"""A PostgreSQL for tests: that of ENTGLDB_TEST_POSTGRES, or one from a wheel for each process of the run.

Each test has tenants of its own in one database.
"""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from functools import cache
from hashlib import sha256
from typing import Final

from entgldb.launch.playground import postgres as playground
from entgldb.storage.authorship.authors import Attest, no_attestation
from entgldb.storage.authorship.identity import Identity
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import server
from entgldb.storage.postgres.store import Store, as_sqlite, ensure

GIVEN: Final = "ENTGLDB_TEST_POSTGRES"
"""Environment variable: an address ``postgresql://...``, with a role that is under row-level security."""
a_server, Running = playground.a_server, playground.Running
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


def stop() -> None:
    """End the server, if one was started."""
    _started.close()


def fresh_tenant(name: str = "t") -> str:
    """The name of a tenant that no other test has."""
    return f"{name}-{os.getpid()}-{next(_counter)}"


def open_store(name: str, now_ms: int) -> Store:
    """A store of a new tenant."""
    return Store.connect(address(), fresh_tenant(name), name, now_ms)


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
