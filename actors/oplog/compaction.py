"""``entgldb compact``: first what may be forgotten goes, then free pages go back to the disk."""

from __future__ import annotations

from entgldb.actors.behaviour import Asker, Context
from entgldb.actors.oplog.retention import Retention
from entgldb.messages.client import Refused, Report
from entgldb.messages.local.members import CompactFile, FileCompacted
from entgldb.messages.schema import Json


class Compaction:
    """The askers that wait for a smaller file. All who ask before its steps have begun share them."""

    def __init__(self) -> None:
        self._askers: list[Asker | None] = []
        self._under_way = False

    def ask(self, asker: Asker | None) -> None:
        """Somebody wants it; he is answered when it is done."""
        # a second question while the store works is in vain, or the store has died
        self._under_way = False
        self._askers.append(asker)

    def go_on(self, retention: Retention, ctx: Context) -> None:
        """Have the file made smaller as soon as nothing is left to be forgotten."""
        if self._askers and not self._under_way and not retention.busy:
            self._under_way = True
            ctx.tell("store", CompactFile())

    def on_file_compacted(self, message: FileCompacted, ctx: Context) -> None:
        """The store has answered."""
        if message.code:
            answer: Report | Refused = Refused(message.code, message.text, message.hint)
        else:
            seconds, longest = round(message.seconds, 3), round(message.longest, 3)
            sizes: dict[str, Json] = {"before": message.before, "after": message.after}
            answer = Report({**sizes, "seconds": seconds, "longest_s": longest})
        for asker in self._askers:
            ctx.answer(asker, answer)
        self._askers.clear()
        self._under_way = False
