"""Verification is also run on PostgreSQL: what it does to rows."""

from __future__ import annotations

import pytest

from tests.support.on_postgres import also_there, database

__all__ = ["database"]

TESTS = (
    "test_a_damaged_body_and_lost_rows_are_mended_on_both_sides",
    "test_a_stale_row_gives_way_to_the_greater_version_and_a_raised_one_to_the_tombstone",
    "test_what_nobody_can_tell_is_listed_and_left",
    "test_the_own_log_mends_what_it_still_has_and_a_deleted_document_does_not_come_back",
    "test_a_damaged_document_is_not_mended_with_the_fields_that_its_last_merge_changed",
    "test_what_somebody_has_dropped_stays_dropped",
    "test_without_repair_all_that_differs_is_listed_over_several_passes",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    also_there(metafunc, ("oplog/test_verifier.py",), TESTS)
