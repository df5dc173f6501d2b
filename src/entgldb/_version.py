"""The one place that names the release."""

VERSION = "0.1.0"
BUILT_MS = 1_793_491_200_000
"""2026-11-01, when this release was made: a clock that shows an earlier time does not know it."""
