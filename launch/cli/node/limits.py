"""The verbs about what a node holds back or refuses: quarantine, held, clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import common, plain, say, show, with_database
from entgldb.messages.limits import DRIFT_MS_MAX

if TYPE_CHECKING:
    from entgldb.client.database import Database


@click.command()
@common
@click.option("--retry", nargs=2, type=(str, int), metavar="ORIGIN SEQ", help="Apply this entry now.")
@click.option("--drop", nargs=2, type=(str, int), metavar="ORIGIN SEQ", help="Let this entry go for good.")
@with_database
def quarantine(
    db: Database, as_json: bool, retry: tuple[str, int] | None, drop: tuple[str, int] | None
) -> None:
    """Show entries that could not be applied on this node, each with its reason, or decide about one.

    They are in the log and were passed on to other nodes; the document shown here is an older one. A later
    version of the document that can be applied ends the matter by itself. After an update of entgldb,
    retry. An entry that you drop is never applied on this node.

    \b
    Example:
      entgldb quarantine
      entgldb quarantine --retry lan-2/0f3c... 17
    """
    if retry and drop:
        raise click.UsageError("--retry and --drop exclude each other.")
    chosen = retry or drop
    if chosen:
        db.settle_unfit(*chosen, retry=retry is not None)
        done = "applied" if retry else "dropped"
        if as_json:
            show({"origin": chosen[0], "seq": chosen[1], "outcome": done})
        else:
            say(f"{done}: {chosen[0]} {chosen[1]}")
        return
    found = db.quarantine()
    if as_json:
        show({"quarantine": [{**one._asdict(), "version": list(one.version)} for one in found]})
        return
    for one in found:
        say(f"{one.collection} {plain(one.key)}: {one.reason}, {one.text}")
        say(f"  {one.version.origin} {one.version.seq}, set aside {_time(one.at_ms)}")
    if not found:
        say("nothing is in quarantine")


@click.command()
@common
@click.option("--release", metavar="ORIGIN", help="Apply now what is held of this origin.")
@with_database
def held(db: Database, as_json: bool, release: str | None) -> None:
    """Show what is held back because its writer's clock runs more than 60 s ahead, or release it.

    It is applied by itself when time has caught up. Released, it is applied at once, and the clock of this
    node follows the writer's: until time catches up, this node's own writes are stamped as far ahead, win
    over those of nodes with a right clock, and are held by them. Do it where the writer's clock is right
    and this node's is wrong, or where you need the data more than the order.

    \b
    Example:
      entgldb held
      entgldb held --release lan-2/0f3c...
    """
    if release:
        released = db.release_held(release)
        if as_json:
            show({"origin": release, "released": released})
        else:
            say(f"{released} entries of {release} are applied")
        return
    found = db.held()
    if as_json:
        show({"held": [one._asdict() for one in found]})
        return
    for one in found:
        say(f"{one.origin}: {one.entries} entries, the first is due {_time(one.first_due_ms)}")
    if not found:
        say("nothing is held")


@click.command()
@common
@click.option("--accept", is_flag=True, help="Write all the same, until the clock agrees again.")
@click.option("--reset", is_flag=True, help="The clock is right again: go on with right stamps.")
@with_database
def clock(db: Database, as_json: bool, accept: bool, reset: bool) -> None:
    """Show how this node's clock compares with its peers', or have it write in spite of it.

    A node whose clock is more than 60 s off against most of its peers (and at least two of them) refuses
    writes of its own until the clock is right. With --accept it goes on: where its clock runs ahead, the
    others hold what it writes until time catches up; where it runs behind, it holds what they write.

    Stamps never go back: after a clock that ran ahead is set right they go on from there, and the others hold
    them. With --reset the node writes on under a new incarnation with right stamps, and takes along what
    nobody else has; others drop the entries of the old one that they hold. Entries that other writers
    have stamped as far ahead (a cloud node's own ones, too) are held from then on, as they are elsewhere.

    Example: entgldb clock
    """
    if reset:
        from entgldb.messages.administration import ResetClock
        from entgldb.messages.client import Report

        done = db.request(ResetClock(db.next_request()))
        body = done.body if isinstance(done, Report) else {}
        if as_json:
            show(body)
        else:
            say(f"{body['written']} entries were stamped anew; this node writes as {body['origin']}")
            if body["held"]:
                say(f"{body['held']} wait until time has caught up, or their writer is reset: entgldb held")
        return
    if accept:
        from entgldb.messages.administration import AcceptClock

        db.request(AcceptClock())
    said: Any = db.status("store").get("clock")
    peers: Any = db.status("sync").get("peers")
    offsets = {peer["node_id"]: peer["clock_offset_ms"] for peer in peers or []}
    if as_json:
        show({**said, "peers": offsets})
        return
    off = "" if said["offset_ms"] is None else f": {-said['offset_ms'] / 1000:+.1f} s against its peers"
    say(f"clock {said['state']}{off}")
    say(f"stamps go on from {_time(said['high_mark_ms'])}")
    if said["ahead_ms"] > DRIFT_MS_MAX:
        say("which others hold: once this clock is right, entgldb clock --reset")
    elif said["behind_mark_ms"] > DRIFT_MS_MAX:
        say("which most clocks have shown: nothing is held for it")
    for node_id, offset in offsets.items():
        say(f"peer {node_id} is {offset / 1000:+.3f} s")


def _time(ms: int) -> str:
    """A moment in UTC; beyond the calendar as milliseconds."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"at {ms} ms since 1970"
