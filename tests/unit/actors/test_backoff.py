"""Waiting doubles up to its bound, and jitter takes at most a half of it."""

from __future__ import annotations

from random import Random

from entgldb.actors.backoff import backoff


def test_waiting_doubles_up_to_its_bound_however_often_it_fails() -> None:
    assert [backoff(failures, 0.5, 5.0) for failures in (1, 2, 3, 4, 5, 10_000)] == [0.5, 1, 2, 4, 5, 5]


def test_with_jitter_nobody_waits_less_than_half() -> None:
    waits = [backoff(3, 1.0, 60.0, Random(seed)) for seed in range(200)]
    assert 2.0 <= min(waits) < 2.2 < 3.8 < max(waits) <= 4.0
