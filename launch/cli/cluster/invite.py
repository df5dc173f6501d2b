"""``invite``: a code by which one new machine joins the cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import FAILED, common, leave, say, show
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, of_expelled
from entgldb.messages.limits import DRIFT_MS_MAX, INVITATION_MINUTES_MAX, INVITATION_MINUTES_MIN
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import join_address, split_address

if TYPE_CHECKING:
    from entgldb.launch.joining.doors import Invitation, Outcome
    from entgldb.launch.joining.exchange import Admission

EVERYWHERE = ("::", "0.0.0.0")  # noqa: S104 -- what a configuration may say, not what is bound here


@click.command()
@common
@click.option("--for", "node_id", default="", metavar="NODE", help="The id that the new node gets.")
@click.option(
    "--minutes",
    type=click.FloatRange(INVITATION_MINUTES_MIN, INVITATION_MINUTES_MAX),
    default=15,
    show_default=True,
)
@click.option("--at", "host", default="", metavar="HOST", help="Where the new machine reaches this one.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="To wait at. [default: a free one]")
@click.option("--qr", is_flag=True, help="Show the code as a QR code, too.")
@click.option("--behalf", default="", hidden=True)
def invite(
    directory: Path, as_json: bool, node_id: str, minutes: float, host: str, port: int, qr: bool, behalf: str
) -> None:
    """Show a code by which one new machine becomes a member, and wait for it.

    On the new machine: entgldb init --join CODE. The code is good once. It never goes over the network:
    both sides prove that they know it, and the cluster key is sealed for the one that does. Three wrong
    codes end the invitation, Ctrl-C withdraws it. The node itself need not run.

    \b
    Example:
      entgldb invite
      entgldb invite --for till-3 --minutes 5 --qr
    """
    from entgldb.client.upkeep.behalf import FOR
    from entgldb.launch.cli.node.audit import note
    from entgldb.launch.joining.code import new_code
    from entgldb.launch.joining.doors import Invitation
    from entgldb.launch.joining.exchange import SEEDS_MAX
    from entgldb.launch.joining.place import listener, own_address
    from entgldb.launch.node.config import load
    from entgldb.messages.administration import Event

    FOR.set(behalf)
    check_name(directory, node_id)
    settings = load(directory)
    if settings.sync.role != "lan":
        raise InvalidError("a cloud node is no member of a cluster", hint="invite on a node of the LAN")
    listen_host, listen_port = split_address(settings.sync.listen, "network.listen")
    check_stamps(directory)
    host = host or (own_address() if listen_host in EVERYWHERE else listen_host)
    known, others = known_nodes(directory), linked(directory)
    # those that it announces first: the machine may be behind a router
    seeds = (*settings.sync.announce, join_address(host, listen_port), *others)[:SEEDS_MAX]
    key_file = settings.store.key_file
    admission(key_file, node_id, seeds)  # a file that is none is told of before anybody is asked to come

    def admit(wanted: str) -> Admission | str:
        taken, out = {*known, *known_nodes(directory), settings.sync.node_id}, expelled_nodes(directory)
        return why_not(wanted, node_id, taken, out) or admission(key_file, node_id or wanted, seeds)

    with listener(host, port) as waiting:
        code = new_code(host, waiting.getsockname()[1])
        note(directory, Event.INVITED, node_id, f"for {minutes:g} minutes")
        _announce(code.text(), minutes, as_json, qr)
        invitation = Invitation(waiting, code.secret, admit)
        outcome = asyncio.run(_kept_open(invitation, minutes * 60, watched=bool(behalf)))
    if outcome.node_id:
        note(directory, Event.JOINED, outcome.node_id, f"at {outcome.address}", outcome.key)
    _report(outcome, as_json, accept_key(directory, outcome, settings.sync.node_id, known))


def admission(key_file: str | Path, node_id: str, seeds: tuple[str, ...]) -> Admission:
    """As the key is now: a new one may have been made since the invitation began."""
    from entgldb.actors.cluster_key import read_cluster_keys
    from entgldb.launch.joining.exchange import Admission

    return Admission(read_cluster_keys(key_file).for_newcomer, node_id, seeds)


def why_not(wanted: str, invited: str, taken: set[str], out: set[str]) -> str:
    """Why a guest cannot have the id that it wants; empty: it can."""
    if (wanted or invited) in out:
        return of_expelled(wanted or invited)
    if invited and wanted not in ("", invited):
        return f"the invitation is for {invited}, not for {wanted}"
    if not invited and wanted in taken:
        return f"a node {wanted} is there already; to replace it, invite with --for {wanted}"
    return ""


async def _kept_open(invitation: Invitation, seconds: float, *, watched: bool) -> Outcome:
    """How it ended. ``watched``: a program runs this command, and its closing of standard input withdraws."""
    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(sys.stdin)
        invitation.withdraw()

    if watched:
        loop.add_reader(sys.stdin, closed)
    return await invitation.wait(seconds)


def accept_key(directory: Path, outcome: Any, own: str, known: set[str]) -> bool:
    """The key of a guest is to count, and none that was there before; whether it does."""
    from entgldb.client.database import connect

    if not known or outcome.node_id == own or not outcome.key:
        return outcome.node_id not in known
    try:
        with connect(directory, timeout=5.0) as db:
            db.nodes.accept(outcome.node_id, outcome.key)
    except EntglError:
        return outcome.node_id not in known
    return True


def known_nodes(directory: Path) -> set[str]:
    """The ids of all nodes and cloud peers that the file knows, whether the node runs or not."""
    from entgldb.client.database import Database
    from entgldb.messages.model import NODES, REMOTE_PEERS

    try:
        with Database(directory) as db:
            return {key for name in (NODES, REMOTE_PEERS) for key, _ in db.documents.find(name)}
    except EntglError:
        return set()


def expelled_nodes(directory: Path) -> set[str]:
    """The ids of nodes that were expelled, whether the node runs or not."""
    from entgldb.client.database import Database

    try:
        with Database(directory) as db:
            return set(db.documents.expelled())
    except EntglError:
        return set()


def linked(directory: Path) -> list[str]:
    """The addresses of the peers that are linked; none where no node runs."""
    from entgldb.client.database import connect

    try:
        with connect(directory, timeout=5.0) as db:
            return addresses(db.status("sync"))
    except EntglError:
        return []


def check_name(directory: Path, node_id: str) -> None:
    """Raise InvalidError where nobody can be invited under a name; an empty one is left to the guest."""
    if node_id and check_node_id(node_id, "--for") in expelled_nodes(directory):
        raise InvalidError(f"--for: {of_expelled(node_id)}")


def check_stamps(directory: Path) -> None:
    """Raise EntglError ``clock`` where the others would hold that this node knows the newcomer."""
    from entgldb.client.database import connect

    try:
        with connect(directory, timeout=5.0) as db:
            clock = db.status("store").get("clock") or {}
    except EntglError:
        return
    if clock.get("ahead_ms", 0) > DRIFT_MS_MAX:
        raise EntglError(
            "the stamps of this node run ahead: no other would know the newcomer until time has caught up",
            code=ErrorCode.CLOCK,
            hint="invite on another node; or once this clock is right, entgldb clock --reset",
        )


def addresses(status: Mapping[str, Any]) -> list[str]:
    """Where the linked peers of a sync actor's status listen."""
    rows = [row for row in status.get("peers", ()) if row.get("state") == "connected"]
    return [str(row["address"]) for row in rows if row.get("address")]


def _announce(code: str, minutes: float, as_json: bool, qr: bool) -> None:
    if as_json:
        show({"code": code, "seconds": minutes * 60})
        return
    for line in (f"on the new machine, within {minutes:g} minutes:", "", f"  entgldb init --join {code}", ""):
        say(line)
    if qr:
        import segno

        segno.make(code.replace("-", ""), error="m").terminal(compact=True)
    say("waiting; Ctrl-C withdraws it", err=True)


def _report(outcome: Any, as_json: bool, pinned: bool) -> None:
    if as_json:
        show(
            {
                "joined": outcome.node_id,
                "address": outcome.address,
                "key": outcome.key,
                "pinned": pinned,
                "reason": outcome.why_not,
            }
        )
    elif outcome.node_id:
        say(f"{outcome.node_id} at {outcome.address} is a member now; start it there with entgldb start")
        if outcome.why_not:
            say(f"but {outcome.why_not}: look at it, and expect that it has the key", err=True)
        if not pinned:
            say(f"its key is not the one pinned yet: entgldb members --accept {outcome.node_id}", err=True)
    else:
        say(f"the invitation has ended: {outcome.why_not}", err=True)
    if not outcome.node_id or outcome.why_not:
        leave(FAILED)
