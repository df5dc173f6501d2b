"""The demo's input: the airports of the package ``airportsdata``, or others like them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MADE_UP: Final = 28_000
"""As many as there are real ones."""
_CITIES: Final = ("Vík", "São Tomé", "Łódź", "Cần Thơ", "Āgra", "Ōsaka", "Kraków", "Göteborg")
_ZONES: Final = ("Atlantic/Reykjavik", "Africa/Sao_Tome", "Europe/Warsaw", "Asia/Ho_Chi_Minh")


def airports() -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """By their codes; and what a person has to know of them, empty for real ones."""
    try:
        import airportsdata
    except ImportError:
        return made_up(), "made-up airports, as the extra [demo] is not installed"
    return airportsdata.load("ICAO"), ""


def made_up(number: int = MADE_UP) -> dict[str, dict[str, Any]]:
    """Airports that there are not, with the fields of real ones; the same in every run."""
    return dict(_one(place) for place in range(number))


def _one(place: int) -> tuple[str, dict[str, Any]]:
    code, city = f"X{place:05}", _CITIES[place % len(_CITIES)]
    return code, {
        "icao": code,
        "iata": "",
        "name": f"{city} Airport {place}",
        "city": city,
        "subd": f"District {place % 97}",
        "country": "XX",
        "elevation": float(place * 7 % 4_000),
        "lat": round(place * 37 % 18_000 / 100 - 90, 6),
        "lon": round(place * 73 % 36_000 / 100 - 180, 6),
        "tz": _ZONES[place % len(_ZONES)],
        "lid": code,
    }
