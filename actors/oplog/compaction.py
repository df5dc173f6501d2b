"""``entgldb compact``: first what may be forgotten goes, then the file is rewritten without free pages."""

from __future__ import annotations

from entgldb.actors.behaviour import Asker, Context
from entgldb.actors.oplog.retention import Retention
from entgldb.messages.client import Refused, Report
from entgldb.messages.local.members import CompactFile, FileCompacted


class Compaction:
    """The askers that wait for a smaller file. All who ask before the file is rewritten share one
    rewriting."""

    def __init__(self) -> None:
        self._askers: list[Asker | None] = []
        self._under_way = False

    def ask(self, asker: Asker | None) -> None:
        """Somebody wants it; he is answered when it is done."""
        # a second question while the store works is in vain, or the store has died
        self._under_way = False
        self._askers.append(asker)

    def go_on(self, retention: Retention, ctx: Context) -> None:
        """Have the file rewritten as soon as nothing is left to be forgotten."""
        if self._askers and not self._under_way and not retention.busy:
            self._under_way = True
            ctx.tell("store", CompactFile())

    def done(self, message: FileCompacted, ctx: Context) -> None:
        """The store has answered."""
        if message.code:
            answer: Report | Refused = Refused(message.code, message.text, message.hint)
        else:
            seconds = round(message.seconds, 3)
            answer = Report({"before": message.before, "after": message.after, "seconds": seconds})
        for asker in self._askers:
            ctx.answer(asker, answer)
        self._askers.clear()
        self._under_way = False
