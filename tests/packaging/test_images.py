"""The files from which images, add-on and machines are made: their form, and the verbs that they name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from entgldb._version import VERSION
from entgldb.launch.cli.main import entgldb
from entgldb.messages.model import check_node_id

ROOT = Path(__file__).parent.parent.parent
DOCKER, ADD_ON = ROOT / "packaging" / "docker", ROOT / "packaging" / "home-assistant"


def parsed(words: list[str]) -> None:
    """The command line takes these words: verb, options and arguments. Raises UsageError."""
    ctx = entgldb.make_context("entgldb", ["--help"], resilient_parsing=True)
    command: click.Command = entgldb
    while isinstance(command, click.Group):
        found = command.get_command(ctx, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context("verb", words, parent=ctx)


def verbs(text: str) -> Iterator[list[str]]:
    """The command lines of ours in a script or a page."""
    whole = text.replace("\\\n", " ")
    for line in re.findall(
        r"(?:^|[\s/(\"'])entgldb ((?!entgldb )(?:[a-z-]+ )?[a-z-]+ --?[^\n|;&)`]*)", whole
    ):
        yield shlex.split(re.sub(r"\{\{ [^}]+ }}", "lan-1", line))


def dockerfile(file: Path) -> dict[str, list[str]]:
    """Instruction -> its arguments, in order."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", " ", file.read_text()).splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
    return found


def test_the_image_runs_a_wheel_as_nobody_special_and_asks_how_the_node_is() -> None:
    made = dockerfile(DOCKER / "Dockerfile")
    assert len(made["FROM"]) == 2, "the second stage has no sources"
    assert [line for line in made["COPY"] if not line.startswith("--chmod")] == [". ."]
    assert made["USER"] == ["10001"]
    assert made["VOLUME"] == ["/data"]
    assert made["EXPOSE"] == ["9000"]
    check = made["HEALTHCHECK"][0].partition("CMD ")[2]
    words = yaml.safe_load(check)
    assert words[0] == "entgldb"
    parsed(words[1:])
    assert yaml.safe_load(made["ENTRYPOINT"][0]) == ["entgldb-entry"]


def test_the_image_is_made_of_the_sources_and_of_nothing_that_lies_beside_them() -> None:
    _, first, *others = (ROOT / ".dockerignore").read_text().splitlines()
    assert first == "*", "a clone may hold nodes with their keys"
    taken = {line[1:] for line in others if line.startswith("!")}
    for path in taken:
        assert (ROOT / path).exists()
    rooms = {link.resolve().name for link in (ROOT / "src" / "entgldb").iterdir() if link.is_dir()}
    assert rooms - {"__pycache__"} <= taken
    assert {"pyproject.toml", "setup.cfg", "README.md", "LICENSE", "packaging/docker/entry.sh"} <= taken


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


def test_the_services_are_three_nodes_a_cloud_and_what_they_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"authority", "keys", "lan-1", "lan-2", "lan-3", "cloud", "peer"}
    nodes = {name: one for name, one in services.items() if name.startswith(("lan", "cloud"))}
    places = {one["environment"]["ENTGLDB_PORT"] for one in nodes.values()}
    assert len(places) == len(nodes), "they share a network"
    for name, one in services.items():
        assert one["read_only"]
        assert one["cap_drop"] == ["ALL"]
        assert one["init"]
        for needed in one.get("depends_on", {}):
            assert needed in services, name
        for volume in one.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"], name
    for one in nodes.values():
        check_node_id(one["environment"]["ENTGLDB_NODE_ID"])
        assert "healthcheck" not in one, "the image's own"
    for one in (services["lan-2"], services["lan-3"]):
        port = services["lan-1"]["environment"]["ENTGLDB_PORT"]
        assert one["environment"]["ENTGLDB_SEEDS"] == f"127.0.0.1:{port}"


def test_the_services_use_verbs_and_options_that_there_are(compose: dict[str, Any]) -> None:
    services = compose["services"]
    parsed(services["peer"]["command"])
    parsed(["init", *services["cloud"]["environment"]["ENTGLDB_INIT"].split()])
    script = services["authority"]["entrypoint"][2]
    parsed(shlex.split(script)[2:])
    (made,) = verbs(services["keys"]["entrypoint"][2])
    parsed(made)
    assert re.findall(r"from (entgldb[\w.]+) import (\w+)", services["keys"]["entrypoint"][2]) == [
        ("entgldb.launch.playground.certificate", "make_server_certificate")
    ]


@pytest.mark.parametrize("began", [False, True])
def test_the_image_makes_a_node_once_and_becomes_it(tmp_path: Path, began: bool) -> None:
    program = tmp_path / "bin" / "entgldb"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor word; do printf "<%s>" "$word"; done\necho\n')
    program.chmod(0o755)
    if began:
        (tmp_path / "entgldb.toml").touch()
    environment = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "ENTGLDB_DIR": str(tmp_path),
        "ENTGLDB_NODE_ID": "lan 1",
        "ENTGLDB_CLUSTER_KEY_FILE": "/keys/a key",
        "ENTGLDB_SEEDS": "a:1 b:2",
        "ENTGLDB_INIT": "--role lan",
    }

    def runs(*words: str) -> list[str]:
        told = subprocess.run(
            ["sh", str(DOCKER / "entry.sh"), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout.splitlines()

    made = (
        "<init><--port><9000><--seed><a:1><--seed><b:2><--node-id><lan 1>"
        "<--cluster-key-file></keys/a key><--role><lan>"
    )
    assert runs("start") == (["<start>"] if began else [made, "<start>"])
    assert runs("status", "--json") == ["<status><--json>"]


def test_the_add_on_has_the_form_that_home_assistant_reads() -> None:
    config = yaml.safe_load((ADD_ON / "config.yaml").read_text())
    assert config["version"] == VERSION
    assert {"name", "slug", "description", "arch"} <= config.keys()
    assert set(config["arch"]) == set(yaml.safe_load((ADD_ON / "build.yaml").read_text())["build_from"])
    assert config["options"].keys() == config["schema"].keys()
    for language in ("en", "de"):
        told = yaml.safe_load((ADD_ON / "translations" / f"{language}.yaml").read_text())
        assert told["configuration"].keys() == config["options"].keys()
        assert told["network"].keys() == config["ports"].keys()
    script = (ADD_ON / "run.sh").read_text()
    asked = set(re.findall(r"bashio::config(?:\.has_value)? '(\w+)'", script))
    assert asked == config["options"].keys()
    assert "Not run" in (ADD_ON / "DOCS.md").read_text()
    assert dockerfile(ADD_ON / "Dockerfile")["CMD"] == ['["/run.sh"]']


@pytest.mark.parametrize("script", [DOCKER / "entry.sh", ADD_ON / "run.sh"], ids=lambda file: file.name)
def test_scripts_are_scripts(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    program = shutil.which("shellcheck")
    if program is not None:
        subprocess.run([program, "--shell=sh", str(script)], check=True)


def test_the_page_names_verbs_and_options_that_there_are() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    plays = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    commands = [
        value["cmd"]
        for task in plays[0][0]["tasks"]
        for name, value in task.items()
        if name == "ansible.builtin.command"
    ]
    assert len(commands) == 3
    found = [words for command in commands for words in verbs(command)]
    found += [words for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for words in verbs(block)]
    assert len(found) >= 5
    for words in found:
        parsed(words)
