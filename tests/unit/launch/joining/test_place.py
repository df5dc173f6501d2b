"""Where an invitation waits, on machines that reach nothing else or are reached through another one."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from entgldb.launch.joining import place
from entgldb.messages.errors import InvalidError

ANOTHERS = "192.0.2.7"
"""For documentation (RFC 5737): no machine has it."""


def adapters(*addresses: object) -> list[SimpleNamespace]:
    return [SimpleNamespace(ips=[SimpleNamespace(ip=address)]) for address in addresses]


@pytest.mark.parametrize(
    ("has", "named"),
    [
        (("127.0.0.1", ("fe80::1", 0, 2), "10.0.5.1"), "10.0.5.1"),
        (("127.0.0.1",), "127.0.0.1"),
    ],
)
def test_a_network_without_a_way_out_has_an_address(
    monkeypatch: pytest.MonkeyPatch, has: tuple[object, ...], named: str
) -> None:
    # the kernel refuses a broadcast that nobody has allowed, as it does where no way leads
    monkeypatch.setattr(place, "OUTSIDE", ("255.255.255.255", 9))
    monkeypatch.setattr(place, "get_adapters", lambda: adapters(*has))
    assert place.own_address() == named


def test_it_waits_behind_a_router_that_passes_the_port_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidError, match=f"cannot wait at {ANOTHERS}:{port}: Address already"):
            place.listener(ANOTHERS, port)
    with place.listener(ANOTHERS, port), socket.create_connection(("127.0.0.1", port), timeout=20):
        pass


def test_it_does_not_wait_at_anothers_address_without_a_port() -> None:
    with pytest.raises(InvalidError, match="Cannot assign") as refused:
        place.listener(ANOTHERS, 0)
    assert "with --port that of a router" in refused.value.hint
