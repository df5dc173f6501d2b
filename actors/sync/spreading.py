"""How far entries have gone: which members have said that they have them, and the clients that wait for it.

A member of the LAN says so on its link, some milliseconds after its commit. Of one without a link, and of
cloud peers, the row that tells of them in heartbeats says it (``actors.session.members``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from entgldb.actors.behaviour import Asker, Context, refuse
from entgldb.actors.nodes import call_roll, disabled_peers
from entgldb.actors.ports import LogReader
from entgldb.actors.session.members import Members
from entgldb.actors.session.sessions import Sessions
from entgldb.messages.administration import AwaitSpread
from entgldb.messages.client import Report
from entgldb.messages.errors import BusyError, EntglError, InvalidError, NotFoundError
from entgldb.messages.limits import MEMBERS_MAX, SPREAD_SECONDS_MAX, SPREAD_WAITING_MAX
from entgldb.messages.local.actors import Tick
from entgldb.messages.model import whole_number
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.members import member_name

SPREAD: Final = "spread"
"""The word on the timer of a question: its time is over."""


class Need(NamedTuple):
    """The members that have to have something."""

    some: frozenset[str]
    least: int
    """So many of them."""


class _Waiting(NamedTuple):
    """A question that is not answered yet."""

    asker: Asker | None
    asked: Mapping[str, int]
    """Origin -> seq."""
    members: frozenset[str]
    """All that are told of."""
    need: Need
    until: float


class Spreading:
    """SyncActor's part that answers ``AwaitSpread``."""

    def __init__(self, log: LogReader, members: Members, sessions: Sessions) -> None:
        self._log, self._members, self._sessions = log, members, sessions
        self._waiting: list[_Waiting] = []
        self._woken_at = 0.0
        """When the timer is due that was set last."""

    def on_await_spread(self, message: AwaitSpread, ctx: Context) -> None:
        try:
            waiting = self._question(message, ctx)
        except EntglError as fault:
            refuse(ctx, fault)
            return
        if not self._settled(waiting, ctx):
            self._waiting.append(waiting)
            self._wake(ctx)

    def look(self, ctx: Context) -> None:
        """After whatever came: answer those that have what they wait for, and those whose time is over."""
        if self._waiting:
            self._waiting = [one for one in self._waiting if not self._settled(one, ctx)]
            self._wake(ctx)

    def _wake(self, ctx: Context) -> None:
        """Have a timer for the first that ends. Most are answered long before: one each would wake for
        nothing."""
        now = ctx.monotonic()
        first = min((one.until for one in self._waiting), default=math.inf)
        if first < math.inf and not now < self._woken_at <= first:
            self._woken_at = first
            ctx.after(first - now, Tick(SPREAD))

    def _question(self, message: AwaitSpread, ctx: Context) -> _Waiting:
        if len(self._waiting) >= SPREAD_WAITING_MAX:
            raise BusyError(
                f"{SPREAD_WAITING_MAX} clients wait until others have something", hint="try again later"
            )
        members, clouds = self._roll()
        asked = vectors.seqs(self._log.vector()) if message.vector is None else message.vector
        until = ctx.monotonic() + min(max(message.seconds, 0.0), SPREAD_SECONDS_MAX)
        return _Waiting(ctx.asker, asked, members, needed(message.need, members, clouds), until)

    def _roll(self) -> tuple[frozenset[str], frozenset[str]]:
        """The other members that may come to have something, and the cloud peers among them."""
        own = member_name(self._log.origin, cloud=self._members.cloud)
        if self._members.cloud:
            return frozenset(self._members.rows.keys() - {own}), frozenset()
        roll = call_roll(self._log, self._members.rows)
        gone = roll.retired | disabled_peers(self._log) | {own}
        return frozenset(roll.members - gone), frozenset(roll.clouds - gone)

    def _settled(self, waiting: _Waiting, ctx: Context) -> bool:
        """Answer it if it is time to; whether it was."""
        asked = waiting.asked
        # the word of a link is newer than a row: a disk may have gone back since
        spoken = {session.peer: session for session in self._sessions if session.has_spoken}
        durable = {name for name in waiting.members & spoken.keys() if spoken[name].peer_has(asked)}
        rows = {name for name in waiting.members - spoken.keys() if self._says_so(name, asked)}
        if rows and not self._is_branched(asked):
            durable |= rows
        reached = len(durable & waiting.need.some) >= waiting.need.least
        if not reached and ctx.monotonic() < waiting.until:
            return False
        missing = waiting.members - durable
        body = {"durable": sorted(durable), "missing": sorted(missing), "reached": reached}
        ctx.answer(waiting.asker, Report(body))
        return True

    def _is_branched(self, asked: Mapping[str, int]) -> bool:
        """Whether a number alone may mean another entry elsewhere than here: one of these logs has, or had,
        two branches, as after a roll-back that nobody told of."""
        known = not self._log.branched().isdisjoint(asked)
        return known or any(session.doubts(asked) for session in self._sessions)

    def _says_so(self, name: str, asked: Mapping[str, int]) -> bool:
        heard = self._members.rows.get(name)
        return heard is not None and vectors.dominates(heard.row.vector, asked)


def needed(text: str, members: frozenset[str], clouds: frozenset[str]) -> Need:
    """``AwaitSpread.need`` among these members. Raises InvalidError, NotFoundError for others."""
    word, _, rest = text.partition(":")
    if text == "":
        return Need(members, 0)
    if text == "all":
        return Need(members, len(members))
    if text == "cloud":
        if not clouds:
            raise NotFoundError("there is no cloud peer that is enabled", hint="entgldb list-peers")
        return Need(clouds, 1)
    if word == "peers" and (count := whole_number(rest, MEMBERS_MAX)):
        return Need(members, count)
    if word == "nodes" and rest:
        names = frozenset(rest.split(","))
        if names - members:
            raise NotFoundError(f"{min(names - members):.80} is no other member", hint="entgldb nodes")
        return Need(names, len(names))
    raise InvalidError(
        f"{text!r:.80} does not say who has to have it", hint="peers:N, all, cloud, or nodes:NAME,NAME"
    )
