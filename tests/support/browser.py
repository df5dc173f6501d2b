"""A headless Chromium for tests, and a page of it that tells whatever goes wrong in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NONE: Final = "no Chromium is here: apt-get install chromium, or CHROME=/path/to/it"
WAIT_MS: Final = 40_000
expect.set_options(timeout=WAIT_MS)
PHONE: Final = (360, 780)
"""The narrowest that are common."""


def chrome() -> str:
    """The program that ``CHROME`` names, or Debian's; skips the test where there is none."""
    found = os.environ.get("CHROME") or shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(found).exists():
        pytest.skip(NONE)
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """One browser, with a new and empty profile."""
    program = chrome()
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield made
        finally:
            made.close()


class Watched:
    """A page, and all that it should not have done."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.faults: list[str] = []
        """Errors on the console, exceptions, and requests that left for another host."""
        self.refused: list[str] = []
        """Requests that the server refused: the console tells of each, too."""
        self.page.on("pageerror", lambda fault: self.faults.append(f"exception: {fault}"))
        self.page.on("console", lambda said: self._said(said.type, said.text))
        self.page.on("request", lambda request: self._asked(request.url))

    def show(self, view: str) -> Page:
        """Open a view, and wait until it is there."""
        self.page.goto(f"{self.base}/#{view}")
        self.page.wait_for_selector("main h1", state="attached")
        self.page.wait_for_selector("#state.up")
        return self.page

    def toast(self, text: str) -> None:
        """Wait until the page says so."""
        self.page.locator(".toast", has_text=text).first.wait_for()

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            (self.refused if "status of 4" in text else self.faults).append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.base).netloc and not url.startswith(("data:", "blob:")):
            self.faults.append(f"left the host: {url}")
