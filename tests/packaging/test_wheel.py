"""The wheel, as a stranger gets it: one top-level name, typed, and a console script that runs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_holds_one_top_level_name_and_all_four_folders(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"entgldb"}
    assert {"entgldb/py.typed", "entgldb/aio.py", "entgldb/testing.py"} <= set(names)
    for folder in ("messages", "storage", "storage/rules", "actors", "integrations", "launch"):
        assert f"entgldb/{folder}/__init__.py" in names
    page = "entgldb/web/dashboard"
    for file in ("templates/shell.html", "templates/mesh.svg", "static/dashboard.js"):
        assert f"{page}/{file}" in names
    for name in ("htmx", "uplot"):
        assert f"{page}/static/vendor/{name}.LICENSE" in names, "their licence comes along"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_console_script_runs_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    # its dependencies are those of the environment the tests run in: no network needed
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "env" / "bin" / "python")]
    install = [*pip, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    shown = subprocess.run(
        [str(tmp_path / "env" / "bin" / "entgldb"), "--version"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "entgldb" in shown.stdout
