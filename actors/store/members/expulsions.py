"""Nodes that were expelled: the entries that say so, and their repetition in the log of every member.

A member that learns of an expulsion says it again in its own log. So it goes on wherever that log goes, also
where the log that said it first has been given an end meanwhile.
"""

from __future__ import annotations

import json

from entgldb.actors.behaviour import ERROR, WARNING, Context
from entgldb.actors.store.members import nodes
from entgldb.actors.store.members.keys import new_key
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.administration import ExpelNode
from entgldb.messages.errors import InvalidError, NotAllowedError, NotFoundError, TooLargeError
from entgldb.messages.limits import MEMBERS_MAX
from entgldb.messages.local.members import NoteSelf
from entgldb.messages.model import EXPELLED, NODES, check_node_id, node_of
from entgldb.messages.schema import Message
from entgldb.storage.rules.ended import (
    PROOFS_MAX,
    any_log,
    ending,
    is_any_log,
    read_ending,
    said_in,
    signatures_in,
)


def expel_node(keeper: Writer, message: ExpelNode, ctx: Context) -> Message:
    """Expel a node for everybody: of its logs counts what is here now, and the cluster gets a new key.

    Raises NotFoundError, InvalidError.
    """
    check_node_id(message.node_id)
    store = keeper.store
    own, name = node_of(store.origin), message.node_id
    if keeper.settings.role == "cloud":
        raise NotAllowedError("a cloud node keeps no list of members", hint="ask a node of the LAN")
    if name == own:
        raise InvalidError("a node cannot expel itself", hint="run entgldb expel on a node that stays")
    heads = {origin: seq for origin, (seq, _) in store.vector().items() if node_of(origin) == name}
    if not heads and store.get(NODES, name) is None:
        raise NotFoundError(f"no node {name}", hint="entgldb members")
    if _has_said(store.get(EXPELLED, ending(any_log(name), 0)), own):
        return client.CommitDone((), 0)
    ctx.log(WARNING, f"{name} is expelled; of its logs counts {heads}")
    ends = [ending(*end) for end in (*heads.items(), (any_log(name), 0))]
    writes = _writes(keeper, ends, ctx)
    try:
        with store.savepoint():
            # one group: whoever hears of the one has the other
            both = *writes, *new_key(keeper, ctx, without=name)
            return keeper.write(message.request, both, ctx, system=True)
    except (InvalidError, TooLargeError) as fault:
        ctx.log(ERROR, f"{name} is expelled, and no new cluster key is made with it: {fault.text}")
    return keeper.write(message.request, writes, ctx, system=True)


def note_self(keeper: Writer, message: NoteSelf, ctx: Context) -> Message:
    """A peer has given all it has: what rarely changes of this node, and who was expelled, if it is new."""
    say_again(keeper, ctx)
    return nodes.note_self(keeper, message, ctx)


def say_again(keeper: Writer, ctx: Context) -> None:
    """Say in our own log all that others have said of it, as far as it does not yet. Within a transaction.

    Also the word that is held, or was taken out with the log of one that was expelled itself: here it counts.
    """
    store = keeper.store
    if keeper.settings.role == "cloud" or store.disowned:
        return
    own, told = node_of(store.origin), dict(store.documents(EXPELLED))
    ends = [key for end in store.expulsions() if not _has_said(told.get(key := ending(*end)), own)]
    for end in map(read_ending, ends):
        if end is not None and is_any_log(end[0]):
            ctx.log(WARNING, f"{node_of(end[0])} was expelled")
    if not ends:
        return
    request = client.RequestId(ctx.random.randbytes(16), 0)
    try:
        with store.savepoint():
            keeper.write(request, _writes(keeper, ends, ctx), ctx, system=True)
    except (InvalidError, TooLargeError) as fault:
        # whatever a member has written there, the entries that have come are taken
        ctx.log(ERROR, f"it is not said again who was expelled: {fault.text}")


def _writes(keeper: Writer, keys: list[str], ctx: Context) -> tuple[client.Write, ...]:
    own, now_ms = node_of(keeper.store.origin), ctx.now_ms()
    found = []
    for key in keys:
        stored = keeper.store.get(EXPELLED, key)
        body = said_in(stored)
        # a member could fill a document with names, so that no word of another has room
        body["Said"] = {**dict(sorted(body["Said"].items())[:MEMBERS_MAX]), own: now_ms}
        proof = _proof(keeper, key, stored)
        if proof is not None:
            shown = dict(sorted(body.get("Signatures", {}).items())[: PROOFS_MAX - 1])
            body["Signatures"] = {**shown, own: proof.hex()}
        found.append(client.Write(EXPELLED, key, json.dumps(body).encode()))
    return tuple(found)


def _proof(keeper: Writer, key: str, stored: bytes | None) -> bytes | None:
    """The signature of the last entry that counts: the one that stands here, or that another has said."""
    end = read_ending(key)
    last = keeper.store.entries([end]) if end is not None else []
    if last and last[0].signature is not None:
        return last[0].signature
    others = [*keeper.store.applying.proofs.get(key, ()), *signatures_in(stored)]
    return others[0] if others else None


def _has_said(body: bytes | None, node_id: str) -> bool:
    return node_id in said_in(body)["Said"]
