"""``client-key``: the private key by which this node shows an authorization server who it is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from entgldb.launch.cli.common import common, say, show
from entgldb.messages.errors import InvalidError, SecretError
from entgldb.messages.limits import PEM_BYTES_MAX
from entgldb.messages.remote_peers import CLIENT_KEY_NAME
from entgldb.messages.secret import Secret


@click.command("client-key")
@common
@click.option(
    "--file",
    "name",
    default=CLIENT_KEY_NAME,
    show_default=True,
    metavar="PATH",
    help="Relative to the node's directory.",
)
def client_key(directory: Path, as_json: bool, name: str) -> None:
    """Show the public half of this node's client key, for the authorization server; make the key if missing.

    A cloud peer with --auth-method private_key_jwt needs no client secret: the gateway signs a short-lived
    assertion with its own key. Register what every node prints as the keys (JWKS) of one client.

    \b
    Example: entgldb client-key -d lan-1 > lan-1.jwks.json
    """
    from entgldb.actors.oauth.client_key import new_client_key, public_jwk
    from entgldb.actors.oauth.secret_file import read_bounded
    from entgldb.storage.file.durable import write_whole

    file = directory / name
    if not directory.is_dir():
        raise InvalidError(f"there is no directory {directory}", hint="entgldb init")
    made = not file.exists()
    if made:
        write_whole(file, new_client_key().reveal())
    try:
        pem = Secret(read_bounded(str(file), PEM_BYTES_MAX))
    except (OSError, ValueError) as fault:
        raise SecretError(f"{file} cannot be read: {fault}") from None
    if as_json:
        show({"file": str(file), "made": made, "keys": [public_jwk(pem)]})
        return
    say(f"{'made' if made else 'found'} {file}; it stays on this node", err=True)
    for line in json.dumps({"keys": [public_jwk(pem)]}, indent=2).splitlines():
        say(line)
