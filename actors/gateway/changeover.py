"""Two client secrets of a cloud peer that changes over: which one is used, and when the one before may go.

The new one is asked with first. While the authority refuses it, and the time of the one before is not over,
that one is used. Pure: one instance a link.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from entgldb.actors.behaviour import Context
from entgldb.messages.local.members import SettleSecret
from entgldb.messages.remote_peers import OAuth2

CONFIRM_SECONDS: Final = 60.0
"""An authority has taken the new secret for good once it took it twice, so long apart, and did not refuse it
between: it may be several servers, of which not all have heard."""
TRY_AGAIN_SECONDS: Final = 300.0
"""While the one before is in use, the new one is tried again so often."""


class Changeover:
    """How far one link has got."""

    def __init__(self) -> None:
        self.by_previous = False
        """Whether the secret before is the one that is asked with, or was last."""
        self._taken_at: float | None = None

    def first(self, oauth2: OAuth2) -> OAuth2:
        """The settings to ask with: those with the new secret."""
        self.by_previous = False
        return oauth2.settled

    def second(self, oauth2: OAuth2, ctx: Context) -> OAuth2 | None:
        """The authority refused the client: the settings to ask with then; None where there are no others."""
        if self.by_previous or not oauth2.overlaps(ctx.now_ms()):
            return None
        self.by_previous, self._taken_at = True, None
        return oauth2.before

    def taken(self, node_id: str, oauth2: OAuth2, ctx: Context) -> float:
        """A token was given: seconds after which to ask again, at the latest."""
        if not oauth2.previous_secret:
            return float("inf")
        now = ctx.monotonic()
        if self.by_previous:
            return TRY_AGAIN_SECONDS
        if self._taken_at is None:
            self._taken_at = now
        elif now - self._taken_at >= CONFIRM_SECONDS:
            ctx.tell("store", SettleSecret(node_id, oauth2.client_secret))
        return CONFIRM_SECONDS

    def told(self, oauth2: OAuth2) -> str:
        """Which secret was asked with last: ``new`` or ``previous``; empty: there is one."""
        return ("previous" if self.by_previous else "new") if oauth2.previous_secret else ""


def only_secrets_differ(old: OAuth2, new: OAuth2) -> bool:
    """Whether one secret was put beside the other, or one of two has gone: no reason to end a link."""
    same = {old.client_secret, old.previous_secret} & {new.client_secret, new.previous_secret} - {""}
    plain: dict[str, Any] = {
        "client_secret": "",
        "previous_secret": "",
        "previous_until": 0,
        "expelled_before": 0,
    }
    return bool(same) and replace(old, **plain) == replace(new, **plain)
