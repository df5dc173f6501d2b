"""Configuration that stays away is told of, that which is on its way is not."""

from __future__ import annotations

import pytest

from entgldb.actors.sync.members.lacking import ALARM_AFTER, LOOK_EVERY, Lacking
from tests.support.fake_context import FakeContext
from tests.unit.actors.session.list_log import THIRD, ListLog


@pytest.mark.parametrize("recorded", [True, False])
def test_configuration_that_nobody_gives_is_told_of_until_it_is_here(*, recorded: bool) -> None:
    log, ctx = ListLog(), FakeContext()
    watch = Lacking(log)

    def told(seconds: float) -> list[object]:
        ctx.run(seconds)
        watch.tend(ctx)
        return list(watch.alarms(ctx))

    assert told(ALARM_AFTER) == []
    log.lacks = {THIRD: 1}
    if recorded:
        log.add(THIRD, collection="_system_remote_peers", applied=False)
    assert told(LOOK_EVERY) == told(ALARM_AFTER - 1) == []
    (alarm,) = told(LOOK_EVERY)
    assert isinstance(alarm, dict)
    assert alarm["code"] == "configuration-lacking"
    assert (f"entry 1 of {THIRD}" if recorded else "what a cloud's snapshot covers") in alarm["text"]
    log.lacks = None
    assert told(LOOK_EVERY) == []
