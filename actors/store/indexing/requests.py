"""Indexes as requests ask for them, and their building: a step, then room for what has come meanwhile."""

from __future__ import annotations

import json
from typing import Final

from entgldb.actors.behaviour import INFO, Context
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.errors import InvalidError, NotAllowedError
from entgldb.messages.local.actors import BuildIndexes
from entgldb.messages.model import INDEXES
from entgldb.messages.schema import Message
from entgldb.storage.rules.indexing.definition import define

PAUSE: Final = 0.02
"""Seconds between two steps of building: about as long as one takes."""


def create_index(keeper: Writer, message: client.CreateIndex, ctx: Context) -> Message:
    """Raises EntglError; nothing is made then."""
    if message.request is not None and keeper.settings.role == "cloud":
        raise NotAllowedError(
            "a cloud node takes no part in what a cluster has everywhere",
            hint="make the index on a node of the LAN, or without everywhere",
        )
    definition = define(
        message.collection,
        message.paths,
        unique=message.unique,
        where=_filter(message.where),
        text=message.text,
        name=message.name,
    )
    keeper.store.indexes.create(definition, everywhere=message.request is not None)
    keeper.building.ask(ctx)
    key, body = "/".join(definition.place), definition.to_json().encode()
    if message.request is None or keeper.store.get(INDEXES, key) == body:
        return client.CommitDone((), 0)
    return keeper.write(message.request, (client.Write(INDEXES, key, body),), ctx, system=True)


def drop_index(keeper: Writer, message: client.DropIndex, ctx: Context) -> Message:
    """Raises NotFoundError."""
    everywhere = keeper.store.indexes.drop(message.collection, message.name)
    # one that had no room, or whose name was taken, may have its turn now
    keeper.building.ask(ctx)
    if not everywhere:
        return client.CommitDone((), 0)
    write = client.Write(INDEXES, f"{message.collection}/{message.name}", None)
    return keeper.write(message.request, (write,), ctx, system=True)


def rebuild_index(keeper: Writer, message: client.RebuildIndex, ctx: Context) -> Message:
    """Raises NotFoundError."""
    keeper.store.indexes.rebuild(message.collection, message.name)
    ctx.log(INFO, f"index {message.collection}/{message.name} is built again")
    keeper.building.ask(ctx)
    return client.Done()


def build(keeper: Writer, message: BuildIndexes, ctx: Context) -> Message:
    """One step; the next is asked for."""
    if keeper.building.replaced(message):
        return client.Done()
    begun = ctx.monotonic()
    more = keeper.store.indexes.tend(keeper.building.rows)
    keeper.building.took(ctx.monotonic() - begun)
    if more:
        keeper.building.ask(ctx, PAUSE)
    return client.Done()


def _filter(where: bytes | None) -> dict[str, object] | None:
    if where is None:
        return None
    try:
        found = json.loads(where)
    except ValueError:
        raise InvalidError("the filter of an index is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidError("the filter of an index is a JSON object")
    return found
