"""The table of members: whose word counts, who is told what, and how it comes to rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from entgldb.actors.session.members import IDLE_SECONDS, OWN_COUNTER_MAX, UNHEARD_SECONDS, Gossip, Members
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages import codec, wire
from entgldb.messages.client import RemovePeer, Report, Status
from entgldb.messages.errors import Reason
from entgldb.messages.limits import COUNT_MAX, MEMBERS_BYTES_MAX, MEMBERS_MAX
from entgldb.messages.local.actors import FrameIn, LinkUp
from entgldb.messages.local.members import MembersHeard, NodesChanged, NoteSelf, RememberMembers
from entgldb.messages.schema import Channel
from entgldb.messages.settings import SyncSettings
from entgldb.messages.wire import Member
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.gateway.gateway_parts import FakeLinks
from tests.unit.actors.session.list_log import ME, THIRD, YOU, ListLog
from tests.unit.actors.session.test_session import Bench
from tests.unit.actors.store.test_store_keeper import Bench as StoreBench

INTERVAL = 2.0


class Rig:
    """Nodes with a table each; time passes for all of them."""

    def __init__(self, *origins: str) -> None:
        self.ctx = FakeContext()
        self.logs = {origin: ListLog() for origin in origins}
        self.tables = {origin: Members(cloud=False) for origin in origins}
        for origin, log in self.logs.items():
            log.origin = origin
        self.links: dict[tuple[str, str], Gossip] = {}

    def beat(self, *pairs: tuple[str, str]) -> int:
        """One heartbeat each way on each link; how many rows travelled."""
        self.ctx.run(1.0)
        rows = 0
        for origin, table in self.tables.items():
            table.look(self.logs[origin], INTERVAL, self.ctx)
        for a, b in [*pairs, *[(b, a) for a, b in pairs]]:
            ours = self.links.setdefault((a, b), Gossip(self.tables[a]))
            theirs = self.links.setdefault((b, a), Gossip(self.tables[b]))
            told = ours.news()
            rows += len(told)
            theirs.heard(told, self.ctx.now_ms())
        return rows


def test_in_a_chain_the_ends_learn_of_each_other() -> None:
    rig = Rig(ME, YOU, THIRD)
    rig.logs[THIRD].add(THIRD)
    for _ in range(4):
        rig.beat((ME, YOU), (YOU, THIRD))
    assert rig.tables[ME].rows["third"].row.vector == {THIRD: 1}


def test_an_idle_cluster_is_told_next_to_nothing() -> None:
    rig = Rig(ME, YOU)
    for _ in range(5):
        rig.beat((ME, YOU))
    beats = 300
    rows = sum(rig.beat((ME, YOU)) for _ in range(beats))
    assert 2 * beats / IDLE_SECONDS / 2 <= rows <= 2 * beats / IDLE_SECONDS


def test_a_row_is_counted_up_when_the_vector_moves_but_not_at_every_beat() -> None:
    rig = Rig(ME, YOU)
    rig.beat((ME, YOU))
    rows = 0
    for _ in range(20):
        rig.logs[ME].add(ME)
        rows += rig.beat((ME, YOU))
    assert 9 <= rows <= 11
    assert rig.tables[YOU].rows["me"].row.vector[ME] >= 18


def test_a_row_is_told_again_when_more_is_settled_and_says_only_what_is_not() -> None:
    rig = Rig(ME, YOU)
    rig.logs[ME].add(ME)
    rig.logs[ME].add(ME)
    rig.logs[ME].add(YOU)
    rig.beat((ME, YOU))
    row = rig.tables[YOU].rows["me"].row
    assert (row.unsettled, row.settled) == (None, {})
    for settled, unsettled in (({ME: 1}, {ME: 1, YOU: 0}), ({ME: 1, YOU: 1}, {ME: 1}), ({ME: 9, YOU: 1}, {})):
        rig.tables[ME].settled = settled
        assert sum(rig.beat((ME, YOU)) for _ in range(3)) == 1
        row = rig.tables[YOU].rows["me"].row
        assert row.unsettled == unsettled
        assert row.settled == {ME: min(2, settled[ME]), YOU: settled.get(YOU, 0)}


def test_a_cloud_takes_of_a_link_the_rows_of_its_cluster_and_of_clouds() -> None:
    table = Members(cloud=True)
    rows = [Member(f"n{number}/" + "0" * 32, 1, 0, {}, 0, name) for number, name in enumerate(("c", "d", ""))]
    assert Gossip(table, cluster="c").heard(rows, 0) == [rows[0], rows[2]]


def test_an_older_word_never_replaces_a_newer_one() -> None:
    table = Members(cloud=False)
    new, old = Member(YOU, 5, 0, {ME: 9}), Member(YOU, 4, 0, {ME: 3})
    assert table.hear(new, 1)
    assert not table.hear(old, 2)
    assert not table.hear(new, 2)
    assert table.rows["you"].row == new


def test_after_a_restart_that_lost_the_counter_the_word_of_the_node_still_counts() -> None:
    rig = Rig(ME, YOU)
    rig.beat((ME, YOU))
    far = Member(ME, OWN_COUNTER_MAX, 0, {ME: 99})
    rig.tables[YOU].rows.pop("me")
    rig.tables[YOU].hear(far, 0)
    rig.links.clear()
    for _ in range(4):
        rig.beat((ME, YOU))
    row = rig.tables[YOU].rows["me"].row
    assert row.counter > far.counter
    assert row.vector == {}


@pytest.mark.parametrize("cloud", [False, True])
def test_nobody_makes_a_node_count_so_far_that_nobody_takes_its_rows(cloud: bool) -> None:
    table, log, ctx = Members(cloud=cloud), ListLog(), FakeContext()
    table.look(log, INTERVAL, ctx)
    Gossip(table).heard([Member(ME, COUNT_MAX, 0, {}), Member(ME, OWN_COUNTER_MAX, 0, {})], 0)
    ctx.run(IDLE_SECONDS)
    table.look(log, INTERVAL, ctx)
    (row,) = Gossip(table).news()
    # a cloud goes by its clock alone: what its clients say of it is not believed
    assert row.counter == (ctx.now_ms() if cloud else OWN_COUNTER_MAX + 1)
    beat = wire.Heartbeat(0, 0, 0, members=(row,))
    assert codec.decode(codec.encode(beat), Channel.PEER).message == beat


def test_a_cloud_speaks_for_itself_only_and_for_no_node_of_the_cluster() -> None:
    table = Members(cloud=False)
    link = Gossip(table, speaks_for="you")
    assert link.heard([Member(THIRD, 1, 0, {}), Member(YOU, 1, 0, {})], 0) == [Member(YOU, 1, 0, {})]
    assert list(table.rows) == ["you"]


def test_a_cloud_node_tells_of_itself_and_keeps_two_clusters_apart() -> None:
    table, log, ctx = Members(cloud=True), ListLog(), FakeContext()
    table.look(log, INTERVAL, ctx)
    link = Gossip(table)
    one, two = Member("n1/" + "a" * 32, 1, 0, {}), Member("n1/" + "b" * 32, 1, 0, {})
    link.heard([one, two], 0)
    assert len(table.rows) == 3
    assert [row.origin for row in Gossip(table).news()] == [ME]


def test_of_those_whom_a_peer_hears_by_itself_it_is_told_nothing_until_it_hears_them_no_more() -> None:
    table, ctx = Members(cloud=False), FakeContext()
    table.look(ListLog(), INTERVAL, ctx)
    table.hear(Member(THIRD, 1, 0, {}), 0)
    link = Gossip(table)
    link.heard_near(["me", "third"])
    assert [row.origin for row in link.news()] == [ME]
    link.heard_near(["me"])
    assert [row.origin for row in link.news()] == [THIRD]


def test_whom_we_hear_is_said_when_it_changes_and_again_with_our_own_row() -> None:
    table, ctx, linked = Members(cloud=False), FakeContext(), ["you"]
    table.look(ListLog(), INTERVAL, ctx)
    link = Gossip(table, linked=lambda: linked)
    assert link.tell_near(()) == ("you",)
    assert link.tell_near(()) is None
    linked.append("third")
    assert link.tell_near(()) == ("third", "you")
    assert link.tell_near(link.news()) == ("third", "you")
    linked.clear()
    assert link.tell_near(()) == ()
    assert link.tell_near(()) is None


def test_a_heartbeat_carries_so_many_rows_and_the_next_one_the_rest() -> None:
    table = Members(cloud=False)
    vector = {f"n{number}/" + "0" * 32: number for number in range(400)}
    for number in range(12):
        table.hear(Member(f"m{number}/" + "0" * 32, 1, 0, vector), 0)
    link, told = Gossip(table), []
    while rows := link.news():
        assert len(codec.encode(wire.Heartbeat(0, 0, 0, members=rows))) < 1.1 * MEMBERS_BYTES_MAX
        told.append(len(rows))
    assert len(told) > 1
    assert sum(told) == 12


def test_what_is_no_origin_is_not_kept() -> None:
    table = Members(cloud=False)
    assert not table.hear(Member("", 1, 0, {}), 0)
    assert not table.hear(Member("../x/" + "0" * 32, 1, 0, {}), 0)


@pytest.mark.parametrize(("owner", "told"), [("gateway", True), ("sync", False)])
def test_what_the_gateway_hears_of_a_cloud_sync_is_told(owner: str, told: bool) -> None:
    bench = Bench()
    bench.session._owner = owner
    bench.session._gossip = Gossip(Members(cloud=False))
    bench.session.receive(wire.Heartbeat(0, 0, 0, members=(Member(YOU, 1, 0, {}),)), bench.ctx)
    heard = [message for _, message in bench.ctx.told if isinstance(message, MembersHeard)]
    assert heard == ([MembersHeard((Member(YOU, 1, 0, {}),))] if told else [])


def linked() -> tuple[FakeContext, Sync, FakeLinks]:
    """Node n1 with a link that n2 has dialled, its Hello not yet said."""
    ctx, links = FakeContext(), FakeLinks()
    sync = Sync(SyncSettings("n1", "", "lan", "c", ""), ListLog(), Trusting(), links, None, NoSnapshots())
    ctx.behaviour = sync
    sync.start(ctx)
    ctx.hand(LinkUp(1, True, "10.0.0.2:51000", "n2"))
    return ctx, sync, links


def say_hello(ctx: FakeContext, incarnation: str) -> None:
    said = wire.Hello(1, 1, "n2", f"n2/{incarnation}", "c", (), ctx.now_ms(), "lan")
    ctx.hand(FrameIn(1, codec.encode(said)))


RETIRED = NodesChanged(({"NodeId": "n2", "Incarnation": "2" * 32, "Retired": "2" * 32},))


def test_a_retired_incarnation_is_refused_at_hello_and_a_new_one_is_not() -> None:
    ctx, sync, links = linked()
    ctx.hand(RETIRED)
    say_hello(ctx, "2" * 32)
    assert wire.Bye("retired", "n2 was retired") in [frame for _, frame in links.sent]
    ctx, sync, links = linked()
    ctx.hand(RETIRED)
    say_hello(ctx, "3" * 32)
    assert "n2" in sync._peers


def test_a_link_that_is_open_with_a_node_that_is_being_retired_is_closed() -> None:
    ctx, _, links = linked()
    say_hello(ctx, "2" * 32)
    ctx.hand(RETIRED)
    assert wire.Bye("retired", "n2 was retired") in [frame for _, frame in links.sent]


def test_a_node_that_is_refused_as_retired_says_so_in_its_status() -> None:
    ctx, sync, _ = linked()
    say_hello(ctx, "2" * 32)
    ctx.hand(FrameIn(1, codec.encode(wire.Bye(Reason.RETIRED.value))))
    assert Reason.RETIRED in sync.admittance.told


def test_the_file_is_told_of_what_changed_at_a_low_rate() -> None:
    ctx, _, _ = linked()
    ctx.told.clear()
    ctx.run(300.0)
    kept = [message for _, message in ctx.told if isinstance(message, RememberMembers)]
    assert 9 <= len(kept) <= 11


def test_judging_a_hello_counts_nothing_else() -> None:
    peer = PeerLink(LinkUp(1, True, "a:1", "n2"), 0.0)
    said = wire.Hello(1, 1, "n2", "n2/" + "2" * 32, "other", (), 0, "lan")
    settings = SyncSettings("n1", "", "lan", "c", "")
    words = Counter([peer.judge(said, settings)])
    assert words == {Reason.WRONG_CLUSTER: 1}


def test_who_was_silent_the_longest_makes_room_for_a_newcomer() -> None:
    table = Members(cloud=True)
    for number in range(MEMBERS_MAX + 3):
        # the wall clock goes back all the time: it does not say who came first
        assert table.hear(Member(f"n{number}/" + "0" * 32, 1, 0, {}), -number)
    assert len(table.rows) == MEMBERS_MAX
    assert max(heard.heard_ms for heard in table.rows.values()) == -3


def test_the_file_keeps_no_more_rows_than_the_table() -> None:
    bench = StoreBench()
    rows = tuple(
        Member(f"n{number}/" + "0" * 32, 1, 7, {ME: 2}, 9, "c", {ME: 1} if number % 2 else None)
        for number in range(MEMBERS_MAX)
    )
    bench.ask(RememberMembers(rows))
    assert [bench.store.members()[f"n{number}"].row for number in (3, 4)] == list(rows[3:5])
    bench.ctx.run(1.0)
    bench.ask(RememberMembers((Member("late/" + "0" * 32, 1, 0, {}),)))
    kept = bench.store.members()
    assert len(kept) == MEMBERS_MAX
    assert "late" in kept


def test_a_cloud_peer_that_was_removed_is_no_member_any_more() -> None:
    bench, ctx = StoreBench("lan-1"), FakeContext()
    settings = SyncSettings("lan-1", "", "lan", "c", "h:1")
    sync = Sync(settings, bench.store, Trusting(), FakeLinks(), None, NoSnapshots())
    ctx.behaviour = sync
    bench.ask(bench.cloud_peer(), NoteSelf())
    for name in ("cloud", "lan-1", "lan-2"):
        sync.membership.members.hear(Member(f"{name}/" + "0" * 32, 1, 0, {}), 0)

    def shown() -> list[str]:
        report = ctx.ask(Status())
        assert isinstance(report, Report)
        return [row["name"] for row in report.body["members"]]

    assert shown() == ["cloud", "lan-1", "lan-2"]
    bench.ask(RemovePeer(bench.request(), "cloud"))
    assert shown() == ["lan-1", "lan-2"]


def missed(ctx: FakeContext) -> list[str]:
    """The alarms of ``status`` about members that are not heard."""
    report = ctx.ask(Status())
    assert isinstance(report, Report)
    alarms: Any = report.body["alarms"]
    return [alarm["text"].partition(" since ")[0] for alarm in alarms if alarm["code"] == "not-heard"]


def told_of(ctx: FakeContext, name: str, counter: int) -> None:
    """n2 says in a heartbeat what it was told of a third."""
    row = Member(f"{name}/" + "3" * 32, counter, ctx.now_ms(), {})
    ctx.hand(FrameIn(1, codec.encode(wire.Heartbeat(ctx.now_ms(), 0, 0, members=(row,)))))


def beats(ctx: FakeContext, seconds: int, *, of: tuple[str, ...] = ()) -> None:
    """n2 is there all the time, and tells of some."""
    for second in range(seconds):
        for name in of:
            told_of(ctx, name, ctx.now_ms() + second)
        ctx.hand(FrameIn(1, codec.encode(wire.Heartbeat(ctx.now_ms(), 0, 0))))
        ctx.run(1.0)


def test_a_member_that_is_neither_linked_nor_told_of_is_missed_and_heard_again() -> None:
    ctx, _, _ = linked()
    say_hello(ctx, "2" * 32)
    told_of(ctx, "n2", 1)
    beats(ctx, 200, of=("n3", "n4"))
    assert missed(ctx) == [], "n2 is linked, the others are told of"
    beats(ctx, int(UNHEARD_SECONDS) - 5, of=("n3",))
    assert missed(ctx) == []
    beats(ctx, 10, of=("n3",))
    assert missed(ctx) == ["1 of 4 members not heard"]
    beats(ctx, 1, of=("n3", "n4"))
    assert missed(ctx) == []


def test_whoever_is_retired_is_not_missed() -> None:
    ctx, _, _ = linked()
    say_hello(ctx, "2" * 32)
    told_of(ctx, "n3", 1)
    ctx.hand(NodesChanged(({"NodeId": "n3", "Incarnation": "3" * 32, "Retired": "3" * 32},)))
    beats(ctx, 2 * int(UNHEARD_SECONDS))
    assert missed(ctx) == []
