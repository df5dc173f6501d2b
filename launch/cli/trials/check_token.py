"""``entgldb check-token``: a token through exactly the verification of a cloud node."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import IO

import click

from entgldb.actors.oauth.http import AuthorityError
from entgldb.actors.oauth.profiles import PROFILES
from entgldb.actors.oauth.resource_server import SCOPE_DEFAULT, Accepted, Rules, TokenError, TokenVerifier
from entgldb.launch.cli.common import say, show
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import PEM_BYTES_MAX, TOKEN_BYTES_MAX
from entgldb.messages.remote_peers import check_authority

EXIT_REFUSED = 6


@click.command("check-token")
@click.option("--authority", required=True, metavar="URL", help="The authorization server to trust.")
@click.option("--audience", required=True, help="The audience the cloud node expects.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=(SCOPE_DEFAULT,),
    show_default=True,
    help="A scope the token must have; may be repeated.",
)
@click.option("--allow-client", "clients", multiple=True, metavar="ID", help="Accept only these clients.")
@click.option(
    "--profile",
    type=click.Choice(tuple(PROFILES)),
    default="rfc9068",
    show_default=True,
    help="The shape of the authority's tokens.",
)
@click.option("--authority-ca", type=click.File("rb"), help="PEM file of the authority's private CA.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check_token(
    authority: str,
    audience: str,
    scopes: tuple[str, ...],
    clients: tuple[str, ...],
    profile: str,
    authority_ca: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Read an access token from stdin and say whom it is for, or why a cloud node refuses it.

    Exit status 0 when it is accepted, 6 when it is refused.

    \b
    Example: entgldb check-token --authority https://id.example --audience cloud < token
    """
    try:
        check_authority(authority)
    except InvalidError as fault:
        raise click.UsageError(f"--authority: {fault.text}; {fault.hint}") from None
    ca_pem = authority_ca.read(PEM_BYTES_MAX).decode("ascii", "replace") if authority_ca else ""
    token = sys.stdin.buffer.read(TOKEN_BYTES_MAX + 3).decode("latin-1").strip()
    rules = Rules(authority, audience, scopes, clients, PROFILES[profile])
    verifier = TokenVerifier(authority, rules, lambda: ca_pem)
    try:
        accepted = asyncio.run(verifier.verify(token))
    except (TokenError, AuthorityError) as fault:
        _refuse(fault, as_json)
    else:
        _accept(accepted, as_json)


def _accept(accepted: Accepted, as_json: bool) -> None:
    until = datetime.fromtimestamp(accepted.expires_at, UTC).isoformat(timespec="seconds")
    if as_json:
        facts = {
            "accepted": True,
            "client_id": accepted.client_id,
            "subject": accepted.subject,
            "scopes": accepted.scopes,
            "expires_at": until,
        }
        show(facts)
    else:
        say(f"accepted: client {accepted.client_id}, scope {' '.join(accepted.scopes)}, until {until}")


def _refuse(fault: TokenError | AuthorityError, as_json: bool) -> None:
    if as_json:
        facts = {
            "accepted": False,
            "reason": fault.reason.value,
            "text": fault.text,
        }
        show(facts)
    else:
        say(f"{fault.reason.value}: {fault.text}", err=True)
    sys.exit(EXIT_REFUSED)
