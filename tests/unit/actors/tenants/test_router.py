"""The contract of a router: a message reaches the tenant it names, and no tenant costs another anything."""

from __future__ import annotations

import pytest

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import FAILURES_MAX, Behaviour, Context
from entgldb.actors.tenants.router import ALARM_SECONDS, ALARMS_MAX, ROUND_SECONDS, Opened, Tenants
from entgldb.messages import codec
from entgldb.messages.client import Done, Ping, Refused, Reload, Report, Status, SyncNow
from entgldb.messages.errors import EntglError, Reason, UnavailableError
from entgldb.messages.local.actors import Committed, Configure, HideExpired, ReleaseHeld, StopNow, Tick
from entgldb.messages.local.tenants import ForTenant, TenantsWanted, WhichTenants
from entgldb.messages.schema import Message
from entgldb.messages.tenants import AskTenant
from tests.support.fake_context import FakeContext


class Recorder(Behaviour):
    """Notes what it hears; fails on ReleaseHeld, and cannot have its data on HideExpired."""

    name = "store"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []
        self.flushes = 0
        self.begun = False

    def start(self, ctx: Context) -> None:
        self.begun = True
        ctx.after(5.0, Tick("own"))

    def flush(self, ctx: Context) -> None:
        self.flushes += 1

    def handle(self, message: Message, ctx: Context) -> None:
        self.heard.append(message)
        if message == ReleaseHeld():
            raise RuntimeError("no luck")
        if message == HideExpired():
            raise UnavailableError("the server has gone")
        if isinstance(message, Committed):
            for actor in ("sync", "oplog", "node", "gateway", "election"):
                ctx.tell(actor, Tick("told"))
        if isinstance(message, Ping):
            ctx.answer(ctx.asker, Done())
        if isinstance(message, Status):
            ctx.answer(ctx.asker, Report({"alarms": [alarm("fork", "o", "two branches", 5)], "port": 1}))


class Trial:
    """A router around recorders; ``opened`` has all that it ever made, ``closed`` who gave its files back."""

    def __init__(self) -> None:
        self.opened: dict[str, list[Recorder]] = {}
        self.closed: list[str] = []
        self.rested: list[str] = []
        self.refuses: set[str] = set()
        self.main = Recorder()
        self.router = Tenants(self.main, self._open)
        self.ctx = FakeContext()
        self.ctx.behaviour = self.router
        self.router.start(self.ctx)

    def _open(self, tenant: str) -> Opened:
        if tenant in self.refuses:
            raise EntglError("the disk has gone")
        made = Recorder()
        self.opened.setdefault(tenant, []).append(made)
        return Opened(made, lambda: self.closed.append(tenant), lambda: self.rested.append(tenant))

    def wanted(self, *tenants: str) -> None:
        self.ctx.hand(TenantsWanted(tenants))

    def to(self, tenant: str, message: Message) -> None:
        self.ctx.hand(ForTenant(tenant, codec.encode(message)))

    def heard(self, tenant: str) -> list[Message]:
        return self.opened[tenant][-1].heard


@pytest.fixture
def trial() -> Trial:
    made = Trial()
    made.wanted("a", "b")
    return made


def test_a_message_reaches_the_tenant_that_it_names_and_one_without_a_name_the_node(trial: Trial) -> None:
    trial.to("a", Tick("one"))
    trial.to("b", Tick("two"))
    trial.ctx.hand(Tick("three"))
    assert trial.heard("a") == [Tick("one")]
    assert trial.heard("b") == [Tick("two")]
    assert trial.main.heard == [Tick("three")]


def test_only_the_tenants_that_had_something_are_flushed(trial: Trial) -> None:
    before = [trial.opened[name][-1].flushes for name in "ab"]
    trial.to("a", Tick("one"))
    assert [trial.opened[name][-1].flushes for name in "ab"] == [before[0] + 1, before[1]]


def test_the_words_of_a_tenant_name_it_and_reach_none_but_those_who_carry_tenants(trial: Trial) -> None:
    trial.ctx.take(WhichTenants)
    trial.to("a", Committed(1, 1, 0))
    assert trial.ctx.told == [
        ("sync", ForTenant("a", codec.encode(Tick("told")))),
        ("oplog", ForTenant("a", codec.encode(Tick("told")))),
    ]


def test_a_timer_comes_back_to_its_tenant_and_is_over_with_it(trial: Trial) -> None:
    trial.wanted("b")
    trial.wanted("a", "b")
    trial.ctx.run(6.0)
    first, second = trial.opened["a"]
    assert first.heard == [StopNow()]
    for behaviour in (second, trial.opened["b"][-1], trial.main):
        assert behaviour.heard.count(Tick("own")) == 1


def test_the_wanted_tenants_are_open_and_no_others(trial: Trial) -> None:
    trial.wanted("b", "c")
    assert set(trial.router.open) == {"b", "c"}
    assert trial.closed == ["a"]
    assert len(trial.opened["b"]) == 1
    trial.to("a", Tick("late"))
    assert trial.opened["a"][-1].heard == [StopNow()]
    assert trial.router.counts[Reason.TENANT_CLOSED.value] == 1


def test_a_tenant_that_cannot_be_opened_leaves_the_others_as_they_are_and_is_tried_again(
    trial: Trial,
) -> None:
    trial.refuses = {"c"}
    trial.wanted("a", "b", "c")
    assert set(trial.router.open) == {"a", "b"}
    assert trial.router.counts[Reason.STORAGE_UNAVAILABLE.value] == 1
    trial.refuses.clear()
    trial.wanted("a", "b", "c")
    assert set(trial.router.open) == {"a", "b", "c"}


def test_a_tenant_that_fails_again_and_again_is_closed_alone_and_opened_anew(trial: Trial) -> None:
    for _ in range(FAILURES_MAX):
        trial.to("a", ReleaseHeld())
    assert "a" not in trial.router.open
    assert not trial.router.hopeless
    trial.wanted("a", "b")
    assert len(trial.opened["a"]) == 2
    trial.to("a", Tick("again"))
    assert trial.heard("a") == [Tick("again")]


def test_a_tenant_whose_data_cannot_be_had_is_closed_alone_until_it_is_wanted_again(trial: Trial) -> None:
    trial.to("a", HideExpired())
    assert (set(trial.router.open), trial.closed) == ({"b"}, ["a"])
    assert trial.router.counts[Reason.STORAGE_UNAVAILABLE.value] == 1
    assert trial.router.counts[Reason.HANDLER_FAILED.value] == 0
    trial.wanted("a", "b")
    assert len(trial.opened["a"]) == 2


def test_an_administrator_asks_an_open_tenant_for_nothing_but_what_administrators_may_ask(
    trial: Trial,
) -> None:
    assert trial.ctx.ask(AskTenant("a", codec.encode(Ping()))) == Done()
    for tenant, inner in (("none", Status()), ("a", ReleaseHeld()), ("a", AskTenant("a", b""))):
        assert isinstance(trial.ctx.ask(AskTenant(tenant, codec.encode(inner))), Refused)
    assert trial.heard("a") == [Ping()]


def test_settings_reach_all_and_a_stop_closes_all(trial: Trial) -> None:
    trial.ctx.hand(Configure())
    trial.ctx.hand(Reload())
    trial.ctx.hand(SyncNow())
    trial.ctx.hand(StopNow())
    assert trial.main.heard == [Configure(), Reload(), SyncNow(), StopNow()]
    assert trial.heard("a") == trial.heard("b") == [Configure(), StopNow()]
    assert trial.closed == ["a", "b"]
    assert trial.router.open == {}


def test_status_tells_how_many_are_open_and_what_is_wrong_with_them(trial: Trial) -> None:
    trial.ctx.run(ROUND_SECONDS + 1)
    told = trial.ctx.ask(Status())
    assert isinstance(told, Report)
    assert (told.body["port"], told.body["tenants_open"]) == (1, 2)
    alarms = {one["subject"]: one["text"] for one in told.body["alarms"]}
    assert alarms == {"o": "two branches", "a/o": "tenant a: two branches", "b/o": "tenant b: two branches"}
    trial.wanted("b")
    told = trial.ctx.ask(Status())
    assert isinstance(told, Report)
    assert [one["subject"] for one in told.body["alarms"]] == ["o", "b/o"]


def test_a_status_tells_a_bounded_number_of_alarms_and_a_second_looks_at_some_tenants_alone() -> None:
    trial = Trial()
    many = [f"t{number}" for number in range(2 * ALARMS_MAX)]
    trial.wanted(*many)
    trial.ctx.run(ALARM_SECONDS)
    looked = sum(Status() in trial.heard(name) for name in many)
    assert 0 < looked < len(many) // 10
    assert len(trial.rested) == looked
    trial.ctx.run(2 * ROUND_SECONDS)
    assert all(Status() in trial.heard(name) for name in many)
    assert set(trial.rested) == set(many)
    told = trial.ctx.ask(Status())
    assert isinstance(told, Report)
    assert len(told.body["alarms"]) == ALARMS_MAX


def test_an_actor_that_is_started_asks_sync_which_tenants_are_open() -> None:
    assert [actor for actor, message in Trial().ctx.told if message == WhichTenants()] == ["sync"]
