"""The ``entgldb`` command. Each verb's module is imported only when that verb runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from entgldb._version import VERSION

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_VERBS: Final = {
    # verb: (module of entgldb.launch, command in it, one line for the overview)
    "init": ("cli.node.node", "init", "Make the directory of a new node."),
    "start": ("cli.node.node", "start", "Run the node until it is stopped."),
    "stop": ("cli.node.node", "stop", "Stop the running node in good order."),
    "status": ("cli.node.status", "status", "Show what every actor says of itself."),
    "top": ("cli.node.top", "top", "Show a node on one screen, again and again."),
    "version": ("cli.node.node", "version", "Show the version."),
    "put": ("cli.data.documents", "put", "Store a document."),
    "insert": ("cli.data.documents", "insert", "Store a document that is not there yet."),
    "get": ("cli.data.documents", "get", "Show a document."),
    "delete": ("cli.data.documents", "delete", "Delete a document."),
    "update": ("cli.data.updates", "update", "Change fields of a document."),
    "update-many": ("cli.data.updates", "update_many", "Change fields of all documents a filter matches."),
    "delete-many": ("cli.data.updates", "delete_many", "Delete all documents a filter matches."),
    "find": ("cli.data.queries", "find", "Show the documents a filter matches."),
    "count": ("cli.data.queries", "count", "Count the documents a filter matches."),
    "distinct": ("cli.data.queries", "distinct", "Show the different values at a field path."),
    "aggregate": ("cli.data.queries", "aggregate", "Group, count and add up documents."),
    "index": ("cli.data.indexes", "index", "Make, show, drop and rebuild indexes."),
    "collections": ("cli.data.documents", "collections", "Show the collections of the node."),
    "collection": ("cli.data.conflicts", "collection", "Show or set whether a collection merges fields."),
    "conflicts": ("cli.data.conflicts", "conflicts", "Show versions that lost a concurrent write."),
    "resolve": ("cli.data.conflicts", "resolve", "Settle a conflict, on all nodes."),
    "history": ("cli.data.conflicts", "history", "Show the versions of a document."),
    "undelete": ("cli.data.conflicts", "undelete", "Bring a deleted document back."),
    "import": ("cli.data.streams", "import_", "Store every line of a JSON Lines file."),
    "export": ("cli.data.streams", "export", "Write a collection as JSON Lines."),
    "changes": ("cli.data.streams", "changes", "Show what was written, in order; follow it."),
    "watch": ("cli.data.streams", "watch", "Show what enters a filter, changes and leaves it."),
    "why": ("cli.data.why", "why", "Tell where a document is, and why it is not where it is not."),
    "verify": ("cli.upkeep.verify", "verify", "Check the file; compare documents between nodes."),
    "doctor": ("cli.upkeep.doctor", "doctor", "Find out what is wrong with a node, and which command helps."),
    "diag": ("cli.upkeep.diag", "diag", "Write what helps to understand a node into one file."),
    "backup": ("cli.upkeep.backup", "backup", "Copy a node into a file; check such a file."),
    "restore": ("cli.upkeep.backup", "restore", "Put a backup into the directory of a stopped node."),
    "audit": ("cli.node.audit", "audit", "Show who did what on this node; prove that it is whole."),
    "forks": ("cli.cluster.forks", "forks", "Show logs that have two branches, with proofs."),
    "heal-origin": ("cli.cluster.forks", "heal_origin", "Decide which branch of a forked log stays."),
    "quarantine": ("cli.node.limits", "quarantine", "Show entries that cannot be applied; decide about one."),
    "held": ("cli.node.limits", "held", "Show what waits for clocks to agree; release it."),
    "clock": ("cli.node.limits", "clock", "Show this node's clock beside its peers'; write in spite of it."),
    "add-cloud-peer": ("cli.cluster.peers", "add_cloud_peer", "Add a cloud peer, on all nodes."),
    "add-static-peer": ("cli.cluster.peers", "add_static_peer", "Add a LAN peer by address, on all nodes."),
    "update-peer": ("cli.cluster.peers", "update_peer", "Change a remote peer, on all nodes."),
    "enable-peer": ("cli.cluster.peers", "enable_peer", "Let the peer be dialled again."),
    "disable-peer": ("cli.cluster.peers", "disable_peer", "Close the link to a peer, until enabled."),
    "remove-peer": ("cli.cluster.peers", "remove_peer", "Remove a remote peer for good, on all nodes."),
    "list-peers": ("cli.cluster.peers", "list_peers", "Show the remote peers."),
    "client-key": ("cli.cluster.client_key", "client_key", "This node's own key as a client of authorities."),
    "test-peer": ("cli.cluster.peers", "test_peer", "Try a cloud peer step by step."),
    "gateway": (
        "cli.cluster.gateway",
        "gateway",
        "Show who speaks to the clouds, and why the others do not.",
    ),
    "invite": ("cli.cluster.invite", "invite", "Show a code by which one new machine joins."),
    "nodes": ("cli.cluster.nodes", "nodes", "Show the nodes of the cluster and what each lacks."),
    "wait-synced": ("cli.cluster.spread", "wait_synced", "Wait until other nodes have what this one has."),
    "members": ("cli.cluster.members", "members", "Show who belongs to the cluster, by key."),
    "expel": ("cli.cluster.members", "expel", "A node is no member any more, for good."),
    "rotate-secret": ("cli.cluster.secrets", "rotate_secret", "Another client secret of a cloud peer."),
    "rotate-key": ("cli.cluster.members", "rotate_key", "A new cluster key, sealed to each member."),
    "retire-node": ("cli.cluster.nodes", "retire_node", "A node will not come back: keep nothing for it."),
    "rejoin": ("cli.cluster.nodes", "rejoin", "Let a node come back: retired, or by an old key."),
    "unpin-cluster": ("cli.cluster.nodes", "unpin_cluster", "Have a cloud node serve another cluster."),
    "tenant": ("cli.cluster.tenants", "tenant", "Add, show, suspend and delete tenants of a cloud node."),
    "compact": ("cli.upkeep.compact", "compact", "Forget what may be forgotten, make the file small."),
    "ask": ("cli.node.actors", "ask", "Send an actor a message, show its answer."),
    "tell": ("cli.node.actors", "tell", "Send an actor a message."),
    "pause": ("cli.node.pauses", "pause", "Have this node keep no links to its LAN, or to clouds."),
    "resume": ("cli.node.pauses", "resume", "End such a pause."),
    "log-level": ("cli.node.log_level", "log_level", "Have a running node log more, or less, for a while."),
    "reload": ("cli.node.actors", "reload", "Read the configuration again, without a restart."),
    "service": ("cli.node.service", "service", "Have systemd run the node."),
    "serve": ("cli.node.http", "serve", "Serve the node by HTTP."),
    "http-token": ("cli.node.http", "http_token", "Tokens of the HTTP server: add, list, revoke."),
    "bridge": ("cli.bridges.verbs", "bridge", "Hand changes to other systems: webhook, MQTT."),
    "cluster": ("cli.trials.cluster", "cluster", "A local playground of several nodes."),
    "man": ("cli.words.man", "man", "Show the man page of a verb, or write all."),
    "completion": (
        "cli.words.completion",
        "completion",
        "Have a shell complete verbs and options.",
    ),
    "demo": ("cli.trials.demo", "demo", "The whole of EntglDB in two minutes, checked."),
    "bench": ("cli.trials.bench", "bench", "Measure this machine's nodes beside what SQLite alone does."),
    "dev-authority": (
        "playground.dev_authority",
        "dev_authority",
        "A small authorization server to try things with.",
    ),
    "check-token": ("cli.trials.check_token", "check_token", "Judge a bearer token as a cloud node would."),
}


class Verbs(click.Group):
    """A group whose overview costs no imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            # difflib is needed by whoever mistyped, and by nobody else
            from difflib import get_close_matches

            near = get_close_matches(args[0], _VERBS, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, name, _ = _VERBS[cmd_name]
        command = getattr(import_module(f"entgldb.launch.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(verb, help=text) for verb, (_, _, text) in _VERBS.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(one for one in verbs if one.value.startswith(incomplete)), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, _, text) in _VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, "--version", prog_name="entgldb")
def entgldb() -> None:
    """EntglDB: an offline-first, peer-to-peer document database.

    \b
    Example:
      entgldb init -d n1 && entgldb start -d n1 --detach
      entgldb put -d n1 users u1 '{"name": "Ada"}'
    """


def main() -> None:
    """The console script: one line on stderr and an exit code for whatever goes wrong."""
    from entgldb.launch.cli.common import run, speak_utf8
    from entgldb.launch.node.files import leave_no_core

    leave_no_core()
    speak_utf8()
    sys.exit(run(entgldb, sys.argv[1:]))
