"""The site's list of pages; the site itself is made by ``make docs``, which takes no warning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent


class Loader(yaml.SafeLoader):
    """Takes names of Python functions as words."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for one in inner for page in pages(one)]


def test_the_site_names_every_page_once() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    made = set(re.findall(r'\("(\w+\.md)"', (ROOT / "packaging" / "site" / "pages.py").read_text()))
    assert made == {"index.md", "api.md", "verbs.md"}
    written = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages(config["nav"])) == sorted(made | written)
    for hook in config["hooks"]:
        assert (ROOT / hook).exists()
