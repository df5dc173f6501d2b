"""Members and strangers at one listener, counted."""

from __future__ import annotations

import pytest

from entgldb.actors.tls.entrance import Entrance, place_of
from entgldb.messages.limits import LINK_STRANGERS_MAX, LINKS_MAX, LINKS_PER_MEMBER_MAX


def test_a_flood_from_one_address_turns_out_its_own_oldest() -> None:
    entrance = Entrance()
    assert entrance.enter(1, "10.0.0.9") == []
    gone = [
        link for number in range(2, 3 * LINK_STRANGERS_MAX) for link in entrance.enter(number, "10.0.0.1")
    ]
    assert gone == list(range(2, 2 + len(gone)))
    assert 1 not in gone
    assert not entrance.full()


def test_a_link_that_has_proved_itself_is_no_stranger_any_more() -> None:
    entrance = Entrance()
    entrance.enter(1, "10.0.0.1")
    assert entrance.proved(1, "lan-1") is None
    gone = [
        link for number in range(2, 3 * LINK_STRANGERS_MAX) for link in entrance.enter(number, "10.0.0.1")
    ]
    assert gone
    assert 1 not in gone


@pytest.mark.parametrize(("given", "most"), [(0, LINKS_MAX), (2 * LINKS_MAX, 2 * LINKS_MAX)])
def test_members_have_a_bound_wherever_they_come_from(given: int, most: int) -> None:
    entrance = Entrance(given)
    for number in range(most):
        assert not entrance.full()
        entrance.enter(number, "10.0.0.1")
        assert entrance.proved(number, f"lan-{number}") is None
    assert entrance.full()
    entrance.leave(0)
    assert not entrance.full()


def test_a_member_with_many_addresses_takes_its_own_room_alone() -> None:
    entrance = Entrance()
    entrance.enter(0, "2001:db8::1")
    entrance.proved(0, "other")
    gone = []
    for number in range(1, 2 * LINKS_MAX):
        assert not entrance.full()
        entrance.enter(number, f"2001:db8:{number:x}::1")
        gone.append(entrance.proved(number, "shop"))
        assert entrance.proved(number, "shop") is None
    assert gone[:LINKS_PER_MEMBER_MAX] == [None] * LINKS_PER_MEMBER_MAX
    assert gone[LINKS_PER_MEMBER_MAX:] == list(range(1, 2 * LINKS_MAX - LINKS_PER_MEMBER_MAX))


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
