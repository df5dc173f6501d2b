"""The configuration: the seed's block verbatim, variables, and all faults at once."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from entgldb.launch.node.config import load
from entgldb.launch.node.init import CloudOptions, Plan, init
from entgldb.messages.errors import ConfigError, EntglError, InvalidError
from entgldb.messages.limits import OPEN_TENANTS_MAX
from tests.support.seed_block import SEED_BLOCK


@pytest.fixture
def node(tmp_path: Path) -> Path:
    directory = tmp_path / "n1"
    init(Plan(directory, "lan-1", host="127.0.0.1", seeds=("10.0.0.2:9000",)))
    return directory


def edit(node: Path, old: str, new: str) -> None:
    file = node / "entgldb.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_init_makes_what_load_reads(node: Path) -> None:
    settings = load(node)
    assert settings.store.node_id == settings.election.node_id == "lan-1"
    assert settings.sync.seeds == ("10.0.0.2:9000",)
    assert settings.sync.listen.startswith("127.0.0.1:")
    assert not settings.sync.discovery
    assert len(settings.store.cluster) == 16
    assert settings.store.cluster == settings.gateway.cluster == settings.sync.cluster
    assert settings.store.key_file == str(node.resolve() / "cluster.key")


def test_directory_and_keys_are_the_owners_alone(node: Path) -> None:
    assert stat.S_IMODE(node.stat().st_mode) == 0o700
    for name in ("cluster.key", "entgldb.toml"):
        assert stat.S_IMODE((node / name).stat().st_mode) == 0o600
    assert len((node / "cluster.key").read_bytes()) == 32


def test_a_second_node_joins_by_the_key(node: Path, tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n2", "lan-2", cluster_key_file=node / "cluster.key"))
    assert load(made.directory).store.cluster == load(node).store.cluster
    other = init(Plan(tmp_path / "n3", "lan-3"))
    assert load(other.directory).store.cluster != load(node).store.cluster


def test_init_refuses_what_is_a_node_already(node: Path) -> None:
    key = (node / "cluster.key").read_bytes()
    with pytest.raises(EntglError, match="holds a node already"):
        init(Plan(node, "other"))
    assert (node / "cluster.key").read_bytes() == key


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ({"node_id": "no id"}, "--node-id"),
        ({"seeds": ("nowhere",)}, "--seed"),
        ({"cluster_key_file": Path("/no/such/key")}, "--cluster-key-file"),
        ({"cloud": CloudOptions("/no/cert", "/no/key", "https://a.example", "a")}, "--tls-cert"),
    ],
)
def test_init_names_the_bad_option_and_writes_nothing(
    tmp_path: Path, plan: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidError, match=word):
        init(Plan(tmp_path / "n", **plan))
    assert not (tmp_path / "n").exists()


def cloud_file(folder: Path, more: str) -> Path:
    """The directory of a cloud node with more settings in its section."""
    made = init(Plan(folder / "c1", "cloud-1", cloud=_cloud(folder)))
    file = made.directory / "entgldb.toml"
    file.write_text(file.read_text().replace("[cloud]", f"[cloud]\n{more}"))
    return made.directory


@pytest.mark.parametrize(
    ("text", "naming"),
    [
        ("", ("", "", ())),
        ('tenants = "client"', ("client", "", ())),
        ('tenants = "claim"\ntenant_claim = "shop"', ("claim", "shop", ())),
        (
            'tenants = "map"\ntenant_map = {b = "south", a = "north"}',
            ("map", "", (("a", "north"), ("b", "south"))),
        ),
    ],
)
def test_how_tenants_are_named_reaches_every_actor_that_serves_them(
    tmp_path: Path, text: str, naming: tuple[Any, ...]
) -> None:
    settings = load(cloud_file(tmp_path, text))
    sync = settings.sync
    assert (sync.tenants, sync.tenant_claim, sync.tenant_map) == naming
    assert settings.store.tenants is settings.oplog.tenants is bool(text)
    assert (sync.tenant_idle, sync.tenants_open) == (300.0, 200)


@pytest.mark.parametrize(
    ("text", "balancers"),
    [
        ("", ()),
        ("proxy = false", ()),
        ("proxy = true", ("*",)),
        ('proxy = ["10.0.0.5", "10.1.0.0/16"]', ("10.0.0.5/32", "10.1.0.0/16")),
    ],
)
def test_the_balancers_that_are_believed_are_named(
    tmp_path: Path, text: str, balancers: tuple[str, ...]
) -> None:
    assert load(cloud_file(tmp_path, text)).sync.proxy == balancers


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("proxy = []", "cloud.proxy: true, or a list of addresses"),
        ('proxy = "10.0.0.5"', "cloud.proxy: a list of texts"),
        ('proxy = ["*"]', "cloud.proxy[0]: an address, or a network"),
        ('tenants = "node"', "cloud.tenants: one of"),
        ('tenants = "claim"', "cloud.tenant_claim: is missing"),
        ('tenants = "map"', "cloud.tenant_map: is missing"),
        ('tenants = "map"\ntenant_map = {a = "no name"}', "cloud.tenant_map.a: 'no name' is not the name"),
        ('tenants = "client"\nshared = true', "cloud.tenants: is for clusters that do not mix"),
        (
            f'tenants = "client"\ntenants_open = {OPEN_TENANTS_MAX + 1}',
            f"cloud.tenants_open: a number from 1 to {OPEN_TENANTS_MAX}",
        ),
        ('tenants = "client"\ntenant_idle = 0', "cloud.tenant_idle: seconds above 0"),
        ('storage = "postgresql://u@h/d"', "cloud.storage: is for a cloud node that serves tenants"),
        ('tenants = "client"\nstorage = "mysql://u@h/d"', "cloud.storage: postgresql://USER@HOST/DATABASE"),
        ('tenants = "client"\nstorage = "postgresql://u:word@h/d"', "cloud.storage: has a password in it"),
        (
            'tenants = "client"\nstorage = "postgresql://h/d?password=w"',
            "cloud.storage: has a password in it",
        ),
    ],
)
def test_a_fault_in_how_tenants_are_named_is_told_with_its_place(
    tmp_path: Path, text: str, fault: str
) -> None:
    directory = cloud_file(tmp_path, text)
    if "shared" in text:
        file = directory / "entgldb.toml"
        file.write_text(file.read_text().replace("shared = false\n", ""))
    with pytest.raises(ConfigError) as caught:
        load(directory)
    assert fault in caught.value.text


def test_the_cloud_role_keeps_no_cluster_key(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    cloud = CloudOptions(
        str(tmp_path / "c.pem"),
        str(tmp_path / "k.pem"),
        "https://id.example.com/",
        "entgldb",
        allow_clients=("lan",),
    )
    made = init(Plan(tmp_path / "c1", "cloud-1", cloud=cloud))
    settings = load(made.directory)
    assert (settings.sync.role, settings.store.key_file, settings.store.cluster) == ("cloud", "", "")
    # RFC 8414, 3.3: an issuer is compared byte for byte, its slash included
    assert settings.sync.authority == "https://id.example.com/"
    assert settings.sync.scopes == ("entgldb:sync",)
    assert settings.sync.allow_clients == ("lan",)
    assert not settings.sync.discovery
    assert not (made.directory / "cluster.key").exists()


@pytest.mark.parametrize(
    ("options", "naming"),
    [
        ({"tenants": "client", "storage": "postgresql://u@h/d"}, ("client", "", ())),
        ({"tenants": "claim", "tenant_claim": "shop"}, ("claim", "shop", ())),
        (
            {"tenants": "map", "tenant_map": ("a=b=north", "gw south=south")},
            ("map", "", (("a=b", "north"), ("gw south", "south"))),
        ),
    ],
)
def test_init_makes_a_cloud_that_serves_tenants(
    tmp_path: Path, options: dict[str, Any], naming: tuple[str, str, tuple[tuple[str, str], ...]]
) -> None:
    made = init(Plan(tmp_path / "c1", "cloud-1", cloud=_cloud(tmp_path, **options)))
    found = load(made.directory).sync
    assert (found.tenants, found.tenant_claim, found.tenant_map) == naming
    assert found.storage == options.get("storage", "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tenants": "everybody"}, "--tenants"),
        ({"storage": "postgresql://u@h/d"}, "--storage goes with --tenants"),
        ({"tenants": "client", "storage": "postgresql://u:word@h/d"}, "has a password in it"),
        ({"tenants": "claim"}, "--tenant-claim"),
        ({"tenants": "client", "tenant_claim": "shop"}, "--tenant-claim"),
        ({"tenants": "map"}, "--tenant-map"),
        ({"tenant_map": ("a=b",)}, "--tenant-map"),
        ({"tenants": "map", "tenant_map": ("a",)}, "CLIENT=TENANT"),
        ({"tenants": "map", "tenant_map": ("a=b", "a=c")}, "each client once"),
        ({"tenants": "map", "tenant_map": ("a=../b",)}, "not the name of a tenant"),
    ],
)
def test_init_refuses_tenants_that_nobody_could_find(
    tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidError, match=re.escape(word)):
        init(Plan(tmp_path / "c1", "cloud-1", cloud=_cloud(tmp_path, **options)))
    assert not (tmp_path / "c1").exists()


def _cloud(folder: Path, **options: Any) -> CloudOptions:
    for name in ("c.pem", "k.pem"):
        (folder / name).write_text("x")
    return CloudOptions(
        str(folder / "c.pem"), str(folder / "k.pem"), "https://id.example.com", "entgldb", **options
    )


def test_the_seeds_appsettings_block_is_taken_verbatim(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "appsettings.json"
    file.write_text(SEED_BLOCK)
    settings = load(node, file, {"SECRET_FROM_ENV": "s3cret"})
    assert settings.store.node_id == "lan-1"
    assert settings.initial_peers == (
        {
            "node_id": "cloud-node-1",
            "address": "remote.entgldb.com:9000",
            "type": 2,
            "enabled": True,
            "authority": "https://identity.example.com",
            "client_id": "lan-cluster-client",
            "secret": "s3cret",
            "scopes": ["entgldb:sync"],
        },
    )


def test_the_block_may_stand_among_other_sections_in_pascal_case(node: Path, tmp_path: Path) -> None:
    block = json.loads(SEED_BLOCK.replace("${SECRET_FROM_ENV}", "env:S"))
    peer = block["EntglDb"]["InitialRemotePeers"][0]
    pascal = {k[0].upper() + k[1:]: v for k, v in peer.items() if k != "oAuth2"}
    pascal["OAuth2"] = {k[0].upper() + k[1:]: v for k, v in peer["oAuth2"].items()}
    file = tmp_path / "appsettings.json"
    file.write_text(json.dumps({"Logging": {"LogLevel": {}}, "EntglDb": {"InitialRemotePeers": [pascal]}}))
    (found,) = load(node, file, {}).initial_peers
    assert (found["node_id"], found["secret"]) == ("cloud-node-1", "env:S")


def test_a_variable_that_is_not_set_is_named_with_its_place(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "appsettings.json"
    file.write_text(SEED_BLOCK)
    with pytest.raises(ConfigError) as caught:
        load(node, file, {})
    assert "EntglDb.InitialRemotePeers[0].oAuth2.clientSecret" in caught.value.text
    assert "SECRET_FROM_ENV is not set" in caught.value.text
    assert len(caught.value.text.splitlines()) == 1


def test_a_variable_can_say_itself_what_is_missing(node: Path) -> None:
    edit(node, '"lan-1"', '"${NODE_NAME:?give this machine a name}"')
    with pytest.raises(ConfigError, match=r"entgldb\.toml: node\.id: give this machine a name"):
        load(node, None, {"NODE_NAME": ""})
    assert load(node, None, {"NODE_NAME": "lan-7"}).store.node_id == "lan-7"


def test_all_faults_come_at_once(node: Path) -> None:
    edit(node, '"lan-1"', '"bad id"')
    edit(node, '"10.0.0.2:9000"', '"10.0.0.2"')
    edit(node, "discovery = false", 'discovery = "no"\nmystery = 1')
    with (node / "entgldb.toml").open("a") as file:
        file.write('[sync]\ninterval = 0\n[election]\npriority = "high"\n[mystery]\n')
    with pytest.raises(ConfigError) as caught:
        load(node)
    lines = caught.value.text.splitlines()
    for place in (
        "node.id",
        "network.seeds[0]",
        "network.discovery",
        "network.mystery",
        "sync.interval",
        "election.priority",
        "mystery",
    ):
        assert sum(line.startswith(f"entgldb.toml: {place}:") for line in lines) == 1, (place, lines)


def test_faults_of_a_peer_are_named_with_their_place(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "appsettings.json"
    peers = [
        {"nodeId": "c1", "address": "nowhere", "type": "Cloud", "colour": 1},
        {
            "nodeId": "c2",
            "address": "a.example:1",
            "oAuth2": {"authority": "http://far.example", "clientId": "x"},
        },
        {"nodeId": "c2", "address": "a.example:1", "oAuth2": {"authority": "https://a.example"}},
    ]
    file.write_text(json.dumps({"EntglDb": {"InitialRemotePeers": peers, "Other": 1}}))
    with pytest.raises(ConfigError) as caught:
        load(node, file)
    for place in (
        "[0].address",
        "[0].type",
        "[0].colour",
        "[1].oAuth2",
        "[2].oAuth2.clientId",
        "[2].nodeId",
        "EntglDb.Other",
    ):
        assert f"{place}:" in caught.value.text, place


def test_a_missing_configuration_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.hint.startswith("entgldb init")


def test_announced_addresses_are_some_that_others_can_dial(node: Path) -> None:
    edit(
        node, "discovery = false", 'discovery = false\nannounce = ["198.51.100.7:9000", "node.example:9000"]'
    )
    assert load(node).sync.announce == ("198.51.100.7:9000", "node.example:9000")
    edit(node, '"node.example:9000"', '"0.0.0.0:9000", "nowhere"')
    with pytest.raises(ConfigError) as caught:
        load(node)
    assert "announce[1]: an address that others can dial is expected" in caught.value.text
    assert "announce[2]: announce 'nowhere' is not host:port" in caught.value.text
    edit(node, '"0.0.0.0:9000", "nowhere"', ", ".join(['"a.example:1"'] * 8))
    with pytest.raises(ConfigError, match="at most 8 addresses"):
        load(node)
