"""For the tests of an application: ``with entgldb.testing.Cluster(3) as cluster``, or the fixture
``entgldb_cluster`` of the plugin for pytest, which comes with the package."""

from __future__ import annotations

from entgldb.launch.testing.cluster import Cluster, Node, NotSettledError

__all__ = ["Cluster", "Node", "NotSettledError"]
