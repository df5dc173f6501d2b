"""Which links are admitted while another key of the cluster has begun to count."""

from __future__ import annotations

from entgldb.actors.sync.members.key_watch import KeyWatch
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, MANY_KEYS, Rotation
from tests.support.fake_context import FakeContext
from tests.unit.actors.session.list_log import ListLog

FIRST, SECOND, CERTIFICATE = "11" * 32, "22" * 32, "ee" * 32


class Log(ListLog):
    made_ms, keys = 0, 2

    def high_mark_ms(self) -> int:
        return 0

    def rotation(self) -> Rotation:
        return Rotation(SECOND, "n2", self.made_ms, {"n3": (CERTIFICATE, "")}, ((FIRST, ""),) * self.keys)


def test_the_key_that_a_node_holds_is_that_of_its_file_whatever_its_row_says() -> None:
    held = FIRST
    watch = KeyWatch(lambda: held)
    watch.nodes = [{"NodeId": "n1", "ClusterKey": FIRST}]
    watch.look(Log(), frozenset({"x"}), FakeContext())
    assert watch.admits("thief", CERTIFICATE, FIRST)
    held = SECOND
    assert not watch.admits("thief", CERTIFICATE, FIRST)
    report = watch.report()
    assert report is not None
    assert (report["held"], report["lacking"]) == (SECOND, ["n3"])
    assert watch.admits("n3", CERTIFICATE, FIRST), "it could not be given the key"


def test_for_a_node_that_is_out_nobody_waits() -> None:
    watch = KeyWatch(lambda: SECOND)
    watch.nodes = [{"NodeId": name, "ClusterKey": FIRST, "Accepted": CERTIFICATE} for name in ("n1", "n3")]
    for out, waiting in ((frozenset[str](), ["n1", "n3"]), (frozenset({"n1"}), ["n3"])):
        watch.look(Log(), out, FakeContext())
        report = watch.report()
        assert report is not None
        assert report["waiting"] == waiting


def test_who_comes_in_an_open_window_has_not_shown_that_the_key_was_made_for_it() -> None:
    watch = KeyWatch(lambda: FIRST)
    assert not watch.is_for("n3", CERTIFICATE, FIRST), "no key was made yet"
    watch.nodes = [{"NodeId": "n1", "ClusterKey": FIRST}]
    log, ctx = Log(), FakeContext()
    log.made_ms = ctx.now_ms()
    watch.look(log, frozenset(), ctx)
    watch.held = lambda: SECOND
    assert watch.admits("thief", CERTIFICATE, FIRST)
    assert not watch.is_for("thief", CERTIFICATE, FIRST)
    assert not watch.is_for("n3", "", SECOND)
    assert watch.is_for("n3", CERTIFICATE, FIRST)
    assert watch.is_for("n4", CERTIFICATE, SECOND)


def test_that_many_keys_were_made_is_an_alarm_while_a_new_cloud_can_still_follow_and_then() -> None:
    watch, log = KeyWatch(lambda: SECOND), Log()
    assert watch.alarms() == []
    told = {}
    for log.keys in (MANY_KEYS - 1, MANY_KEYS, CHAIN_MAX):
        watch.look(log, frozenset(), FakeContext())
        told[log.keys] = [(one["code"], one["subject"], one["text"]) for one in watch.alarms()]
    assert told[MANY_KEYS - 1] == []
    ((code, subject, soon),) = told[MANY_KEYS]
    ((_, _, over),) = told[CHAIN_MAX]
    assert (code, subject) == ("many-keys", "n2")
    assert f"after {CHAIN_MAX - MANY_KEYS} more a cloud that is new" in soon
    assert f"{CHAIN_MAX} cluster keys or more were made, the last by n2: now a cloud that is new" in over
    assert over.endswith("without need: entgldb audit")
