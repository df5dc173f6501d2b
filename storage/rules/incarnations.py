"""When a node must not continue its own log, and why it then goes on under a new incarnation."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """The reason why a node went on as a new writer."""

    RESTORED = "restored"
    """From a backup: its peers may have the node's later writes."""
    CLONED = "cloned"
    """The directory is a copy, or stands on another machine or file system."""
    ROLLED_BACK = "rolled-back"
    """The database is older than this node has been, by its own note or by what peers have of it."""
    REBUILT = "rebuilt"
    """The database was damaged and was begun anew."""
    LOST = "lost"
    """The database had vanished: the node began empty where a file had been."""
    SNAPSHOT = "snapshot"
    """The node's own unsent writes are issued again on top of a snapshot."""
    HEALED = "healed"
    """The node's own log was forked, and one branch of it was chosen."""
    CLOCK = "clock"
    """Its clock had run far ahead, and its operator had it go on with right stamps."""
    REJOINED = "rejoined"
    """The incarnation before was retired, and its operator let the node come back."""
