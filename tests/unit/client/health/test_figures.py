"""The figures of one screen, made of two reports."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.client.health.complaints import ACTORS
from entgldb.client.health.figures import Sample, figures, lines


def report(written: int, commits: int, **more: Any) -> dict[str, Any]:
    seconds = {"counts": [commits], "sum": commits * 0.004}
    store = {"written": written, "commit_seconds": seconds, "wal_bytes": 1_500_000, "documents": 12_345}
    return {"node_id": "lan-1", "role": "lan", "store": store, "restarts": {"sync": 2}, **more}


LINK = {"node_id": "lan-2", "state": "connected", "behind_in": 0, "behind_out": 7, "seconds_out": 1.25}


def test_rates_are_of_the_time_between_two_looks() -> None:
    found = figures(Sample(report(10, 5), 0.0, {}), Sample(report(30, 15), 2.0, {"store": 30_000_000}))
    assert (found["writes_per_s"], found["commits_per_s"], found["commit_ms"]) == (
        10.0,
        5.0,
        pytest.approx(4.0),
    )
    assert (found["memory_bytes"], found["restarts"]) == ({"store": 30_000_000}, 2)


@pytest.mark.parametrize("before", [None, Sample(report(50, 20), 0.0, {})])
def test_there_is_no_rate_at_the_first_look_nor_where_the_store_began_anew(before: Sample | None) -> None:
    found = figures(before, Sample(report(30, 15), 2.0, {}))
    assert (found["writes_per_s"], found["commits_per_s"]) == (None, None)
    assert "writes ?/s" in lines(found, 80)[1]


def test_links_and_alarms_have_their_lines_and_a_narrow_terminal_cuts_the_former() -> None:
    alarms = [{"code": "paused", "subject": "lan", "text": "an operator has paused lan sync of this node"}]
    links = {"links": [{"node_id": "c1", "state": "backoff", "reason": "unreachable"}]}
    body = report(1, 1, sync={"peers": [LINK]}, gateway=links, alarms=alarms)
    told = lines(figures(None, Sample(body, 0.0, {})), 80)
    assert "lan   lan-2 connected  behind in 0  out 7 (1.2 s)" in told
    assert "cloud c1 backoff (unreachable)  behind in ?  out ?" in told
    assert "! paused: an operator has paused lan sync of this node" in told
    narrow = lines(figures(None, Sample(body, 0.0, {})), 20)
    assert max(map(len, narrow)) == 20
    assert "lan   lan-2 connect…" in narrow
    whole = ["! paused: an", "  operator has", "  paused lan sync of", "  this node"]
    assert whole == narrow[narrow.index(whole[0]) :][:4]
    assert lines(figures(None, Sample(body, 0.0, {})), 1)[-1] != ""


def test_a_report_without_its_actors_is_shown_too() -> None:
    told = lines(figures(None, Sample({"node_id": "c1", "role": "cloud", "store": None}, 0.0, {})), 80)
    assert told[0] == "c1 (cloud)"
    assert "no links" in told
    assert "! store does not answer: entgldb doctor" in told


def test_all_that_status_complains_of_is_on_the_screen_though_it_is_no_alarm() -> None:
    actors: dict[str, Any] = {name: {} for name in ACTORS}
    body = {"node_id": "c1", "role": "cloud", **actors}
    assert lines(figures(None, Sample(body, 0.0, {})), 80)[-1] == "nothing needs attention"
    body["store"] = {"disk": {"state": "full", "free_bytes": 9}}
    last = lines(figures(None, Sample(body, 0.0, {})), 80)[-1]
    assert last == "! the disk has 9 bytes free, writes are refused: entgldb doctor disk"
