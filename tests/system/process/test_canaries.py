"""Every secret that a node can have is searched in every place where somebody may look."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entgldb.actors.tls.certificates import ca_key
from entgldb.messages.secret import Secret
from entgldb.storage.file.open import open_reader
from entgldb.web.door.tokens import Tokens
from tests.system.support.cluster_fixture import SECRET, Cluster, Started
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150, method="signal")]

VERBS = (
    "status",
    "list-peers",
    "nodes",
    "members",
    "ask gateway Status",
    "ask store Status",
    "clock",
    "held",
    "audit",
    "history _system_remote_peers cloud-1",
    "doctor",
    "export _system_remote_peers",
    "update-peer cloud-1 --authority http://elsewhere.example",
)
HOLDERS = {"cluster.key", "node.key", "actors.key", "client-key.pem"}
"""The files whose purpose is to hold a secret; only their owner can read them."""
DATABASE = ("entgldb.db", "entgldb.db-wal")
"""Which hold the key of their writer, for the same reason."""
PARTS = ("cmdline", "environ")
ROTATED = "second-secret-after-a-change-7731"
BESIDE = "a-secret-beside-the-one-before-2290"
PASSWORD = "mqtt-password-canary-5519"
HOOK = b"webhook-secret-canary-of-32-bytes"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    class Served(Cluster):
        def prepare(self) -> None:
            self.lan[0].start_options = ("--http", "127.0.0.1:0")

    with Served(tmp_path_factory.mktemp("canaries"), lan=1, clouds=1) as made:
        [node] = made.lan
        node.run("log-level", "debug")
        made.add_cloud(node, made.clouds[0])
        made.until_held_by(made.clouds[0], node)
        yield made


def test_no_secret_comes_out_of_a_node(cluster: Cluster, tmp_path: Path) -> None:
    """Not by answers, files, backups, logs, arguments, environments, HTTP, or what is sent to a helper."""
    [node] = cluster.lan
    with ExitStack() as ended:
        said, secrets = lived(cluster, tmp_path, ended)
        pids = {pid for one in (*cluster.nodes, *said) for pid in one.pids()}
        sinks = {f"answer of {verb}": answer(cluster, verb) for verb in VERBS}
        of_processes = [Path(f"/proc/{pid}/{part}") for pid in pids for part in PARTS]
        sinks |= {str(one): one.read_bytes() for one in of_processes}
        sinks |= {f"HTTP {path}": body for path, body in pages(cluster)}
    node.run("backup", str(tmp_path / "node.bak"))
    node.run("diag", "-o", str(tmp_path / "node.zip"))
    with zipfile.ZipFile(tmp_path / "node.zip") as archive:
        sinks |= {f"diag {name}": archive.read(name) for name in archive.namelist()}
    written = [*tmp_path.glob("*.log"), *cluster.folder.glob("lan-*.log"), tmp_path / "node.bak"]
    files = [*files_of(cluster), *written]
    sinks |= {str(file): file.read_bytes() for file in files if file.name not in HOLDERS}
    assert len([sink for sink in sinks if sink.startswith("HTTP")]) > 10
    assert len(pids) > 15
    held = [
        (what, sink)
        for what, raw in secrets.items()
        for sink, content in sinks.items()
        if holds(content, raw) and not (what == "the writer's key" and Path(sink).name in DATABASE)
    ]
    print(f"{len(secrets)} secrets in 7 forms, {len(sinks)} sinks")
    assert held == []


class Bridge(Started):
    """One that runs beside the node."""

    def pids(self) -> list[int]:
        return [self.process.pid]


def lived(cluster: Cluster, tmp_path: Path, ended: ExitStack) -> tuple[list[Bridge], dict[str, bytes]]:
    """A node that has used each kind of secret, and processes that still do."""
    [node] = cluster.lan
    node.run("update-peer", "cloud-1", "--client-secret-stdin", stdin=ROTATED)
    eventually(lambda: "authority-refused" in json.dumps(node.ask("gateway")), "it is refused")
    node.run("update-peer", "cloud-1", "--client-secret-stdin", stdin=SECRET)
    node.run("rotate-secret", "cloud-1", "--client-secret-stdin", stdin=BESIDE)
    eventually(lambda: '"previous"' in json.dumps(node.ask("gateway")), "the one before is used")
    token = Tokens(node.directory).add("reader", "read", [], 0)
    node.run("client-key")
    started = []
    for name, verb in (
        ("invite", ("invite", "--json", "--at", "127.0.0.1")),
        ("webhook", ("bridge", "webhook", "--config", str(hook(tmp_path)))),
        ("mqtt", ("bridge", "mqtt", "--config", str(broker(tmp_path)))),
    ):
        arguments = (*verb, "--dir", str(node.directory))
        log = tmp_path / f"{name}.log"
        started.append(Bridge(f"{name}-{os.getpid()}", log, *arguments, environment=node.environment))
        ended.callback(started[-1].end)
    code: str = json.loads(started[0].first_line())["code"]
    for name in ("webhook", "mqtt"):
        log = tmp_path / f"{name}.log"
        eventually(lambda log=log: log.exists() and log.read_text(), f"{name} has tried")
    cluster_key = (node.directory / "cluster.key").read_bytes()
    with open_reader(node.directory) as connection:
        found = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'private_key'").fetchone()
    return started, {
        "the client secret": SECRET.encode(),
        "another client secret": ROTATED.encode(),
        "a client secret beside it": BESIDE.encode(),
        "the cluster key": cluster_key,
        "the key of the CA": ca_key(Secret(cluster_key)).private_bytes_raw(),
        "the node's TLS key": scalar(node.directory / "node.key"),
        "the client's key": scalar(node.directory / "client-key.pem"),
        "the writer's key": found[0],
        "the actors' key": (node.directory / "actors.key").read_bytes(),
        "a token of HTTP": token.reveal(),
        "the code of an invitation": code.encode(),
        "the webhook's secret": HOOK,
        "the broker's password": PASSWORD.encode(),
    }


def hook(folder: Path) -> Path:
    """A receiver at which nobody listens."""
    (folder / "hook.secret").write_text(f"whsec_{base64.b64encode(HOOK).decode()}\n")
    file = folder / "hook.toml"
    file.write_text('url = "http://127.0.0.1:1/"\nsecrets = ["file:hook.secret"]\ncollections = ["c"]\n')
    return file


def broker(folder: Path) -> Path:
    """A broker at which nobody listens."""
    (folder / "password").write_text(f"{PASSWORD}\n")
    file = folder / "broker.toml"
    file.write_text(
        'broker = "mqtt://127.0.0.1:1"\nusername = "u"\npassword = "file:password"\n'
        '[[out]]\ncollection = "c"\ntopic = "c/{key}"\n'
    )
    return file


def scalar(file: Path) -> bytes:
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32)


def answer(cluster: Cluster, verb: str) -> bytes:
    [node] = cluster.lan
    done = node.verb(*verb.split(), "--json")
    return (done.stdout + done.stderr).encode()


def pages(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """All that the HTTP server shows without being told of a document."""
    base = json.loads((cluster.lan[0].directory / "node.json").read_text())["http"]
    with urllib.request.urlopen(f"{base}/v1/openapi.json", timeout=20) as opened:
        described = json.loads(opened.read())["paths"]
    shown = [path for path, ways in described.items() if "get" in ways and "{" not in path]
    for path in ("/", "/ui/overview", "/ui/peers", "/ui/nodes", "/ui/upkeep", *shown):
        if path in ("/v1/backup", "/v1/changes"):
            continue
        try:
            with urllib.request.urlopen(base + path, timeout=20) as opened:
                yield path, opened.read()
        except urllib.error.HTTPError as fault:
            yield path, fault.read()


def files_of(cluster: Cluster) -> list[Path]:
    return [file for node in cluster.nodes for file in node.directory.rglob("*") if file.is_file()]


def holds(content: bytes, raw: bytes) -> bool:
    """Whether ``raw`` stands in ``content``: as it is, in hex, base64 (both alphabets) or UTF-16."""
    forms = [raw, raw.hex().encode(), raw.hex().upper().encode(), *base64_forms(raw)]
    forms += [form.translate(bytes.maketrans(b"+/", b"-_")) for form in base64_forms(raw)]
    if raw.isascii():
        forms.append(raw.decode().encode("utf-16-le"))
    return any(form in content for form in forms)


def base64_forms(raw: bytes) -> list[bytes]:
    """The texts of which base64 of anything that contains ``raw`` contains one, wherever ``raw`` begins in
    it."""
    return [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]


@pytest.mark.parametrize("shift", range(3))
def test_each_form_would_be_found(shift: int) -> None:
    raw = b"canary/of+bytes?" + bytes(range(200, 232))
    around = b"x" * shift + raw + b"y" * 7
    found = [raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(around)]
    found += [base64.urlsafe_b64encode(around), b"a" + raw + b"b"]
    assert [holds(one, raw) for one in found] == [True] * len(found)
    assert holds("secret".encode("utf-16-le"), b"secret")
    assert not holds(around.replace(b"c", b"d"), raw)
