"""The verbs for who belongs to the cluster: members by the keys of their certificates, and who is out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.cluster.secrets import standing
from entgldb.launch.cli.common import FAILED, common, leave, say, show, table, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.nodes import KeyState, MemberRow

SHOWN: Final = 16
"""Digits of a key in the table; --json has all."""


@click.command()
@common
@click.option("--accept", "accepted", default="", metavar="N", help="The new key of node N counts.")
@click.option("--key", default="", help="The key to accept. [default: the one refused here lately]")
@with_database
def members(db: Database, as_json: bool, accepted: str, key: str) -> None:
    """Show who belongs to the cluster, by the key of each, and machines that were refused here lately.

    The first key of a node is pinned: a machine that shows another one under its name is refused, whatever
    certificate it has. Where a node was made anew, accept its new key: on all nodes it takes the place of
    the old one.

    \b
    Example:
      entgldb members
      entgldb members --accept lan-3
    """
    if accepted:
        counts = db.nodes.accept(accepted, key)
        if as_json:
            show({"node_id": accepted, "key": counts})
        else:
            say(f"{accepted} is the node with key {counts[:SHOWN]} from now on, on all nodes")
        return
    rows, refused, state = db.nodes.members(), db.nodes.refused(), db.nodes.cluster_key()
    if as_json:
        told = None if state is None else state._asdict()
        secrets = [row._asdict() for row in db.peers.secrets()]
        listed = [row._asdict() for row in rows]
        show({"members": listed, "refused": refused, "cluster_key": told, "secrets": secrets})
        return
    table(("node", "key", "since", "last seen", "state"), map(cells, rows))
    for row in refused:
        say(
            f"refused {_time(row['at_ms'])}: {row['node_id']} with key {row['key'][:SHOWN]} ({row['reason']})"
        )
    for line in standing(db.peers.secrets()):
        say(line)


@click.command("rotate-key")
@common
@click.option(
    "--wait", type=float, default=5.0, show_default=True, help="Seconds until all have moved to it."
)
@with_database
def rotate_key(db: Database, as_json: bool, wait: float) -> None:
    """Make a new cluster key: each member gets it, sealed to a key of its own, and moves to it by itself.

    Links stay. Members that are away move when they return. A machine that has only a copy of the old key
    comes in no more once all have moved, or after a day. Exit code 1: not all have moved yet.

    \b
    Example: entgldb rotate-key
    """
    before, until = db.nodes.cluster_key(), time.monotonic() + wait
    db.nodes.rotate_key()
    while _unmoved(state := db.nodes.cluster_key(), before):
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    if as_json:
        show({"cluster_key": None if state is None else state._asdict()})
    elif state is None or state.held != state.key:
        say("a new cluster key is made; this node has not moved to it yet")
    else:
        say(f"cluster key {state.key[:SHOWN]} counts from now on")
        if state.waiting:
            say(f"as soon as they are back or have it: {', '.join(state.waiting)}")
        _name_lacking(state)
    if _unmoved(state, before):
        leave(FAILED)


@click.command()
@common
@click.argument("node_id", metavar="N")
@click.option("--wait", type=float, default=5.0, show_default=True, help="Seconds until all others know.")
@with_database
def expel(db: Database, as_json: bool, node_id: str, wait: float) -> None:
    """Make a node no member any more, for good: a machine that was stolen, or that somebody else has.

    Every node that hears of it cuts its links, and takes nothing that the node has written since; what it had
    written before stays. From then on a node that is in no list of members has to be let in by members
    --accept. The cluster gets a new key, as by rotate-key. Client secrets of cloud peers that it knew are
    named: change them at the authority.

    \b
    Example: entgldb expel till-3
    """
    changed, until = db.nodes.expel(node_id), time.monotonic() + wait
    while (row := _expelled(db, node_id)) is None or _others(db, node_id) - set(row.told):
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    told = () if row is None else row.told
    missing, secrets = sorted(_others(db, node_id) - set(told)), db.peers.secrets()
    state = db.nodes.cluster_key()
    lacking = [] if state is None else list(state.lacking)
    if as_json:
        answer = {"node_id": node_id, "changed": changed, "told": list(told), "missing": missing}
        known = [row.node_id for row in secrets if row.known_outside]
        show({**answer, "secrets": known, "lacking": lacking})
        return
    say(f"{node_id} is expelled; {len(told)} of {len(told) + len(missing)} nodes know")
    if missing:
        say(f"as soon as they are back: {', '.join(missing)}")
    _name_lacking(state)
    for line in standing(secrets):
        say(line)


def _name_lacking(state: KeyState | None) -> None:
    if state is not None and state.lacking:
        say(f"given no new key yet, as they run an earlier release or were away: {', '.join(state.lacking)}")


def _unmoved(state: KeyState | None, before: KeyState | None) -> bool:
    """Whether a member has not taken a key that was made since ``before``."""
    if state is None or (before is not None and state.key == before.key):
        return True
    return bool(state.waiting) or state.held != state.key


def _expelled(db: Database, node_id: str) -> MemberRow | None:
    return next((row for row in db.nodes.members() if row.node_id == node_id and row.told), None)


def _others(db: Database, node_id: str) -> set[str]:
    return {row.node_id for row in db.nodes.members() if row.state == "member" and row.node_id != node_id}


def cells(row: MemberRow) -> tuple[str, ...]:
    """The line of a member, in which nothing that is not known yet is left to be guessed."""
    state = f"{row.state}, {len(row.told)} nodes know" if row.told else row.state
    if row.state == "member" and not row.moved:
        state = "member, old cluster key"
    key = "not seen yet" if row.key is None else row.key[:SHOWN]
    return row.node_id, key, _time(row.since, "not yet"), _time(row.last_seen, "not seen here"), state


def _time(at_ms: int | None, unknown: str = "") -> str:
    return unknown if at_ms is None else time.strftime("%F %T", time.localtime(at_ms / 1000))
