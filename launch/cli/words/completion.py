"""The script that has a shell complete verbs and options."""

from __future__ import annotations

from pathlib import Path

import click

from entgldb.launch.cli.common import common, say, show


@click.command()
@common
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(directory: Path, as_json: bool, shell: str) -> None:
    """Show the script that has SHELL complete verbs and options.

    \b
    Example:
      entgldb completion bash > ~/.local/share/bash-completion/completions/entgldb
      entgldb completion zsh > "${fpath[1]}/_entgldb"
      entgldb completion fish > ~/.config/fish/completions/entgldb.fish
    """
    from click.shell_completion import get_completion_class

    # the whole command line, whose part this is
    from entgldb.launch.cli.main import entgldb

    made = get_completion_class(shell)
    assert made is not None, "click has these three"
    text = made(entgldb, {}, "entgldb", "_ENTGLDB_COMPLETE").source()
    if as_json:
        show({"shell": shell, "script": text})
        return
    for line in text.splitlines():
        say(line)
