"""The parts that all verbs share: the directory option, ``--json``, errors as one line, exit codes."""

from __future__ import annotations

import functools
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from entgldb.client.access import check_access, refused
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.messages.strict_json import read_object

SCHEMA_VERSION: Final = 1
FAILED, USAGE, NOT_FOUND, NO_NODE, DEGRADED, NOT_ALLOWED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

_EXIT: Final = {
    ErrorCode.INVALID: USAGE,
    ErrorCode.TOO_LARGE: USAGE,
    ErrorCode.UNSUPPORTED: USAGE,
    ErrorCode.NOT_FOUND: NOT_FOUND,
    ErrorCode.NO_NODE: NO_NODE,
    ErrorCode.TIMEOUT: NO_NODE,
    ErrorCode.BUSY: NO_NODE,
    ErrorCode.NOT_ALLOWED: NOT_ALLOWED,
    ErrorCode.TOKEN_REFUSED: NOT_ALLOWED,
    ErrorCode.NOT_SPREAD: DEGRADED,
}

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_F = TypeVar("_F", bound=Callable[..., Any])


def _accessible(ctx: click.Context, parameter: click.Parameter, directory: Path) -> Path:
    check_access(directory)
    return directory


directory_option = click.option(
    "-d",
    "--dir",
    "directory",
    type=click.Path(file_okay=False, readable=False, path_type=Path),
    callback=_accessible,
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
    except OSError as fault:
        click.echo(sentence(refused(fault)), err=True)
        return exit_code(refused(fault))
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return USAGE
    except click.UsageError as fault:
        help_command = f"{fault.ctx.command_path} --help" if fault.ctx is not None else "entgldb --help"
        click.echo(harmless(f"usage: {fault.format_message()} Try: {help_command}"), err=True)
        return USAGE
    except click.ClickException as fault:
        click.echo(harmless(f"failed: {fault.format_message()}"), err=True)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def sentence(fault: EntglError) -> str:
    """``code: sentence. Try: command``."""
    text = ended(fault.text)
    if not fault.definite:
        text += " It may have been done, or may yet be (definite: no)."
    if fault.key:
        text += f" Its key is {fault.key}."
    told = f"{fault.code.value}: {text}" + (f" Try: {fault.hint}" if fault.hint else "")
    # the faults of a configuration are one to a line
    return "\n".join(map(harmless, told.split("\n"))) if fault.code is ErrorCode.CONFIG else harmless(told)


def ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def exit_code(fault: EntglError) -> int:
    """The exit code that tells a shell script of ``fault``."""
    return _EXIT.get(fault.code, FAILED)


def leave(code: int) -> NoReturn:
    """End the verb with an exit code of its own, after its output."""
    click.get_current_context().exit(code)


def utc(ms: int) -> str:
    """A moment for people, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def show(fields: dict[str, Any]) -> None:
    """One JSON object with the version of its form."""
    click.echo(as_json_text({"schema_version": SCHEMA_VERSION, **fields}))


def as_json_text(value: Any) -> str:
    """JSON on one line that no terminal takes for an order; it reads back as exactly ``value``."""
    return harmless(json.dumps(value, ensure_ascii=False))


def harmless(text: str) -> str:
    """The text with control characters, line separators and marks of direction as ``\\u`` escapes."""
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def plain(text: str) -> str:
    """A key or another text of a user for people: one line, and never the same for two texts."""
    return harmless(text.replace("\\", "\\\\"))


def say(*columns: str, err: bool = False) -> None:
    """One line for people, its columns parted by tabs; the same in a pipe as on a terminal."""
    click.echo("\t".join(harmless(column) for column in columns), err=err)


def draw(lines: Sequence[str], rows: int) -> None:
    """At most ``rows`` lines over whatever the terminal shows."""
    text = "".join(f"{harmless(line)}\x1b[K\n" for line in lines[:rows])
    click.echo(f"\x1b[H{text}\x1b[J", nl=False)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their headers, for people; programs take --json."""
    from tabulate import tabulate

    cells = [[harmless(cell) for cell in row] for row in rows]
    click.echo(tabulate(cells, headers, tablefmt="plain", disable_numparse=True))


def speak_utf8() -> None:
    """Have this process print UTF-8, whatever the locale says: JSON is nothing else."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def read_stdin() -> str:
    """Standard input as text. Raises InvalidError for what is no UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise InvalidError(
            f"standard input is no UTF-8: byte {fault.start} is {fault.object[fault.start]:#04x}"
        ) from None


def asked(code: str) -> str:
    """The code of an invitation; ``-`` asks for it, so that no other user of the machine sees it."""
    if code != "-":
        return code
    return str(click.prompt("Code", err=True)) if sys.stdin.isatty() else sys.stdin.readline(200)


def read_json(text: str, name: str, depth_max: int = DEPTH_MAX) -> dict[str, Any]:
    """An argument that is a JSON object; ``-`` reads it from stdin. Raises InvalidError."""
    if text == "-":
        text = read_stdin()
    try:
        return read_object(text, name, depth_max)
    except InvalidError as fault:
        # a shell has taken the double quotes, or the person has given none
        like = """like this: '{"name": "Ada"}'""" if "JSON" in fault.text else ""
        raise InvalidError(fault.text, hint=fault.hint or like) from None


@contextmanager
def database(directory: Path) -> Iterator[Any]:
    """The node's database for one verb; it connects when something is written."""
    from entgldb.client.database import Database

    with Database(directory) as opened:
        yield opened


def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb ``db`` in place of ``directory``."""

    @functools.wraps(function)
    def verb(directory: Path, **options: Any) -> Any:
        with database(directory) as db:
            return function(db=db, **options)

    return verb
