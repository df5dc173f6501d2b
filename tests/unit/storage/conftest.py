"""Suites about what the store does that are also run on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.support.on_postgres import also_there, database

__all__ = ["database"]


OF_FILES = (
    "test_a_change_feed_that_has_read_what_came_between_is_told_the_snapshot_behind_it",
    "test_a_long_result_does_not_go_on_with_what_other_documents_are_numbered_by_now",
    "test_who_starts_again_goes_on_where_the_mark_stands",
    "test_another_snapshot_or_a_new_index_begins_anew",
    "test_indexes_are_whole_when_the_last_step_is_done",
    "test_a_merge_that_is_given_up_leaves_the_index_of_words_as_it_is",
    "test_a_step_takes_no_longer_for_what_was_merged_before_it",
)
"""Tests of what only a file has: indexes, readers of the file, instructions of SQLite."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    files = (
        "log/test_prune.py",
        "repair/test_healing.py",
        "repair/test_incarnations.py",
        "snapshot/test_snapshots.py",
        "snapshot/test_snapshots_of_branches.py",
        "snapshot/test_snapshots_of_expelled.py",
        "snapshot/test_steps.py",
    )
    also_there(metafunc, files, OF_FILES)
