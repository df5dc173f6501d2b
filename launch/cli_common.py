"""What all verbs share: the directory option, ``--json``, errors as one line, exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from entgldb.messages.errors import EntglError, ErrorCode, InvalidError

SCHEMA_VERSION: Final = 1
FAILED, USAGE, NOT_FOUND, NO_NODE, DEGRADED, NOT_ALLOWED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

_EXIT: Final = {
    ErrorCode.INVALID: USAGE,
    ErrorCode.UNSUPPORTED: USAGE,
    ErrorCode.NOT_FOUND: NOT_FOUND,
    ErrorCode.NO_NODE: NO_NODE,
    ErrorCode.TIMEOUT: NO_NODE,
    ErrorCode.BUSY: NO_NODE,
    ErrorCode.NOT_ALLOWED: NOT_ALLOWED,
    ErrorCode.TOKEN_REFUSED: NOT_ALLOWED,
}

_F = TypeVar("_F", bound=Callable[..., Any])

directory_option = click.option(
    "-d",
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ENTGLDB_DIR",
    default=".",
    help="Directory of the node. [default: $ENTGLDB_DIR, then .]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def common(function: _F) -> _F:
    """The options every verb takes."""
    decorated: _F = directory_option(json_option(function))
    return decorated


def run(command: click.Command, arguments: list[str]) -> int:
    """Run ``command`` and give its exit code; every error becomes one line on stderr."""
    try:
        result = command.main(arguments, prog_name="entgldb", standalone_mode=False)
    except EntglError as fault:
        click.echo(sentence(fault), err=True)
        return exit_code(fault)
    except click.UsageError as fault:
        help_command = f"{fault.ctx.command_path} --help" if fault.ctx is not None else "entgldb --help"
        click.echo(f"usage: {fault.format_message()} Try: {help_command}", err=True)
        return USAGE
    except click.ClickException as fault:
        click.echo(f"failed: {fault.format_message()}", err=True)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def sentence(fault: EntglError) -> str:
    """``code: sentence. Try: command``."""
    text = fault.text if fault.text.endswith((".", "!", "?")) else fault.text + "."
    if not fault.definite:
        text += " It may have been done, or may yet be (definite: no)."
    return f"{fault.code.value}: {text}" + (f" Try: {fault.hint}" if fault.hint else "")


def exit_code(fault: EntglError) -> int:
    """What a shell script is told about ``fault``."""
    return _EXIT.get(fault.code, FAILED)


def leave(code: int) -> NoReturn:
    """End the verb with an exit code of its own, after its output."""
    click.get_current_context().exit(code)


def show(fields: dict[str, Any]) -> None:
    """One JSON object with the version of its form."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **fields}, ensure_ascii=False))


def read_json(text: str, name: str) -> dict[str, Any]:
    """An argument that is a JSON object; ``-`` reads it from stdin. Raises InvalidError."""
    if text == "-":
        text = sys.stdin.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise InvalidError(f"{name} is not JSON: {fault}", hint="put it in single quotes") from None
    if not isinstance(value, dict):
        raise InvalidError(f"{name} is not a JSON object")
    return value


@contextmanager
def database(directory: Path) -> Iterator[Any]:
    """The node's database for one verb; it connects when something is written."""
    from entgldb.launch.client import Database

    with Database(directory) as opened:
        yield opened


def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb ``db`` in place of ``directory``."""

    @functools.wraps(function)
    def verb(directory: Path, **options: Any) -> Any:
        with database(directory) as db:
            return function(db=db, **options)

    return verb
