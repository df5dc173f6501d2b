"""Rates as people write them."""

from __future__ import annotations

import click
import pytest

from entgldb.launch.cli.cluster.rates import read_rate, told


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0),
        ("8192", 8192),
        ("200kB", 200_000),
        ("200KB/s", 200_000),
        ("1.5MB/s", 1_500_000),
        ("64 KiB", 65_536),
    ],
)
def test_a_rate_is_read_with_its_unit(text: str, rate: int) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize("text", ["fast", "-1", "2 furlongs", "1e9", "kB", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not like 200kB"):
        read_rate(text)


def test_a_limit_is_told_and_none_is_not() -> None:
    assert [told(rate) for rate in (0, None, 5_000, 1_500_000, 2_000_000_000)] == [
        "",
        "",
        "at most 5 kB/s",
        "at most 1.5 MB/s",
        "at most 2 GB/s",
    ]
