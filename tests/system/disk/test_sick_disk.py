"""The disk of a running node fails or fills up, and has room again."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.launch.node.child import environment
from entgldb.launch.node.init import Plan, init
from entgldb.launch.playground.cluster import Playground
from tests.system.support.full_disk import SICK
from tests.system.support.load import COLLECTION, flowing, pid, until_equal
from tests.system.support.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    with Playground(tmp_path) as made:
        made.make_lan(2)
        made.start()
        yield made


def test_a_store_whose_writes_all_fail_refuses_by_name_and_goes_on_by_itself(playground: Playground) -> None:
    node, other = playground.members
    with flowing(node.directory, "here-") as load:
        load.expected = SICK
        store = pid(node, "store")
        unlimited = resource.prlimit(store, resource.RLIMIT_FSIZE)
        resource.prlimit(store, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        try:
            until(lambda: load.refused["disk-error"] > 50, 10.0, "refusals")
            other.db[COLLECTION].put("there", {"n": 1})  # which the sick one cannot take now
            assert node.db[COLLECTION].get(next(iter(load.acknowledged))) is not None
            counts = node.db.status("store")["counts"]
            assert isinstance(counts, dict)
            assert int(str(counts["disk-error"])) > 50
        finally:
            resource.prlimit(store, resource.RLIMIT_FSIZE, unlimited)
        load.more(200)
        assert pid(node, "store") == store
    until_equal(playground)


def test_a_full_disk_refuses_writes_serves_reads_and_a_store_killed_meanwhile_comes_back(
    tmp_path: Path,
) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*namespace, "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a mount namespace of his own")
    made = init(Plan(tmp_path / "made", node_id="n1", host="127.0.0.1")).directory
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.system.support.full_disk", str(made), str(disk)],
        cwd=Path(__file__).parents[3],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
