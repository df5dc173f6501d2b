"""Members and strangers at one listener, counted."""

from __future__ import annotations

import pytest

from entgldb.actors.tls.entrance import TURN_SECONDS, Entrance, place_of
from entgldb.messages.limits import (
    LINK_STRANGERS_MAX,
    LINK_WAITING_MAX,
    LINKS_MAX,
    LINKS_PER_MEMBER_MAX,
    TENANT_LINKS_MAX,
    TENANT_LINKS_WAITING_MAX,
)


def come(entrance: Entrance, link: int, host: str, now: float = 0.0) -> tuple[list[int], list[int]]:
    """It has said its first record."""
    assert entrance.enter(link, host) == []
    entrance.ready(link)
    return entrance.turns(now)


def test_a_flood_from_one_address_turns_out_its_own_oldest() -> None:
    entrance = Entrance()
    assert entrance.enter(1, "10.0.0.9") == []
    gone = [link for number in range(2, 3 * LINK_WAITING_MAX) for link in entrance.enter(number, "10.0.0.1")]
    assert gone == list(range(2, 2 + len(gone)))
    assert len(gone) > LINK_WAITING_MAX
    assert 1 not in gone
    assert not entrance.full()
    assert not entrance.crowded


def test_a_cloud_of_tenants_has_room_for_more_who_wait() -> None:
    entrance = Entrance(TENANT_LINKS_MAX)
    gone = [
        link for link in range(TENANT_LINKS_WAITING_MAX + 2) if entrance.enter(link, f"10.0.0.{link % 2}")
    ]
    assert gone == [TENANT_LINKS_WAITING_MAX, TENANT_LINKS_WAITING_MAX + 1]


def test_of_those_who_have_begun_a_bounded_number_is_spoken_to_in_order() -> None:
    entrance = Entrance()
    for number in range(LINK_STRANGERS_MAX):
        assert come(entrance, number, "10.0.0.1") == ([number], [])
    late = range(100, 110)
    for number in late:
        assert come(entrance, number, "10.0.0.1") == ([], [])
    assert entrance.crowded
    entrance.leave(3)
    assert entrance.turns(0.0) == ([100], [])
    assert entrance.proved(4, "shop") is None
    assert entrance.turns(0.0) == ([101], [])
    # whose turn has lasted, makes room
    assert entrance.turns(TURN_SECONDS) == ([*late[2:]], [0, 1, 2, *range(5, 10)])
    assert not entrance.crowded


def test_one_of_another_address_does_not_wait_behind_the_crowd() -> None:
    entrance = Entrance()
    for number in range(LINK_STRANGERS_MAX + 9):
        come(entrance, number, "10.0.0.1")
    assert come(entrance, 500, "10.0.0.2") == ([500], [0])
    assert come(entrance, 501, "10.0.0.1") == ([], [])


def test_where_members_leave_no_room_nobody_waits_for_it() -> None:
    entrance = Entrance(1)
    come(entrance, 1, "10.0.0.1")
    entrance.proved(1, "shop")
    assert come(entrance, 2, "10.0.0.1") == ([], [2])


def test_a_link_that_has_proved_itself_is_no_stranger_any_more() -> None:
    entrance = Entrance()
    come(entrance, 1, "10.0.0.1")
    assert entrance.proved(1, "lan-1") is None
    gone = [
        link
        for number in range(2, 3 * LINK_STRANGERS_MAX)
        for link in come(entrance, number, "10.0.0.1", TURN_SECONDS * number)[1]
    ]
    assert gone
    assert 1 not in gone


@pytest.mark.parametrize(("given", "most"), [(0, LINKS_MAX), (TENANT_LINKS_MAX, TENANT_LINKS_MAX)])
def test_members_have_a_bound_wherever_they_come_from(given: int, most: int) -> None:
    entrance = Entrance(given)
    for number in range(most):
        assert not entrance.full()
        come(entrance, number, "10.0.0.1")
        assert entrance.proved(number, f"lan-{number}") is None
    assert entrance.full()
    entrance.leave(0)
    assert not entrance.full()


def test_a_member_with_many_addresses_takes_its_own_room_alone() -> None:
    entrance = Entrance()
    come(entrance, 0, "2001:db8::1")
    entrance.proved(0, "other")
    gone = []
    for number in range(1, 2 * LINKS_MAX):
        assert not entrance.full()
        come(entrance, number, f"2001:db8:{number:x}::1")
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
