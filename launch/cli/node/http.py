"""The verbs of the HTTP server: serve, and the tokens that let others in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from entgldb.launch.cli.common import common, say, show, table

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@common
@click.option(
    "--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Port 0: any."
)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="A name of this server; may be repeated."
)
@click.option(
    "--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Beyond loopback."
)
@click.option(
    "--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Beyond loopback."
)
@click.option("--tokens", is_flag=True, help="Ask for a token on loopback, too.")
def serve(
    directory: Path,
    as_json: bool,
    listen: str,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tokens: bool,
) -> None:
    """Serve the node of a directory by HTTP, until it is told to end.

    On loopback nobody needs a token, unless --tokens says so: each user of the machine may ask then. Beyond
    it there must be TLS, and a token for each who asks.

    \b
    Example:
      entgldb serve -d n1 --listen 127.0.0.1:8080
      curl http://127.0.0.1:8080/v1/collections/users/documents/u1
    """

    from entgldb.launch.node.web import require
    from entgldb.web.door.place import read_place

    require()
    from entgldb.web import server

    place = read_place(listen)._replace(names=names, certificate=tls_cert, key=tls_key, tokens=tokens)

    def ready(url: str) -> None:
        if as_json:
            show({"url": url, "directory": str(directory)})
        else:
            say(f"serving {directory} at {url}")

    server.serve(directory, place, ready)


@click.group("http-token")
def http_token() -> None:
    """Tokens of the HTTP server: add, list, revoke."""


@http_token.command()
@common
@click.argument("name")
@click.option("--scope", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True)
@click.option(
    "--collection", "collections", multiple=True, metavar="C", help="Good for it alone; repeatable."
)
def add(directory: Path, as_json: bool, name: str, scope: str, collections: tuple[str, ...]) -> None:
    """Make a token and show it, once: only its hash is kept.

    Example: entgldb http-token add grafana --scope read
    """
    from entgldb.launch.cli.node.audit import note
    from entgldb.messages.administration import Event
    from entgldb.web.door.tokens import Tokens

    tokens = Tokens(directory)
    token = tokens.add(name, scope, collections, time.time_ns() // 1_000_000)
    note(directory, Event.HTTP_TOKEN, name, f"made for {scope}", tokens.key_id(name))
    if as_json:
        show({"name": name, "token": token.text()})
    else:
        say(token.text())


@http_token.command("list")
@common
def list_(directory: Path, as_json: bool) -> None:
    """Show the tokens there are, without their secrets.

    Example: entgldb http-token list
    """
    from entgldb.web.door.tokens import Tokens

    found = Tokens(directory).all()
    if as_json:
        rows = [
            {"name": t.name, "scope": t.scope, "collections": t.collections, "at_ms": t.at_ms} for t in found
        ]
        show({"tokens": rows})
        return
    table(
        ("name", "scope", "collections"),
        [(t.name, t.scope, ", ".join(t.collections) or "all") for t in found],
    )


@http_token.command()
@common
@click.argument("name")
def revoke(directory: Path, as_json: bool, name: str) -> None:
    """Refuse a token from now on.

    Example: entgldb http-token revoke grafana
    """
    from entgldb.launch.cli.node.audit import note
    from entgldb.messages.administration import Event
    from entgldb.web.door.tokens import Tokens

    tokens = Tokens(directory)
    key_id = tokens.key_id(name)
    tokens.revoke(name)
    note(directory, Event.HTTP_TOKEN, name, "withdrawn", key_id)
    if as_json:
        show({"name": name})
    else:
        say(f"token {name} is refused from now on")
