"""``ask`` and ``tell``: any admin message to any actor, by Thespian's own ask and tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from entgldb.client.upkeep.messages import ACTORS, admin_message, fields_of
from entgldb.client.wire import unless_refused
from entgldb.launch.cli.common import common, say, show
from entgldb.messages.client import Reload, Report
from entgldb.messages.errors import InvalidError
from entgldb.messages.schema import Message, to_array
from entgldb.messages.strict_json import read_json

ASK_SECONDS: Final = 5.0


def build_message(name: str, assignments: tuple[str, ...]) -> Message:
    """An admin message from ``name`` and ``field=value`` texts. Raises InvalidError listing what is known."""
    hints = fields_of(name)
    values: dict[str, Any] = {}
    for assignment in assignments:
        field, equals, text = assignment.partition("=")
        if not equals or field not in hints:
            given = ", ".join(one for one in hints if one.islower()) or "none"
            raise InvalidError(f"{assignment!r:.80} is no field=value of {name}; its fields: {given}")
        values[field] = _value(text, hints[field], f"{name}.{field}")
    return admin_message(name, values)


def _value(text: str, hint: Any, name: str) -> Any:
    if hint is str:
        return text
    try:
        return read_json(text, f"{name}={text!r:.40}")
    except InvalidError as fault:
        wanted = getattr(hint, "__name__", str(hint))
        raise InvalidError(f"{fault.text}; {wanted} is expected") from None


def _arguments(function: Any) -> Any:
    function = click.argument("assignments", nargs=-1, metavar="[FIELD=VALUE]...")(function)
    function = click.argument("message", metavar="MESSAGE")(function)
    function = click.argument("actor", type=click.Choice(ACTORS), metavar="ACTOR")(function)
    return common(function)


@click.command()
@_arguments
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=ASK_SECONDS, show_default=True, help="s")
def ask(
    directory: Path, as_json: bool, actor: str, message: str, assignments: tuple[str, ...], timeout: float
) -> None:
    """Send an actor a message and show its answer.

    Actors: node store oplog sync election gateway. Messages: Status, Ping, TestPeer node_id=N and
    those of `tell`.

    Example: entgldb ask election Status
    """
    wanted = build_message(message, assignments)
    # the actor system is imported by the two verbs that speak to it directly, and by no other
    from entgldb.launch.node.handle import ask as ask_actor

    answer = unless_refused(ask_actor(directory, actor, wanted, timeout))
    body = answer.body if isinstance(answer, Report) else {"answer": str(answer), "fields": to_array(answer)}
    if as_json:
        show({"actor": actor, "answer": body})
    else:
        for line in json.dumps(body, indent=2, ensure_ascii=False, default=repr).split("\n"):
            say(line)


@click.command()
@_arguments
def tell(directory: Path, as_json: bool, actor: str, message: str, assignments: tuple[str, ...]) -> None:
    """Send an actor a message without waiting for an answer.

    Messages: Reload, SyncNow, Isolate seconds=N, StandDown seconds=N, Stop.

    Example: entgldb tell sync SyncNow
    """
    wanted = build_message(message, assignments)
    from entgldb.launch.node.handle import tell as tell_actor

    tell_actor(directory, actor, wanted)
    if as_json:
        show({"actor": actor, "sent": message})
    else:
        say(f"sent {message} to {actor}")


@click.command()
@common
def reload(directory: Path, as_json: bool) -> None:
    """Have a running node read its configuration again.

    Seeds, intervals, election and backoff times, priority, log level and InitialRemotePeers take effect
    at once; the rest is named and waits for a restart. A file with a fault changes nothing.

    Example: entgldb reload --dir n1
    """
    from entgldb.client.database import Database

    with Database(directory) as db:
        answer = db.ask("node", Reload())
    body = answer.body if isinstance(answer, Report) else {}
    if as_json:
        show(body)
        return
    say(f"changed: {', '.join(body['changed']) or 'nothing'}")
    if body["restart_needed"]:
        say(f"restart needed for: {', '.join(body['restart_needed'])}")
