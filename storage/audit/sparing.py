"""Which events have a row: those that others can cause without end have few, and a count of the rest."""

from __future__ import annotations

from entgldb.messages.limits import AUDIT_BURST, AUDIT_PAUSE_SECONDS


class Sparing:
    """Of one who tells. Its memory is bounded by the number of kinds, which is up to the caller."""

    def __init__(self) -> None:
        self._room: dict[str, tuple[float, float]] = {}
        """Kind -> rows that there is room for, and as of when."""
        self._left_out: dict[str, int] = {}

    def take(self, kind: str, now: float, times: int = 1) -> int | None:
        """How many events were left out before this one, which has a row; None: it has none.

        ``now``: seconds of a clock that never goes back. ``times``: so many have come, one of which counts.
        """
        room, since = self._room.get(kind, (float(AUDIT_BURST), now))
        room = min(AUDIT_BURST, room + (now - since) / AUDIT_PAUSE_SECONDS)
        if room < 1:
            self._room[kind] = room, now
            self._left_out[kind] = self._left_out.get(kind, 0) + times
            return None
        self._room[kind] = room - 1, now
        return self._left_out.pop(kind, 0) + times - 1

    def overdue(self, now: float) -> list[tuple[str, int]]:
        """Kinds of which events were left out and which have room again, with how many: a row for each."""
        found = []
        for kind in list(self._left_out):
            left = self.take(kind, now, 0)
            if left is not None:
                found.append((kind, left + 1))
        return found
