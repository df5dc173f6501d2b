"""All statements on Python versions agree: classifiers, README, and the versions that ``make matrix`` can
find."""

from __future__ import annotations

import configparser
import re
import sys

from tests.matrix import OLDEST, ROOT, found


def classified() -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])


def test_the_oldest_version_is_the_required_one() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options"]["python_requires"] == ">=" + ".".join(map(str, OLDEST))
    assert classified()[0] == "3.11"


def test_the_readme_names_the_versions_that_are_classified() -> None:
    told = re.search(r"so far they were run on (.*?)\.\n", (ROOT / "README.md").read_text())
    assert told is not None
    assert re.findall(r"3\.\d+", told[1]) == classified()


def test_the_matrix_finds_at_least_the_interpreter_that_looks() -> None:
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in found()
