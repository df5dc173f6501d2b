"""Templates, and the few words into which they put times and sizes. Everything is escaped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, Undefined
from starlette.responses import HTMLResponse

from entgldb._version import VERSION

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of all that the page is made of. Nothing is loaded from elsewhere, and no text becomes a program."""
PREVIEW_CHARS: Final = 200
"""Of a document in a list."""
WHOLE_CHARS: Final = 64_000
"""Of a document that is shown by itself; more of it is shown when asked for."""


def preview(value: Any, chars: int = PREVIEW_CHARS) -> str:
    """A value as JSON on one line, cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def pretty(value: Any) -> str:
    """A document as a person edits it; a large one without blanks, which would double it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) > WHOLE_CHARS else json.dumps(value, ensure_ascii=False, indent=2)


def ago(ms: float | None) -> str:
    """How long ago that was, or how long it is until then: ``3 min ago``, ``in 5 s``."""
    if ms is None:
        return "unknown"
    seconds = time.time() - ms / 1000
    told = span(abs(seconds))
    return f"in {told}" if seconds < 0 else f"{told} ago"


def span(seconds: float | None) -> str:
    """A length of time in its largest unit."""
    if seconds is None:
        return "unknown"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"


def moment(ms: float | None) -> str:
    """A time in UTC."""
    if ms is None:
        return "unknown"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000)) + "Z"


def size(count: float | None) -> str:
    """Bytes in their largest unit."""
    if count is None:
        return "unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def segment(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def number(count: int | None) -> str:
    """A whole number with thin spaces; a question mark where it is unknown, never 0."""
    return "?" if count is None else f"{count:,}".replace(",", "\u202f")


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("entgldb.web.dashboard"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["VERSION"] = VERSION
    made.filters.update({word.__name__: word for word in (preview, pretty, segment)})
    made.filters.update({word.__name__: _or_unknown(word) for word in (ago, span, moment, size, number)})
    return made


def _or_unknown(word: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same for a field that a report does not have: an actor that is down reports nothing."""
    return lambda value: word(None if isinstance(value, Undefined) else value)


_TEMPLATES: Final = _environment()


def render(name: str, **facts: Any) -> HTMLResponse:
    """The answer that a template makes."""
    return HTMLResponse(_TEMPLATES.get_template(f"{name}.html").render(facts), headers=HEADERS)
