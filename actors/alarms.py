"""Alarms, which ``status`` shows to a person: a stable code, a sentence, since when."""

from __future__ import annotations

from entgldb.messages.schema import Json


class Alarms:
    """The alarms of one actor. ``subject`` tells two of one code apart, such as two origins."""

    def __init__(self) -> None:
        self._raised: dict[tuple[str, str], tuple[str, int]] = {}

    def sound(self, code: str, subject: str, text: str, now_ms: int) -> bool:
        """Raise an alarm, or renew the text of one that stands; whether it is new."""
        before = self._raised.get((code, subject))
        self._raised[code, subject] = (text, now_ms if before is None else before[1])
        return before is None

    def clear(self, code: str, subject: str) -> bool:
        """It is over; whether it stood."""
        return self._raised.pop((code, subject), None) is not None

    def report(self) -> list[Json]:
        """``[{"code", "subject", "text", "since_ms"}]``, the oldest first."""
        rows = sorted(self._raised.items(), key=lambda item: (item[1][1], item[0]))
        return [alarm(code, subject, text, since) for (code, subject), (text, since) in rows]


def alarm(code: str, subject: str, text: str, since_ms: int) -> dict[str, Json]:
    """One alarm as it stands in a report."""
    return {"code": code, "subject": subject, "text": text, "since_ms": since_ms}


def gathered(reports: list[dict[str, Json]]) -> list[Json]:
    """All alarms of several actors' reports."""
    found: list[Json] = []
    for report in reports:
        told = report.get("alarms")
        found += told if isinstance(told, list) else []
    return found
