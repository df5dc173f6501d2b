"""A real PostgreSQL that was restored, or whose standby took over, without the last commits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.model import Entry
from entgldb.storage.postgres.server import server
from entgldb.storage.postgres.store import Store
from entgldb.storage.rules.incarnations import Why
from tests.support import postgres
from tests.support.postgres import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NOW = 1_790_000_000_000
EACH = 30
"""Entries of a group."""


@pytest.fixture
def running() -> Iterator[Running]:
    with postgres.a_server() as made:
        yield made
        server(made.address).close()


@pytest.fixture
def groups() -> Iterator[list[list[Entry]]]:
    """Three groups of a node of the LAN."""
    giver = Store.memory("g", b"g", NOW)
    made = []
    for turn in range(3):
        with giver.group():
            writes = [Write("users", f"k{turn}-{n}", b"{}") for n in range(EACH)]
            giver.write(RequestId(b"g" * 16, turn), writes, NOW)
        first = turn * EACH + 1
        made.append(giver.entries([(giver.origin, seq) for seq in range(first, first + EACH)]))
    yield made
    giver.connection.close()


def take(store: Store, entries: list[Entry]) -> None:
    with store.group():
        assert store.apply(entries, NOW).refused == ""


def opened(running: Running, name: str) -> Store:
    return Store.connect(running.address, name, "cloud", NOW)


def write(store: Store) -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "ours", b"{}")], NOW)


@pytest.mark.parametrize("promoted", [True, False], ids=["a standby took over", "an older copy was put back"])
def test_what_the_database_lost_comes_again_and_each_tenant_goes_on_as_a_new_writer(
    running: Running, groups: list[list[Entry]], *, promoted: bool
) -> None:
    ours, idle = opened(running, "ours"), opened(running, "idle")
    take(ours, groups[0])
    take(idle, groups[0])
    running.copy(*(["-R"] if promoted else []))
    take(ours, groups[1])
    take(idle, groups[1])
    write(ours)
    assert len(ours.rows(1, 999)) == 2 * EACH + 1
    idle.close()

    running.put_back()
    if promoted:
        # before it has the place of the other, it is nothing to begin on
        with pytest.raises(EntglError, match=r"read-only|recovery"):
            take(ours, groups[2])
        running.run("pg_ctl", ("-w", "-D", str(running.data), "promote"))
    with pytest.raises(EntglError, match=r"another PostgreSQL|older on PostgreSQL than it was") as told:
        take(ours, groups[2])
    assert told.value.code == ErrorCode.DISK_ERROR

    for before in (ours, idle):
        anew = opened(running, before.on.tenant)
        assert (anew.reborn, anew.origin == before.origin) == (Why.ROLLED_BACK, False)
        assert len(anew.rows(1, 999)) == EACH
        take(anew, groups[1])
        take(anew, groups[2])
        write(anew)
        assert len(anew.rows(1, 999)) == 3 * EACH + 1
        assert [row.lsn for row in anew.rows(1, 999)] == list(range(1, 3 * EACH + 2))
        assert opened(running, before.on.tenant).origin == anew.origin
