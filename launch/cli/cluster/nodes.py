"""The verbs for the nodes of a cluster: the list, a node that will not come back, and its return after
all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import asked, common, say, show, table, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.nodes import NodeRow


@click.command()
@common
@with_database
def nodes(db: Database, as_json: bool) -> None:
    """Show every node: version, when it was first and last seen, how far behind it is, what it holds back.

    Unknown is shown as ? and, in JSON, as null. An absent node keeps log entries and tombstones from being
    collected on all nodes, until it returns or is retired. From retention.absence_limit on it keeps
    tombstones only.

    Example: entgldb nodes --json
    """
    rows = db.nodes.all()
    if as_json:
        show({"nodes": [row._asdict() for row in rows]})
        return
    headers = ("node", "state", "version", "last seen", "behind", "holds back")
    table(headers, map(cells, rows))


@click.command()
@common
@click.argument("node_id", metavar="N")
@with_database
def retire_node(db: Database, as_json: bool, node_id: str) -> None:
    """Say that a node will not come back: nothing is kept for it any more, on any node.

    If it returns all the same it is refused, until `entgldb rejoin` is run on it.

    Example: entgldb retire-node lan-3
    """
    changed = db.nodes.retire(node_id)
    if as_json:
        show({"node_id": node_id, "changed": changed})
    else:
        say(f"{node_id} {'is retired' if changed else 'was retired already'}")


@click.command()
@common
@click.argument("cluster", metavar="[CLUSTER]", default="")
@with_database
def unpin_cluster(db: Database, as_json: bool, cluster: str) -> None:
    """Let a cloud node serve another cluster: the next that a client brings.

    Run it on the cloud node after the cluster key was changed, or when somebody else's client came first;
    name the clients that may come in cloud.allow_clients before that. Clients of the cluster that was
    served are refused as soon as another one has come.

    Of several clusters (cloud.shared) name the one that will not come back: its nodes keep nothing any more.

    Example: entgldb unpin-cluster
    """
    from entgldb.messages.administration import UnpinCluster
    from entgldb.messages.client import Report

    done = db.request(UnpinCluster(cluster))
    body = done.body if isinstance(done, Report) else {}
    if as_json:
        show(body)
    elif cluster:
        say(f"nothing is kept for nodes of cluster {body['cluster']} any more")
    elif body["cluster"]:
        say(f"cluster {body['cluster']}, client {body['client_id']}, was unpinned: the next is served")
    else:
        say("no cluster was pinned; the next that comes is served")


@click.command()
@common
@click.option("--join", "code", default="", metavar="CODE", help="Take the cluster key by a member's code.")
def rejoin(directory: Path, as_json: bool, code: str) -> None:
    """Let a node come back that was retired, as a new incarnation. The node must not be running.

    With --join (- asks for the code): one that is refused as old-key, because the key by which it came does
    not count. A member shows the code by entgldb invite --for its name. Either way the node keeps all that it
    has, and catches up with the others when it starts.

    \b
    Example:
      entgldb rejoin -d n3
      entgldb rejoin -d n3 --join 0G50-0181-4KEG-0000-0006-J
    """
    if code:
        from entgldb.launch.joining.newcomer import take_key

        take_key(directory, asked(code))
        if as_json:
            show({"directory": str(directory)})
        else:
            say(f"next: entgldb start --dir {directory}")
        return
    from entgldb.launch.node.config import load
    from entgldb.launch.node.rejoining import rejoin as make

    origin = make(directory, load(directory).store.node_id)
    if as_json:
        show({"directory": str(directory), "origin": origin})
    else:
        say(f"the node goes on as {origin}")
        say(f"next: entgldb start --dir {directory}")


def cells(row: NodeRow) -> tuple[str, ...]:
    """A node in the table of nodes."""
    seen = "?" if row.last_seen is None else time.strftime("%F %T", time.localtime(row.last_seen / 1000))
    behind = "?" if row.behind is None else str(row.behind)
    return row.node_id, row.state, row.version or "?", seen, behind, _kept(row.holds_back)


def _kept(holds_back: dict[str, Any] | None) -> str:
    if not holds_back:
        return ""
    return f"{holds_back['entries']} entries, {holds_back['tombstones']} tombstones"
