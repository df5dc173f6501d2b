"""Members and strangers at one listener, counted."""

from __future__ import annotations

import pytest

from entgldb.actors.tls.entrance import Entrance, place_of
from entgldb.messages.limits import LINK_STRANGERS_MAX, LINKS_MAX, LINKS_PER_ADDRESS_MAX


def test_a_flood_from_one_address_turns_out_its_own_oldest() -> None:
    entrance = Entrance()
    assert entrance.enter(1, "10.0.0.9") == []
    gone = [
        link for number in range(2, 3 * LINK_STRANGERS_MAX) for link in entrance.enter(number, "10.0.0.1")
    ]
    assert gone == list(range(2, 2 + len(gone)))
    assert 1 not in gone
    assert not entrance.full("10.0.0.9")
    assert not entrance.full("10.0.0.1")


def test_a_link_that_has_proved_itself_is_no_stranger_any_more() -> None:
    entrance = Entrance()
    entrance.enter(1, "10.0.0.1")
    entrance.proved(1)
    gone = [
        link for number in range(2, 3 * LINK_STRANGERS_MAX) for link in entrance.enter(number, "10.0.0.1")
    ]
    assert gone
    assert 1 not in gone


def test_members_have_a_bound_and_one_for_each_address() -> None:
    entrance = Entrance()
    for number in range(LINKS_MAX):
        host = f"10.0.0.{number // LINKS_PER_ADDRESS_MAX}"
        assert not entrance.full(host)
        entrance.enter(number, host)
        entrance.proved(number)
        assert entrance.full("10.0.0.0") is (number >= LINKS_PER_ADDRESS_MAX - 1)
    assert entrance.full("10.9.9.9")
    entrance.leave(0)
    assert not entrance.full("10.0.0.0")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address_of_version_6_is_a_whole_network(one: str, other: str, same: bool) -> None:
    assert (place_of(one) == place_of(other)) is same
