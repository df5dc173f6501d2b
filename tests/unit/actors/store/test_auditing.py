"""The store's audit log: acts of administrators in the transaction that does them, and what others tell."""

from __future__ import annotations

import pytest

from entgldb.actors.store.auditing.acts import AUDITED
from entgldb.actors.store.behaviour import REQUESTS
from entgldb.messages import client, codec
from entgldb.messages.administration import (
    AcceptClock,
    Audited,
    AwaitSpread,
    Behalf,
    Event,
    Happened,
    HealOrigin,
    PauseSync,
    Resolve,
    RetireNode,
    SetConflict,
    SetLogLevel,
    Undelete,
)
from entgldb.messages.client import Done, Refused
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.limits import AUDIT_BURST, AUDIT_PAUSE_SECONDS
from entgldb.messages.local.actors import Apply, ClockJudged, Tick
from entgldb.messages.schema import REGISTRY, Channel, Message
from entgldb.messages.tenants import AskTenant
from entgldb.storage.audit.reading import chained, verify
from entgldb.storage.audit.rows import Row
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.support.fake_context import FakeAsker, FakeContext
from tests.unit.actors.store.test_store_keeper import NOW, Bench
from tests.unit.actors.store.test_store_requests import write_peer

PING = codec.encode(client.Ping())
BEHALF = codec.encode(Behalf("x", PING))
DAILY = {
    client.Commit,
    client.CreateIndex,
    client.DropIndex,
    client.RebuildIndex,
    Resolve,
    Undelete,
}
"""The work of programs, of which there is no end."""
QUESTIONS = {
    client.Status,
    client.SyncNow,
    client.WhoIs,
    client.TestPeer,
    client.Ping,
    AwaitSpread,
    AskTenant,
}
"""Admin messages that change nothing; what is asked of a tenant is noted by its own store."""
PASSED_ON = [kind for kind in REGISTRY.values() if kind.ADMIN and kind not in QUESTIONS]


class Person(FakeAsker):
    who = "uid 7 pid 8"


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What the store hands to other actors."""
    told: list[Message] = []

    def forward(_self: object, _actor: str, payload: bytes) -> None:
        told.append(codec.decode(payload, Channel.LOCAL).message)

    monkeypatch.setattr(FakeContext, "forward", forward)
    return told


def rows(bench: Bench) -> list[Row]:
    assert verify(bench.store.connection).faults == []
    return [row for row, _ in chained(bench.store.connection)]


def ask(bench: Bench, message: Message) -> list[Message]:
    asker = Person()
    bench.ctx.asker = asker
    bench.keeper.handle(message, bench.ctx)
    bench.ctx.asker = None
    bench.keeper.flush(bench.ctx)
    return asker.answers


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_a_request_of_an_administrator_has_a_row(kind: type[Message]) -> None:
    asked = REQUESTS[kind].answers
    assert (kind in AUDITED) == ((asked and kind not in DAILY) or kind is Happened)


@pytest.mark.parametrize("kind", PASSED_ON, ids=lambda kind: kind.__name__)
def test_what_another_actor_is_told_to_do_has_a_row_that_names_who_told_it(
    kind: type[Message], passed_on: list[Message]
) -> None:
    bench = Bench()
    told = kind(30.0) if kind in (client.StandDown, client.Isolate) else kind()
    ask(bench, client.Relay("node", codec.encode(told)))
    assert [(row.event, row.who) for row in rows(bench)] == [("node", "uid 7 pid 8")]
    assert passed_on == [told]


def test_a_request_goes_on_to_another_actor_though_its_row_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, passed_on: list[Message]
) -> None:
    bench = Bench()

    def full(*_: object) -> None:
        raise EntglError("the disk is full", code=ErrorCode.DISK_FULL)

    with monkeypatch.context() as patch:
        patch.setattr(bench.store.trail, "note", full)
        ask(bench, client.Relay("node", codec.encode(client.Stop())))
    assert passed_on == [client.Stop()]
    assert "Stop is not in the audit log: the disk is full" in bench.ctx.lines
    assert rows(bench) == []


def test_questions_have_no_row(passed_on: list[Message]) -> None:
    bench = Bench()
    questions = [client.Status(), client.Ping(), client.SyncNow()]
    for question in questions:
        ask(bench, client.Relay("node", codec.encode(question)))
    assert passed_on == questions
    assert rows(bench) == []


@pytest.mark.usefixtures("passed_on")
def test_a_level_of_the_log_is_told_with_its_time() -> None:
    bench = Bench()
    ask(bench, client.Relay("node", codec.encode(SetLogLevel("DEBUG", 600.0))))
    ask(bench, client.Relay("node", codec.encode(SetLogLevel())))
    assert [(row.subject, row.outcome) for row in rows(bench)] == [
        ("log level", "DEBUG for 600 s"),
        ("log level", "as configured for 0 s"),
    ]


def test_to_accept_the_clock_as_it_is_has_a_row_and_a_refusal_has_none() -> None:
    bench = Bench()
    assert isinstance(ask(bench, AcceptClock())[0], Refused)
    assert rows(bench) == []
    bench.ask(ClockJudged(True, -600_000, 2, 3))
    assert ask(bench, AcceptClock()) == [Done()]
    assert [(row.event, row.outcome, row.who) for row in rows(bench)] == [
        ("clock", "accepted as it is", "uid 7 pid 8")
    ]


def test_an_act_has_a_row_in_its_own_transaction_and_no_value_in_it() -> None:
    bench = Bench()
    assert isinstance(ask(bench, bench.cloud_peer(secret="s3cret"))[0], client.CommitDone)
    ask(bench, bench.cloud_peer(secret="s3cret"))  # the same again: nothing is done
    ask(bench, SetConflict(bench.request(), "users", "merge"))
    ask(bench, client.RemovePeer(bench.request(), "cloud"))
    assert [(row.event, row.subject, row.outcome, row.who) for row in rows(bench)] == [
        ("peer", "cloud", "added", "uid 7 pid 8"),
        ("rule", "users", "conflict merge", "uid 7 pid 8"),
        ("peer", "cloud", "removed", "uid 7 pid 8"),
    ]
    assert {(row.node, row.at_ms) for row in rows(bench)} == {("n1", NOW)}
    assert "s3cret" not in "".join(bench.store.connection.iterdump())


def test_a_repeated_request_has_one_row() -> None:
    bench = Bench()
    request = SetConflict(bench.request(), "users", "merge")
    assert ask(bench, request) == ask(bench, request)
    assert len(rows(bench)) == 1


def test_a_refused_act_has_a_row_and_its_work_is_undone() -> None:
    bench = Bench()
    assert isinstance(ask(bench, RetireNode(bench.request(), "nobody"))[0], Refused)
    assert [(row.event, row.subject, row.outcome) for row in rows(bench)] == [
        ("member", "nobody", "refused: not-found")
    ]


def test_refusals_without_end_have_few_rows_and_are_counted() -> None:
    bench = Bench()
    for _ in range(50):
        ask(bench, RetireNode(bench.request(), "nobody"))
    assert len(rows(bench)) == AUDIT_BURST
    bench.ctx._now += AUDIT_PAUSE_SECONDS  # nothing is due meanwhile
    bench.keeper.handle(Tick("checkpoint"), bench.ctx)
    assert (rows(bench)[-1].outcome, rows(bench)[-1].left_out) == ("left-out", 50 - AUDIT_BURST)


def test_a_row_names_for_whom_a_client_asked() -> None:
    bench = Bench()
    inner = codec.encode(SetConflict(bench.request(), "users", "merge"))
    assert isinstance(ask(bench, Behalf("http-token ops", inner))[0], client.CommitDone)
    ask(bench, Behalf("http-token ops", codec.encode(PauseSync("lan", True))))
    assert [(row.event, row.who) for row in rows(bench)] == [
        ("rule", "http-token ops by uid 7 pid 8"),
        ("pause", "http-token ops by uid 7 pid 8"),
    ]


@pytest.mark.parametrize("inner", [b"", b"\xc1", BEHALF, codec.encode(client.Relay("node", PING))])
def test_nobody_asks_for_another_by_a_detour(inner: bytes) -> None:
    bench = Bench()
    assert isinstance(ask(bench, Behalf("x", inner))[0], Refused)
    assert rows(bench) == []


def test_a_client_tells_of_what_it_did_itself_and_of_nothing_else() -> None:
    bench = Bench()
    assert ask(bench, Audited("http-token", "grafana", "made", "0a1b")) == [Done()]
    assert isinstance(ask(bench, Audited("leader", "n9"))[0], Refused)
    assert isinstance(ask(bench, Audited("whatever"))[0], Refused)
    [row] = rows(bench)
    assert (row.event, row.subject, row.who, row.key_id) == ("http-token", "grafana", "uid 7 pid 8", "0a1b")


def test_an_actor_tells_in_its_own_words() -> None:
    bench = Bench()
    bench.keeper.handle(Happened(Event.HANDSHAKE, "10.0.0.9:1", "tls-refused", left_out=3), bench.ctx)
    bench.keeper.flush(bench.ctx)
    [row] = rows(bench)
    assert (row.event, row.subject, row.outcome, row.left_out) == (
        "handshake",
        "10.0.0.9:1",
        "tls-refused",
        3,
    )


def test_what_another_node_changed_in_the_configuration_has_a_row_once() -> None:
    bench, other = Bench(), Store.memory("n2", b"2" * 32, NOW)
    entries = tuple(write_peer(other, "cloud-7", 1))
    for batch in (1, 2):
        bench.ask(Apply("sync", "s", batch, 0, entries, cloud=False, peer="n2"))
    [row] = rows(bench)
    assert (row.event, row.subject, row.who) == ("received", "_system_remote_peers/cloud-7", "node n2")


def test_a_cloud_brings_no_configuration_and_no_row() -> None:
    bench, other = Bench(), Store.memory("n2", b"2" * 32, NOW)
    bench.ask(Apply("gateway", "s", 1, 0, tuple(write_peer(other, "cloud-7", 1)), cloud=True, peer="c"))
    assert rows(bench) == []


def test_a_fork_and_its_healing_have_rows() -> None:
    bench = Bench()
    one, other = (Store.memory("n2", b"same", NOW) for _ in range(2))
    for batch, (store, name) in enumerate(((one, "ours"), (other, "theirs")), 1):
        entries = tuple(write_peer(store, name, batch))
        bench.ask(Apply("sync", f"s{batch}", 1, 0, entries, cloud=False, peer="n2"))
    ask(bench, HealOrigin(bench.request(), one.origin, "theirs"))
    told = [(row.event, row.subject, row.outcome) for row in rows(bench) if row.event == "fork"]
    assert told == [("fork", one.origin, "found"), ("fork", one.origin, "healed, theirs kept")]


def test_a_new_incarnation_has_a_row_with_its_cause() -> None:
    bench = Bench()
    ask(bench, HealOrigin(bench.request(), bench.store.origin, "ours"))
    before = bench.store.origin
    with bench.store.group():
        bench.store.incarnations.reincarnate(b"\7" * 32, Why.RESTORED, NOW)
    bench.ask(bench.put("k"))
    assert bench.store.origin != before
    assert [row.subject for row in rows(bench) if row.event == "incarnation"] == [bench.store.origin]
