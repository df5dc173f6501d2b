"""The port by which a node knows whether it has the configuration of its cluster, and who was expelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from entgldb.messages.model import Origin


class Vouching(Protocol):
    """Part of ``ports.LogReader``."""

    def lacking(self) -> dict[Origin, int] | None:
        """Up to where in each log configuration is lacking that a cloud's snapshot covers; None: nowhere."""

    def expelled(self) -> frozenset[str]:
        """The nodes that were expelled, as far as is known here."""

    def vouches(self) -> bool:
        """Whether a snapshot of this file brings the configuration."""
