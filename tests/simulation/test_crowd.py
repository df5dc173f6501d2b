"""What a node says at rest grows with the number of nodes, and not with its square."""

from __future__ import annotations

from typing import Final

from tests.simulation.crowd import crowd

BYTES_PER_LINK: Final = 100
"""A second: a heartbeat, and now and then the sender's own report."""


def test_many_nodes_have_one_gateway_and_are_quiet_at_rest() -> None:
    found = crowd(10)
    assert found.gateways == ("lan-1",)
    assert found.frames <= 10
    assert found.bytes <= 9 * BYTES_PER_LINK
    assert found.forming <= 10 * 9 * 25
