"""The authority is away for longer than a token lives, and comes back."""

from __future__ import annotations

from entgldb.launch.testing.edges import TOKEN_LIFE_SECONDS
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, quiet, seconds_until_everywhere, settled_again, start

AWAY_SECONDS = 170.0


def test_the_link_is_back_within_seconds_and_every_node_had_said_why_it_went() -> None:
    run = calm(3, cloud=True)
    epoch = (run._ask(run.lan[0], "election") or {})["epoch"]
    run.authority.up = False
    run.world.run(TOKEN_LIFE_SECONDS - 1.0)
    told = [run._ask(node, "election") or {} for node in run.lan]
    # the link is still there, and all know that it will not be
    assert [(one["connected"], one["troubles"]) for one in told] == [
        (["cloud"], {"cloud": "authority-unreachable"})
    ] * 3
    run.world.run(AWAY_SECONDS - TOKEN_LIFE_SECONDS)
    told = [run._ask(node, "election") or {} for node in run.lan]
    assert [(one["connected"], one["epoch"]) for one in told] == [([], epoch)] * 3
    assert all(one["troubles"] for one in told)
    run.clients[0].write_now("meanwhile")
    run.authority.up = True
    began = run.world.time
    settled_again(run, 5.0)
    assert run.world.time - began <= 5.0
    told = [run._ask(node, "election") or {} for node in run.lan]
    assert [one["troubles"] for one in told] == [{}] * 3
    assert run.finish().violations == []


def test_two_clouds_have_all_and_one_that_is_gone_does_not_hold_up_the_other() -> None:
    run = Run(2, options=quiet(3, cloud=True))
    first, second = run.clouds
    start(run)
    assert seconds_until_everywhere(run, "to both", run.nodes) < 1.0
    first.crash()
    run.world.run(10.0)
    others = [node for node in run.nodes if node is not first]
    assert seconds_until_everywhere(run, "to one", others) < 1.0
    told = (run._ask(run.lan[2], "election") or {})["troubles"]
    assert told == {first.name: "unreachable"}
    first.start()
    settled_again(run, 90.0)
    assert second.log.vector() == first.log.vector()
    assert run.finish().violations == []
