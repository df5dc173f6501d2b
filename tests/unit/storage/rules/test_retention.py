"""The entries that may be forgotten, and the members for whose sake the rest is kept."""

from __future__ import annotations

from entgldb.messages.wire import Member
from entgldb.storage.rules import retention
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.results import Heard
from entgldb.storage.rules.retention import HOUR_MS, Voice

A, B = "a/" + "1" * 32, "b/" + "2" * 32
NOW = 1_800_000_000_000
LIMIT = 720 * HOUR_MS


def test_stable_is_what_every_voice_has() -> None:
    found = retention.survey({A: 9, B: 4}, [Voice("b", {A: 7, B: 4}, NOW), Voice("c", {A: 8}, NOW)], {})
    assert found.stable == {A: 7}
    assert found.aged == {}
    assert found.witnessed == {A: 9, B: 4}


def saying(vector: dict[str, int], unsettled: dict[str, int] | None, cluster: str = "c") -> Heard:
    return Heard(Member(f"n/{len(vector):032x}", 1, NOW, vector, 0, cluster, unsettled), NOW)


def test_a_row_says_in_its_word_what_it_does_not_except() -> None:
    assert saying({A: 9, B: 4}, {A: 7}).row.settled == {A: 7, B: 4}
    assert saying({A: 9, B: 4}, {}).row.settled == {A: 9, B: 4}
    assert saying({A: 9}, None).row.settled == {}


def test_a_cloud_forgets_what_every_cluster_says_all_have_whoever_of_it_knows_most() -> None:
    rows = [saying({A: 9}, {A: 2}), saying({A: 9, B: 4}, {A: 5, B: 1}), saying({A: 3, B: 3}, {}, cluster="d")]
    ours = {A: 9, B: 4}
    clusters = retention.said(rows, "", ours)
    assert {one.name: one.vector for one in clusters} == {"c": {A: 5, B: 1}, "d": {A: 3, B: 3}}
    found = retention.survey_of_cloud(ours, [], {}, clusters)
    assert found.forgettable == found.settled == {A: 3, B: 1}
    assert [one.name for one in retention.said(rows, "d", ours)] == ["d"], "only that one is served"


def test_a_word_counts_in_a_cloud_once_it_has_what_its_node_had() -> None:
    rows = [saying({A: 9, B: 4}, {A: 5})]
    (early,), (late,) = (retention.said(rows, "", ours) for ours in ({A: 9, B: 3}, {A: 9, B: 4}))
    assert (early.vector, late.vector) == ({}, {A: 5, B: 4})


def test_a_cloud_that_no_cluster_has_told_anything_forgets_no_tombstone() -> None:
    of_clouds, ours = [saying({A: 9}, {}, cluster="")], {A: 9}
    for said in (retention.said(rows, name, ours) for rows in ([], of_clouds) for name in ("", "c")):
        assert retention.survey_of_cloud(ours, [], ours, said).forgettable == {}


def test_a_node_says_what_all_have_whom_it_knows_and_forgets_what_clouds_say_so_too() -> None:
    clouds = [Voice("cloud", {A: 6}, NOW)]
    found = retention.survey({A: 9}, [Voice("b", {A: 8}, NOW)], {}, [Voice("c", {A: 7}, NOW)], clouds)
    assert (found.stable, found.settled, found.forgettable) == ({A: 8}, {A: 7}, {A: 6})


def test_alone_everything_is_stable_once_it_is_old() -> None:
    found = retention.survey({A: 9}, [], {A: 5})
    assert (found.stable, found.aged) == ({A: 9}, {A: 5})


def test_age_alone_is_never_enough() -> None:
    found = retention.survey({A: 9}, [Voice("b", {A: 2}, NOW)], {A: 9})
    assert found.aged == {A: 2}


def test_a_member_that_never_spoke_has_acknowledged_nothing_and_is_named() -> None:
    (voice,) = retention.voices(["b"], {})
    found = retention.survey({A: 9}, [voice], {A: 9})
    assert found.aged == {}
    assert retention.held_back(found) == {"b": {"entries": 9, "since": None}}


def test_who_has_everything_old_holds_nothing_back() -> None:
    voices = retention.voices(["b"], {"b": Heard(Member(B, 1, NOW, {A: 9}), NOW)})
    assert retention.held_back(retention.survey({A: 12}, voices, {A: 9})) == {}


def test_old_enough_is_told_by_the_latest_mark_of_that_age() -> None:
    marks = [(NOW - 30, {A: 1}), (NOW - 20, {A: 2}), (NOW - 10, {A: 3})]
    assert retention.old_enough(marks, NOW, 20) == {A: 2}
    assert retention.old_enough(marks, NOW, 31) == {}
    assert retention.old_enough([], NOW, 0) == {}


def test_a_member_silent_for_the_limit_of_this_nodes_life_is_absent_whatever_wall_clocks_say() -> None:
    lived = 3 * LIMIT
    silent, heard = Voice("b", {}, NOW, lived - LIMIT - 2), Voice("c", {}, NOW - 9 * LIMIT, lived)
    up = lived - LIMIT // 2
    assert retention.absent([silent, heard], lived, up, LIMIT) == {"b"}
    assert retention.absent([silent._replace(lived_ms=lived - LIMIT + 2), heard], lived, up, LIMIT) == set()


def test_who_has_just_started_takes_nobody_for_absent() -> None:
    others = [Voice("b", {}, NOW, LIMIT), Voice("c", {}, NOW, LIMIT)]
    assert retention.absent(others, 3 * LIMIT, 3 * LIMIT - 1000, LIMIT) == set()


def test_a_node_that_was_up_all_the_time_and_never_heard_somebody_goes_on_without() -> None:
    assert retention.absent([Voice("b", {}, None)], LIMIT + 1, 0, LIMIT) == {"b"}
    assert retention.absent([Voice("b", {}, None)], LIMIT + 1, 2, LIMIT) == set()


def test_behind_is_who_lacks_what_is_pruned() -> None:
    assert not vectors.behind({}, {})
    assert not vectors.behind({A: 3}, {A: 3})
    assert vectors.behind({A: 3}, {A: 2, B: 9})
    assert vectors.behind({A: 3}, {})


def test_meet_join_and_dominates() -> None:
    one, two = {A: 3, B: 1}, {A: 2}
    assert vectors.covered_by_all([one, two]) == {A: 2, B: 0}
    assert vectors.covered_by_any([one, two]) == one
    assert vectors.dominates(one, two)
    assert not vectors.dominates(two, one)
