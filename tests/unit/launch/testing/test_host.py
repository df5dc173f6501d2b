"""What the simulated host takes for a fault of an actor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from entgldb.launch.testing.host import ActorAsker, Host
from entgldb.messages.client import Refused
from entgldb.messages.errors import ErrorCode
from entgldb.messages.local.actors import ApplyInitialPeers


@pytest.mark.parametrize(
    ("code", "faults"), [(ErrorCode.CLOCK, 0), (ErrorCode.DISK_FULL, 0), (ErrorCode.INVALID, 1)]
)
def test_an_actor_may_be_refused_by_the_clock_and_the_disk_alone(code: ErrorCode, faults: int) -> None:
    said: list[str] = []
    host = cast(Host, SimpleNamespace(violate=said.append))
    ActorAsker(host, "store", "node", ApplyInitialPeers((), 1)).answer(Refused(code.value, "not now"))
    assert len(said) == faults
