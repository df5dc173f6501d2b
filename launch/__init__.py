"""How it starts: configuration, command line, nodes, the client API.

``entgldb.launch`` is this package and, because a package is found under its name by whoever imports
anything in it, also the function that starts a node: ``with entgldb.launch("DIR") as node``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entgldb.launch.node.handle import Node


class _Launch(ModuleType):
    """A package that can be called."""

    def __call__(self, directory: str | Path, **options: Any) -> Node:
        """Start the node of ``directory`` as a child process; see ``entgldb.launch.node.handle.launch``."""
        from entgldb.launch.node.handle import launch

        return launch(directory, **options)


sys.modules[__name__].__class__ = _Launch
