"""``entgldb doctor``: what is wrong with a node, and which command helps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.client.health.finding import TOPICS
from entgldb.launch.cli.common import DEGRADED, common, leave, say, show

if TYPE_CHECKING:
    from entgldb.client.health.finding import Finding, Look


_GROUPED: Final = 100_000
"""A smaller number may be a port."""


@click.command()
@common
@click.argument("topics", nargs=-1, type=click.Choice(TOPICS), metavar="[network|clock|disk|db|cloud]...")
def doctor(directory: Path, as_json: bool, topics: tuple[str, ...]) -> None:
    """Examine a node, whether it runs or not, and tell of each finding which command helps.

    network: dials, links and refusals, discovery, the own port and certificate. clock: this machine's and the
    peers', stamps that are held. disk: space, the write-ahead log, the time of an fsync, programs that
    read the file. db: SQLite's quick check, quarantine, forks, how long ago documents were compared, indexes.
    cloud: each cloud peer, from its name to its greeting, each step with its time. Without a topic: all.

    A line that begins with ! wants something done, and then the exit code is 5; one with - is for knowing.

    \b
    Example:
      entgldb doctor
      entgldb doctor network cloud
    """
    from entgldb.launch.doctor.examine import examine, wrong

    chosen = [topic for topic in TOPICS if topic in topics] or list(TOPICS)
    progress = _progress if sys.stderr.isatty() else lambda topic: None
    looks = examine(directory, chosen, progress)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    found = wrong(looks)
    if as_json:
        show({"ok": not found, "topics": {topic: _fields(look) for topic, look in looks.items()}})
    else:
        for topic, look in looks.items():
            _tell(topic, look)
        say(_summed(len(found), sum(len(look.findings) for look in looks.values()) - len(found)))
    if found:
        leave(DEGRADED)


def _summed(wanting: int, harmless: int) -> str:
    """The last line: how many findings want something done, and how many are for knowing."""
    match wanting:
        case 0:
            said = "nothing wants anything done"
        case 1:
            said = "1 finding wants something done"
        case _:
            said = f"{wanting} findings want something done"
    return f"{said}; {harmless} for knowing" if harmless else said


def _progress(topic: str) -> None:
    click.echo(f"\r\x1b[Kexamining {topic}", nl=False, err=True)


def _fields(look: Look) -> dict[str, Any]:
    return {"facts": look.facts, "findings": [one.fields() for one in look.findings]}


def _tell(topic: str, look: Look) -> None:
    say(topic)
    for name, value in look.facts.items():
        if told := words(value):
            say(f"    {name.replace('_', ' ')}: {told}")
    for one in sorted(look.findings, key=_least_last):
        mark = "-" if one.harmless else "!"
        say(f"  {mark} {one.text.removesuffix(f': {one.remedy}')}. Try: {one.remedy}")


def _least_last(one: Finding) -> bool:
    return one.harmless


def words(value: Any) -> str:
    """A figure of a topic for a person: nothing where there is nothing to say."""
    match value:
        case _ if value in (None, "", [], {}):
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if value >= _GROUPED else str(value)
        case list():
            return ", ".join(words(item) for item in value)
        case {"steps": list(steps), **rest}:
            parts = (f"{one['name']} {'ok' if one['ok'] else 'FAILED'} {one['ms']} ms" for one in steps)
            return f"{words(rest)}: {', '.join(parts)}"
        case dict():
            return ", ".join(f"{name} {words(item)}" for name, item in value.items() if words(item))
    return str(value)
