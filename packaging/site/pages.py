"""A hook of mkdocs: pages that the repository does not have as such, and links that lead out of the site.

GitHub shows docs/*.md as they stand; the site has the README, the API and the verbs besides.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent.parent
API = """# Python API

::: entgldb
    options:
      heading_level: 2
      members: [connect, open, launch, EntglError, Version]

## Databases and collections

::: entgldb.client.database.Database
    options: {heading_level: 3}

::: entgldb.client.collection.Collection
    options: {heading_level: 3}

## For asyncio

::: entgldb.client.aio.database.Database
    options: {heading_level: 3}

::: entgldb.client.aio.collection.Collection
    options: {heading_level: 3}

## Errors

::: entgldb.messages.errors
    options: {heading_level: 3}
"""
VERBS = """# Verbs

::: mkdocs-click
    :module: entgldb.launch.cli.main
    :command: entgldb
    :prog_name: entgldb
    :depth: 1
    :style: table
    :list_subcommands: True
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    readme = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    for name, text in (("index.md", readme), ("api.md", API), ("verbs.md", VERBS)):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A file outside the site is named, not linked."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./|examples/|LICENSE|CONTRIBUTING|CHANGELOG)[^)]*\)", r"\1", markdown)
