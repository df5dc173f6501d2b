"""A certificate says who is at the other end, whatever that one says."""

from __future__ import annotations

from entgldb.messages.errors import Reason
from tests.simulation.events.lies import Lies
from tests.simulation.test_calm import calm, settled_again


def test_no_session_runs_under_a_name_that_was_not_certified() -> None:
    run = calm(3)
    lies = Lies(run.world, run.network, run.lan)
    lies.tell(run.lan[0], run.lan[2])
    run.world.run(5.0)
    assert run.world.violations == []
    assert all(node.all_counts()[Reason.WRONG_NODE.value] for node in run.lan[1:])
    lies.over = True
    lies.begin()
    settled_again(run, 90.0)
    assert run.finish().violations == []
