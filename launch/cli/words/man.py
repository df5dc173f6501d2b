"""Man pages, one a verb, as roff (man(7)): made of what ``--help`` shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from entgldb._version import VERSION
from entgldb.launch.cli.common import directory_option, json_option, say, show
from entgldb.messages.errors import NotFoundError

_VERBATIM = "\b"
"""The first line of a paragraph that click leaves as it stands."""


@click.command()
@directory_option
@json_option
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), help="Write all of them here.")
@click.argument("verb", nargs=-1)
def man(directory: Path, as_json: bool, into: Path | None, verb: tuple[str, ...]) -> None:
    """Show the man page of a verb, or write the pages of all.

    \b
    Example:
      entgldb man backup | man -l -
      entgldb man --into ~/.local/share/man/man1
    """
    found = dict(pages())
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (into / f"{name}.1").write_text(text, "utf-8")
        if as_json:
            show({"directory": str(into), "pages": sorted(found)})
        else:
            say(f"{len(found)} pages in {into}")
        return
    name = "-".join(("entgldb", *verb))
    if name not in found:
        raise NotFoundError(f"no verb {' '.join(verb)!r:.80}", hint="entgldb --help")
    for line in found[name].splitlines():
        say(line)


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of each page: of the command, of each verb, of each verb of a group."""
    # the whole command line, whose part this is
    from entgldb.launch.cli.main import entgldb

    # as the program makes it: a command keeps the options for help of the first context that asks for them
    yield from _pages(entgldb, click.Context(entgldb, info_name="entgldb", **entgldb.context_settings))


def _pages(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    inner = []
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            one = command.get_command(ctx, name)
            assert one is not None
            inner.append((one, click.Context(one, ctx, info_name=name)))
    yield ctx.command_path.replace(" ", "-"), "\n".join(_page(command, ctx, inner)) + "\n"
    for one, its in inner:
        yield from _pages(one, its)


def _page(
    command: click.Command, ctx: click.Context, inner: list[tuple[click.Command, click.Context]]
) -> Iterator[str]:
    path = ctx.command_path
    name = path.replace(" ", "-")
    yield f'.TH "{roff(name.upper())}" 1 "" "entgldb {roff(VERSION)}" "EntglDB"'
    yield f".SH NAME\n{roff(name)} \\- {roff(command.get_short_help_str(200))}"
    yield f".SH SYNOPSIS\n.B {roff(path)}\n{roff(' '.join(command.collect_usage_pieces(ctx)))}"
    yield f".SH DESCRIPTION\n{_prose(command.help or '')}"
    options = [record for one in command.get_params(ctx) if (record := one.get_help_record(ctx))]
    if options:
        yield ".SH OPTIONS"
        yield from (f".TP\n.B {roff(words)}\n{roff(text)}" for words, text in options)
    if inner:
        yield ".SH COMMANDS"
        for one, its in inner:
            yield f".TP\n.BR {roff(its.command_path.replace(' ', '-'))} (1)"
            yield roff(one.get_short_help_str(200))
    above = ctx.parent.command_path.replace(" ", "-") if ctx.parent is not None else ""
    if above:
        yield f".SH SEE ALSO\n.BR {roff(above)} (1)"


def _prose(text: str) -> str:
    """Paragraphs; those that click leaves as they stand are left so here."""
    made = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = [line.rstrip() for line in paragraph.splitlines()]
        if lines and lines[0].strip() == _VERBATIM:
            made.append("\n".join([".nf", *map(roff, lines[1:]), ".fi"]))
        else:
            made.append(roff(" ".join(line.strip() for line in lines)))
    return "\n.PP\n".join(made)


def roff(text: str) -> str:
    """A text as it stands: no character of it is an order to the formatter."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("\n", " ")
    return f"\\&{safe}" if safe[:1] in (".", "'") else safe
