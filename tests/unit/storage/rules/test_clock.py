"""The hybrid clock: one integer, monotone, carrying."""

import pytest

from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.storage.rules import clock

NOW = 1_790_000_000_000


def test_a_new_write_is_after_the_last_and_not_before_now() -> None:
    first = clock.tick(0, NOW)
    assert clock.ms_of(first) == NOW
    assert clock.tick(first, NOW) == first + 1
    assert clock.tick(first, NOW - 5_000) == first + 1
    assert clock.ms_of(clock.tick(first, NOW + 1)) == NOW + 1


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    last = clock.from_ms(NOW) | 0xFFFF
    assert clock.tick(last, NOW) == clock.from_ms(NOW + 1)


def test_merging_never_goes_back() -> None:
    assert clock.advance(5, 3) == 5
    assert clock.advance(3, 5) == 5


def test_the_drift_bound_is_crossed_by_one_millisecond() -> None:
    assert not clock.too_far_ahead(clock.from_ms(NOW + DRIFT_MS_MAX), NOW)
    assert clock.too_far_ahead(clock.from_ms(NOW + DRIFT_MS_MAX) + 1, NOW)


def test_it_fits_into_an_sqlite_integer_for_a_long_time() -> None:
    in_the_year_4000 = 64_060_588_800_000
    assert clock.from_ms(in_the_year_4000) < clock.HLC_MAX


DAY, MONTH = 24 * 3_600_000, 31 * 24 * 3_600_000


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        ([], NOW),
        ([NOW + MONTH], NOW + MONTH),
        ([NOW, NOW + MONTH], NOW),
        ([NOW, NOW, NOW + MONTH], NOW),
        ([NOW, NOW + MONTH, NOW + MONTH], NOW + MONTH),
        ([NOW, NOW, NOW + MONTH, NOW + MONTH], NOW),
        ([NOW, NOW + DAY, NOW + MONTH], NOW + DAY),
        ([0, 1, NOW - DAY], NOW),
        ([clock.HLC_MAX, NOW, NOW], NOW),
    ],
)
def test_a_time_is_known_when_more_than_half_of_the_clocks_have_shown_it(
    shown: list[int], known: int
) -> None:
    assert clock.known_ms(NOW, shown) == clock.known_ms(NOW, shown[::-1]) == known


def test_a_board_in_1970_believes_most_of_the_others() -> None:
    assert clock.known_ms(0, [0, NOW, NOW + 5]) == NOW
    assert clock.known_ms(0, [NOW - DAY, NOW]) == NOW - DAY
