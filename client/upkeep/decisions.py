"""An operator's decisions about entries that wait and logs that forked, for both APIs and the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entgldb.messages.administration import HealOrigin
from entgldb.messages.client import CommitDone, ReleaseOrigin, Report, SettleUnfit, Verify
from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.client.door import Door


def why(database: Door, collection: str, key: str) -> dict[str, Any]:
    """Where a document came from, who has it, and why somebody has not, as ``entgldb why --json`` tells it.

    Raises InvalidError for a name or key that cannot be one.
    """
    from entgldb.client.upkeep.why import trace

    try:
        live = database.status("node")
    except EntglError:
        live = {}  # the file alone knows a part
    return trace(database.directory, collection, key, live)


def forks(database: Door) -> list[dict[str, Any]]:
    """Logs of which two branches exist, with both proofs."""
    from entgldb.client.upkeep.forks import listed

    return database.documents.put_to(listed)


def heal_origin(database: Door, origin: str, keep: str) -> bool:
    """Decide which branch of a forked log stays, on all nodes: ``ours`` or ``theirs``; whether it is new.

    Raises NotFoundError, InvalidError.
    """
    answer = database.request(HealOrigin(database.next_request(), origin, keep))
    return isinstance(answer, CommitDone) and answer.lsn > 0


def settle_unfit(database: Door, origin: str, seq: int, *, retry: bool) -> None:
    """Apply an entry in quarantine now (``retry``), or let it go for good. Raises NotFoundError."""
    database.request(SettleUnfit(origin, seq, retry=retry))


def release_held(database: Door, origin: str) -> int:
    """Apply now all that is held of an origin; this node's clock follows it. How many entries."""
    released, left = 0, True
    while left:
        answer = database.request(ReleaseOrigin(origin))
        body: dict[str, Any] = answer.body if isinstance(answer, Report) else {}
        released, left = released + body["released"], body.get("left", False)
    return released


def verify(database: Door, peer: str = "", *, repair: bool = False) -> dict[str, Any]:
    """Begin to compare documents with a peer, or with all that are linked: the number of each run.

    ``status("oplog")["verify"]`` tells how it goes on. Raises EntglError.
    """
    from entgldb.client.wire import unless_refused

    answer = unless_refused(database.ask("oplog", Verify(peer, repair)))
    runs: dict[str, Any] = answer.body["runs"] if isinstance(answer, Report) else {}
    return runs
