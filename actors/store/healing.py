"""``heal-origin``: somebody decides which branch of a forked log stays, and every node carries it out.

The decision is a document of a system collection, so that it reaches every node of the LAN, those that
are away now included. A cloud node takes part in no system collection: a fork there is healed there, and
no node hears of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from entgldb.actors.behaviour import ERROR, WARNING, Context
from entgldb.actors.ports import Store
from entgldb.actors.session import own_log
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.administration import HealOrigin
from entgldb.messages.errors import OF_THE_DISK, EntglError, InvalidError, NotFoundError, Reason
from entgldb.messages.limits import COUNT_MAX
from entgldb.messages.model import HEALED, node_of
from entgldb.messages.schema import Message
from entgldb.storage.rules.incarnations import Why


def heal_origin(keeper: Writer, message: HealOrigin, ctx: Context) -> Message:
    """Decide for all nodes of the LAN, or for this cloud node; carry it out here."""
    if message.keep not in ("ours", "theirs"):
        raise InvalidError(f"keep {message.keep!r:.40}", hint="ours or theirs")
    kept = keeper.store.incarnations.branch(message.origin, message.keep)
    if kept is None:
        raise NotFoundError(f"no fork of {message.origin:.120} waits for a decision", hint="entgldb forks")
    seq, digest = kept
    if keeper.settings.role == "cloud":
        _count(keeper, _carry_out(keeper.store, message.origin, seq, digest, ctx))
        return client.CommitDone((), 0)
    body = {"Origin": message.origin, "Seq": seq, "Hash": digest.hex(), "By": node_of(keeper.store.origin)}
    write = client.Write(HEALED, message.origin, json.dumps(body).encode())
    answer = keeper.write(message.request, (write,), ctx, system=True)
    tend(keeper, ctx)
    return answer


def tend(keeper: Writer, ctx: Context) -> None:
    """Now and then: do what was decided, wherever it has not been done here."""
    own_log.after_applying(keeper.store, ctx)
    for origin, body in keeper.store.documents(HEALED):
        try:
            decision = json.loads(body)
            seq, kept = decision["Seq"], bytes.fromhex(decision["Hash"])
        except (KeyError, TypeError, ValueError):
            continue
        if type(seq) is not int or not 0 < seq <= COUNT_MAX:
            continue
        try:
            with keeper.store.savepoint():
                lost = _carry_out(keeper.store, origin, seq, kept, ctx)
        except EntglError as fault:
            if fault.code in OF_THE_DISK:
                raise
            # one origin that cannot be healed keeps no other waiting, nor what came with this
            ctx.log(ERROR, f"{origin} could not be healed: {fault.text}")
        else:
            _count(keeper, lost)


def _count(keeper: Writer, lost: Mapping[str, int]) -> None:
    for reason, keys in lost.items():
        keeper.count(Reason(reason), keys)


def _carry_out(store: Store, origin: str, seq: int, kept: bytes, ctx: Context) -> Mapping[str, int]:
    """Keys of the branch that went of which something could be kept nowhere, by the Reason."""
    if origin == store.origin and store.disputes(origin, seq, kept):
        own_log.begin_anew(store, Why.HEALED, ctx)
    # randomness only where it is needed: this is asked every few seconds, and nearly always in vain
    healed = store.incarnations.heal(origin, seq, kept, lambda: ctx.random.randbytes(32), ctx.now_ms())
    if healed.taken_out:
        ctx.log(
            WARNING, f"{origin}: {healed.taken_out} entries of the branch that was not kept were taken out"
        )
    if healed.lost:
        ctx.log(WARNING, f"{origin}: what it had put to {sum(healed.lost.values())} keys is kept nowhere")
    return healed.lost
