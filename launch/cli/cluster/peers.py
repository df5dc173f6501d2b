"""The verbs for remote peers: a change on any node is a change on all of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.launch.cli.cluster.rates import max_rate_option, told
from entgldb.launch.cli.common import FAILED, common, leave, say, show, table, with_database
from entgldb.launch.node.config_fields import Faults
from entgldb.launch.node.config_peers import read_ca_file
from entgldb.messages.errors import InvalidError, NoAnswerError
from entgldb.messages.limits import SECRET_BYTES_MAX
from entgldb.messages.remote_peers import AUTH_METHODS, PRIVATE_KEY_JWT, PeerType, RemotePeer

if TYPE_CHECKING:
    from entgldb.client.database import Database

SECRET_VARIABLE: Final = "ENTGLDB_CLIENT_SECRET"
WAIT_SECONDS: Final = 15.0


def _oauth2_options(function: Any) -> Any:
    for option in (
        click.option("--ca-file", type=click.Path(path_type=Path), help="PEM of the cloud's own CA."),
        click.option("--token-endpoint", metavar="URL", help="Where metadata does not name it."),
        click.option("--audience", metavar="A", help="Audience to ask a token for."),
        click.option(
            "--auth-method", type=click.Choice(AUTH_METHODS), help="How the client shows who it is."
        ),
        click.option("--scope", "scopes", multiple=True, metavar="S", help="May be repeated."),
        click.option("--client-secret-stdin", "from_stdin", is_flag=True, help="Read it from stdin."),
        click.option("--client-secret", metavar="env:NAME|file:PATH", help="Where the gateway finds it."),
    ):
        function = option(function)
    return function


def _secret(reference: str | None, from_stdin: bool, *, needed: bool) -> str | None:
    """The secret, or a reference to it; never from an argument, which every user of the machine may read."""
    if reference is not None and from_stdin:
        raise click.UsageError("--client-secret and --client-secret-stdin exclude each other.")
    if reference is not None:
        if not reference.startswith(("env:", "file:")):
            raise InvalidError(
                "--client-secret takes env:NAME or file:PATH, because arguments can be read by others",
                hint="--client-secret-stdin",
            )
        return reference
    if from_stdin:
        secret = sys.stdin.read(SECRET_BYTES_MAX + 1).rstrip("\r\n")
    elif not needed:
        return None
    elif os.environ.get(SECRET_VARIABLE):
        secret = os.environ[SECRET_VARIABLE]
    elif sys.stdin.isatty():
        secret = click.prompt("Client secret", hide_input=True, err=True)
    else:
        raise InvalidError(
            "the client secret is missing", hint=f"--client-secret-stdin, or set {SECRET_VARIABLE}"
        )
    if not secret or len(secret) > SECRET_BYTES_MAX:
        raise InvalidError(f"the client secret is empty or longer than {SECRET_BYTES_MAX} bytes")
    return str(secret)


def _ca_pem(file: Path | None) -> str | None:
    if file is None:
        return None
    faults = Faults()
    text = read_ca_file(file, "--ca-file", faults)
    if faults.lines:
        raise InvalidError(faults.lines[0])
    return text


def _peer_command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A verb that takes the node id of a peer, and nothing else of its own."""

    def decorate(function: Callable[..., None]) -> click.Command:
        taking = click.argument("node_id", metavar="N")(with_database(function))
        return click.command(name)(common(taking))

    return decorate


def _told(as_json: bool, node_id: str, changed: bool, did: str, otherwise: str) -> None:
    if as_json:
        show({"node_id": node_id, "changed": changed})
    else:
        say(f"{did} {node_id}" if changed else f"{node_id} {otherwise}; nothing to do")


@click.command("add-cloud-peer")
@common
@click.option("--node-id", required=True, metavar="N", help="What the cloud node calls itself.")
@click.option("--address", required=True, metavar="HOST:PORT")
@click.option("--authority", required=True, metavar="URL", help="The authorization server.")
@click.option("--client-id", required=True, metavar="ID")
@_oauth2_options
@max_rate_option
@click.option("--wait", is_flag=True, help="Until all nodes list it and the gateway has connected.")
@with_database
def add_cloud_peer(
    db: Database,
    as_json: bool,
    node_id: str,
    address: str,
    authority: str,
    client_id: str,
    client_secret: str | None,
    from_stdin: bool,
    scopes: tuple[str, ...],
    audience: str | None,
    token_endpoint: str | None,
    auth_method: str | None,
    ca_file: Path | None,
    max_rate: int | None,
    wait: bool,
) -> None:
    """Add a cloud peer, on all nodes of the LAN; the gateway dials it.

    Without an option for it the client secret is taken from ENTGLDB_CLIENT_SECRET, or asked for on a
    terminal. It is sealed under the cluster key before anything is stored. With --auth-method
    private_key_jwt there is none: each node signs with a key of its own, which entgldb client-key makes.

    Example: entgldb add-cloud-peer --node-id cloud-1 --address cloud.example.com:9000
    --authority https://identity.example.com --client-id lan --wait
    """
    begun = time.monotonic()
    changed = db.peers.add_cloud_peer(
        node_id,
        address,
        authority=authority,
        client_id=client_id,
        client_secret=_secret(client_secret, from_stdin, needed=auth_method != PRIVATE_KEY_JWT) or "",
        scopes=scopes or ("entgldb:sync",),
        audience=audience or "",
        ca_pem=_ca_pem(ca_file) or "",
        token_endpoint=token_endpoint or "",
        auth_method=auth_method or "",
        max_rate=max_rate or 0,
    )
    if wait:
        _wait(db, as_json, node_id, changed, begun)
    else:
        _told(as_json, node_id, changed, "added", "is there already")


def _wait(db: Database, as_json: bool, node_id: str, changed: bool, begun: float) -> None:
    """Until all nodes list the peer and the gateway has connected; NoAnswerError when that takes too long."""
    from entgldb.launch.cli.cluster.peer_wait import wait_until_connected

    outcome = wait_until_connected(db, node_id, begun, WAIT_SECONDS)
    if as_json:
        show({"node_id": node_id, "changed": changed, **outcome.fields()})
    else:
        say(outcome.sentence())
    if not outcome.ok:
        raise NoAnswerError(
            f"{node_id} is not connected after {WAIT_SECONDS:.0f} s: {outcome.reason}",
            hint=f"entgldb test-peer {node_id}",
        )


@click.command("add-static-peer")
@common
@click.option("--node-id", required=True, metavar="N")
@click.option("--address", required=True, metavar="HOST:PORT")
@with_database
def add_static_peer(db: Database, as_json: bool, node_id: str, address: str) -> None:
    """Add a LAN peer by address; every node dials it, also where discovery does not reach.

    Example: entgldb add-static-peer --node-id lan-9 --address 10.0.5.7:9000
    """
    changed = db.peers.add_static_peer(node_id, address)
    _told(as_json, node_id, changed, "added", "is there already")


@click.command("update-peer")
@common
@click.argument("node_id", metavar="N")
@click.option("--address", metavar="HOST:PORT")
@click.option("--authority", metavar="URL")
@click.option("--client-id", metavar="ID")
@_oauth2_options
@max_rate_option
@with_database
def update_peer(
    db: Database,
    as_json: bool,
    node_id: str,
    client_secret: str | None,
    from_stdin: bool,
    scopes: tuple[str, ...],
    ca_file: Path | None,
    **fields: Any,
) -> None:
    """Change what is given of a remote peer, on all nodes; its link is dialled again.

    Example: entgldb update-peer cloud-1 --address cloud2.example.com:9000
    """
    given: dict[str, Any] = {
        **fields,
        "client_secret": _secret(client_secret, from_stdin, needed=False),
        "scopes": scopes or None,
        "ca_pem": _ca_pem(ca_file),
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        raise click.UsageError("Nothing to change was given.")
    changed = db.peers.update_remote_peer(node_id, **given)
    _told(as_json, node_id, changed, "changed", "is so already")


@_peer_command("remove-peer")
def remove_peer(db: Database, as_json: bool, node_id: str) -> None:
    """Remove a remote peer for good, on all nodes.

    Example: entgldb remove-peer cloud-1
    """
    db.peers.remove_remote_peer(node_id)
    _told(as_json, node_id, True, "removed", "")


@_peer_command("enable-peer")
def enable_peer(db: Database, as_json: bool, node_id: str) -> None:
    """Let the peer be dialled again, by whoever is gateway.

    Example: entgldb enable-peer cloud-1
    """
    _told(as_json, node_id, db.peers.enable_peer(node_id), "enabled", "is enabled")


@_peer_command("disable-peer")
def disable_peer(db: Database, as_json: bool, node_id: str) -> None:
    """Close the link to a peer until it is enabled; writes made meanwhile wait.

    Example: entgldb disable-peer cloud-1
    """
    _told(as_json, node_id, db.peers.disable_peer(node_id), "disabled", "is disabled")


@click.command("list-peers")
@common
@with_database
def list_peers(db: Database, as_json: bool) -> None:
    """Show the remote peers this node knows; secrets are references or sealed.

    Example: entgldb list-peers --json
    """
    peers = db.peers.get_all_remote_peers()
    if as_json:
        show({"peers": [_shown(peer) for peer in peers]})
        return
    table(("peer", "address", "type", "state", "authority", "client"), map(_cells, peers))


def _cells(peer: RemotePeer) -> tuple[str, ...]:
    kind = {PeerType.CLOUD_REMOTE: "cloud", PeerType.STATIC_REMOTE: "static"}.get(peer.type, "lan")
    state = ", ".join(filter(None, ("enabled" if peer.enabled else "disabled", told(peer.max_rate))))
    oauth2 = (peer.oauth2.authority, peer.oauth2.client_id) if peer.oauth2 else ("", "")
    return peer.node_id, peer.address, kind, state, *oauth2


def _shown(peer: RemotePeer) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "node_id": peer.node_id,
        "address": peer.address,
        "type": int(peer.type),
        "enabled": peer.enabled,
        "max_rate": peer.max_rate,
    }
    if peer.oauth2 is not None:
        secret = peer.oauth2.client_secret
        until = peer.oauth2.previous_until if peer.oauth2.previous_secret else None
        shown["oauth2"] = {
            "authority": peer.oauth2.authority,
            "client_id": peer.oauth2.client_id,
            # a reference helps whoever looks for it; of a sealed text only that it is there
            "client_secret": "sealed" if secret.startswith("sealed:") else secret,
            "changes_over_until": until,
            "scopes": list(peer.oauth2.scopes),
            "audience": peer.oauth2.audience,
            "auth_method": peer.oauth2.auth_method,
            "ca_pem": bool(peer.oauth2.ca_pem),
        }
    return shown


@_peer_command("test-peer")
def test_peer(db: Database, as_json: bool, node_id: str) -> None:
    """Try a cloud peer step by step from this node: DNS, TCP, TLS, token, hello, clock offset.

    Example: entgldb test-peer cloud-1
    """
    steps = db.peers.test_peer(node_id)
    ok = bool(steps) and all(step.get("ok") for step in steps)
    if as_json:
        show({"node_id": node_id, "ok": ok, "steps": steps})
    else:
        for step in steps:
            mark = "ok  " if step.get("ok") else "FAIL"
            text = " ".join(f"{k}={v}" for k, v in step.items() if k not in ("name", "ok") and v != "")
            say(f"{mark} {step.get('name', ''):<10} {text}")
    if not ok:
        leave(FAILED)
