"""The verb ``invite``, before anybody is asked to come."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from entgldb.client import database
from entgldb.launch.cli.cluster.invite import check_stamps, why_not
from entgldb.messages.errors import EntglError, ErrorCode, NoNodeError, of_expelled
from entgldb.messages.limits import DRIFT_MS_MAX


class Node:
    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def status(self, actor: str) -> dict[str, Any]:
        return {"clock": {"ahead_ms": self.ahead_ms}}


@pytest.fixture
def stamps(monkeypatch: pytest.MonkeyPatch, ahead_ms: int | None) -> None:
    """Of the node that runs, if one does."""

    def connect(directory: Path, timeout: float) -> AbstractContextManager[Node]:
        if ahead_ms is None:
            raise NoNodeError("none runs")
        return nullcontext(Node(ahead_ms))

    monkeypatch.setattr(database, "connect", connect)


@pytest.mark.usefixtures("stamps")
@pytest.mark.parametrize("ahead_ms", [DRIFT_MS_MAX + 1])
def test_a_node_whose_stamps_run_ahead_invites_nobody() -> None:
    """The others hold what it writes: once a node was expelled they would refuse the newcomer."""
    with pytest.raises(EntglError, match="run ahead") as told:
        check_stamps(Path())
    assert told.value.code is ErrorCode.CLOCK


@pytest.mark.usefixtures("stamps")
@pytest.mark.parametrize("ahead_ms", [DRIFT_MS_MAX, 0, None])
def test_any_other_does_whether_it_runs_or_not(ahead_ms: int | None) -> None:
    check_stamps(Path())


@pytest.mark.parametrize(
    ("wanted", "invited", "said"),
    [
        ("", "", ""),
        ("new", "", ""),
        ("", "new", ""),
        ("new", "new", ""),
        ("", "there", ""),
        ("there", "there", ""),
        ("out", "", of_expelled("out")),
        ("", "out", of_expelled("out")),
        ("other", "new", "the invitation is for new, not for other"),
        ("there", "", "a node there is there already; to replace it, invite with --for there"),
    ],
)
def test_a_guest_gets_the_name_that_both_sides_want_unless_it_is_taken_or_out(
    wanted: str, invited: str, said: str
) -> None:
    """It may be expelled while the invitation stands."""
    assert why_not(wanted, invited, {"there", "out"}, {"out"}) == said
