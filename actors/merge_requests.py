"""Requests about conflicts: settled, brought back, and the rule of a collection."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Store
from entgldb.messages.client import CommitDone, Write
from entgldb.messages.merging import Resolve, SetConflict, Undelete
from entgldb.messages.model import COLLECTIONS, Version
from entgldb.storage.rules.collection_rule import rule_document

Request = Resolve | Undelete | SetConflict


def carry_out(store: Store, message: Request, ctx: Context) -> CommitDone:
    """Inside the running transaction. Raises EntglError; nothing is written then."""
    now_ms = ctx.now_ms()
    known = store.answered(message.request, now_ms)
    if known is not None:
        return CommitDone(*known)
    match message:
        case Resolve():
            version = Version(message.origin, message.seq)
            place = (message.collection, message.key)
            done = store.resolve(message.request, place, version, message.take, message.body, now_ms)
        case Undelete():
            done = store.undelete(message.request, message.collection, message.key, now_ms)
        case SetConflict():
            body = rule_document(message.collection, message.conflict)
            if store.get(COLLECTIONS, message.collection) == body:
                return CommitDone((), 0)
            write = Write(COLLECTIONS, message.collection, body)
            done = store.write(message.request, (write,), now_ms, system=True)
    return CommitDone(*done)
