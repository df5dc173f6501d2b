from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from entgldb.actors.oauth import secret_file
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.messages.errors import SecretError
from entgldb.messages.limits import SECRET_BYTES_MAX
from entgldb.messages.remote_peers import OAuth2, is_reference
from entgldb.messages.secret import Secret

CLEAR = "correct horse battery staple"
SETTINGS = OAuth2("https://id.example", "gateway", scopes=("entgldb:sync",))


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "cluster.key"
    path.write_bytes(os.urandom(32))
    return str(path)


@pytest.fixture
def secrets(key_file: str) -> KeyedSecrets:
    return KeyedSecrets(key_file, "c1")


def sealed(secrets: KeyedSecrets) -> OAuth2:
    return replace(SETTINGS, client_secret=secrets.seal("cloud-1", SETTINGS, CLEAR))


def test_a_sealed_secret_opens_for_its_peer_and_shows_nothing(secrets: KeyedSecrets) -> None:
    settings = sealed(secrets)
    assert secrets.resolve("cloud-1", settings) == Secret(CLEAR)
    assert is_reference(settings.client_secret)
    assert CLEAR not in settings.client_secret
    assert CLEAR not in repr(settings)


def test_the_same_secret_sealed_twice_looks_different(secrets: KeyedSecrets) -> None:
    assert sealed(secrets).client_secret != sealed(secrets).client_secret


@pytest.mark.parametrize(
    "moved",
    [
        {"authority": "https://evil.example"},
        {"client_id": "someone-else"},
        {"token_endpoint": "https://evil.example/token"},
        {"ca_pem": "another authority"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_sealed_secret_does_not_open_after_its_destination_changed(
    secrets: KeyedSecrets, moved: dict[str, str]
) -> None:
    settings = sealed(secrets)
    changed = OAuth2(
        moved.get("authority", settings.authority),
        moved.get("client_id", settings.client_id),
        settings.client_secret,
        token_endpoint=moved.get("token_endpoint", ""),
        ca_pem=moved.get("ca_pem", ""),
    )
    assert not secrets.resolvable("cloud-1", changed)
    with pytest.raises(SecretError, match="does not belong"):
        secrets.resolve("cloud-1", changed)


def test_a_sealed_secret_moved_to_another_row_does_not_open(secrets: KeyedSecrets) -> None:
    assert not secrets.resolvable("cloud-2", sealed(secrets))


def test_a_sealed_secret_does_not_open_in_another_cluster(key_file: str, secrets: KeyedSecrets) -> None:
    assert not KeyedSecrets(key_file, "c2").resolvable("cloud-1", sealed(secrets))


def test_a_sealed_secret_does_not_open_under_another_key(tmp_path: Path, secrets: KeyedSecrets) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(os.urandom(32))
    with pytest.raises(SecretError, match="another cluster key"):
        KeyedSecrets(str(other), "c1").resolve("cloud-1", sealed(secrets))


def test_every_flipped_character_is_noticed(secrets: KeyedSecrets) -> None:
    settings = sealed(secrets)
    text = settings.client_secret
    start = text.rindex(":") + 1
    for index in range(start, len(text) - 1):
        flipped = "B" if text[index] == "A" else "A"
        broken = replace(settings, client_secret=text[:index] + flipped + text[index + 1 :])
        assert not secrets.resolvable("cloud-1", broken)


@pytest.mark.parametrize(
    "text", ["sealed:v1:", "sealed:v1:00:AAAA", "sealed:v2:00:AAAA", "", "env:", "clear"]
)
def test_nonsense_is_refused_without_being_quoted(secrets: KeyedSecrets, text: str) -> None:
    with pytest.raises(SecretError) as fault:
        secrets.resolve("cloud-1", replace(SETTINGS, client_secret=text))
    assert not text or text not in fault.value.text


def test_a_node_without_cluster_key_neither_seals_nor_opens(secrets: KeyedSecrets) -> None:
    keyless = KeyedSecrets("", "c1")
    assert not keyless.resolvable("cloud-1", sealed(secrets))
    with pytest.raises(SecretError, match="no cluster key"):
        keyless.seal("cloud-1", SETTINGS, CLEAR)


def test_a_missing_or_short_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="cannot be read"):
        KeyedSecrets(str(tmp_path / "absent"), "c1").seal("cloud-1", SETTINGS, CLEAR)
    short = tmp_path / "short.key"
    short.write_bytes(b"short")
    with pytest.raises(SecretError, match="32 bytes"):
        KeyedSecrets(str(short), "c1").seal("cloud-1", SETTINGS, CLEAR)


def test_an_environment_variable_is_read_each_time(
    secrets: KeyedSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, client_secret="env:ENTGLDB_TEST_SECRET")
    monkeypatch.delenv("ENTGLDB_TEST_SECRET", raising=False)
    assert not secrets.resolvable("cloud-1", settings)
    monkeypatch.setenv("ENTGLDB_TEST_SECRET", CLEAR)
    assert secrets.resolve("cloud-1", settings) == Secret(CLEAR)


def test_a_file_is_read_without_its_last_line_end(secrets: KeyedSecrets, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CLEAR + "\n")
    for path in ("secret", str(tmp_path / "secret")):
        settings = replace(SETTINGS, client_secret=f"file:{path}")
        assert secrets.resolve("cloud-1", settings) == Secret(CLEAR)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", b"x" * (SECRET_BYTES_MAX + 1)])
def test_a_file_without_a_usable_secret_is_refused(
    secrets: KeyedSecrets, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert not secrets.resolvable("cloud-1", replace(SETTINGS, client_secret="file:secret"))


def test_a_pipe_a_directory_and_nothing_are_refused_at_once(secrets: KeyedSecrets, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "absent"):
        assert not secrets.resolvable("cloud-1", replace(SETTINGS, client_secret=f"file:{name}"))
    for name in ("pipe", "."):
        with pytest.raises(SecretError, match="not a regular file"):
            secrets.resolve("cloud-1", replace(SETTINGS, client_secret=f"file:{name}"))


def test_a_mount_that_does_not_answer_holds_nobody_for_long(
    secrets: KeyedSecrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread is left behind, however often the secret is asked for; later it is read as always."""
    answers, opened = threading.Event(), list[str]()
    really = os.open

    def hung(path: str, flags: int) -> int:
        opened.append(path)
        assert answers.wait(30)
        return really(path, flags)

    (tmp_path / "secret").write_text(CLEAR)
    (tmp_path / "other").write_text(CLEAR)
    settings = replace(SETTINGS, client_secret="file:secret")
    monkeypatch.setattr(secret_file, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(secret_file.os, "open", hung)
    for _ in range(100):
        with pytest.raises(SecretError, match="was not read within"):
            secrets.resolve("cloud-1", settings)
    assert opened == [str(tmp_path / "secret")]
    monkeypatch.setattr(secret_file.os, "open", really)
    assert secrets.resolve("cloud-1", replace(SETTINGS, client_secret="file:other")) == Secret(CLEAR)
    left = secret_file._hanging[str(tmp_path / "secret")]
    answers.set()
    left.join(30)
    monkeypatch.setattr(secret_file, "WAIT_SECONDS", 10.0)
    assert secrets.resolve("cloud-1", settings) == Secret(CLEAR)
    assert secret_file._hanging == {}


def test_the_largest_secret_is_sealed_and_one_byte_more_is_not(secrets: KeyedSecrets) -> None:
    largest = "x" * SECRET_BYTES_MAX
    settings = replace(SETTINGS, client_secret=secrets.seal("cloud-1", SETTINGS, largest))
    assert secrets.resolve("cloud-1", settings) == Secret(largest)
    with pytest.raises(SecretError, match="no usable secret"):
        secrets.seal("cloud-1", SETTINGS, largest + "x")


def test_the_same_secret_given_again_is_recognised(secrets: KeyedSecrets) -> None:
    settings = sealed(secrets)
    assert secrets.matches("cloud-1", settings, CLEAR)
    assert secrets.matches("cloud-1", settings, settings.client_secret)
    assert not secrets.matches("cloud-1", settings, CLEAR + "x")
    assert not secrets.matches("cloud-1", settings, "env:NAME")
    assert not secrets.matches("cloud-1", settings, "")
    assert not secrets.matches("cloud-2", settings, CLEAR)


def test_a_reference_is_compared_as_it_stands(secrets: KeyedSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", CLEAR)
    settings = replace(SETTINGS, client_secret="env:NAME")
    assert secrets.matches("cloud-1", settings, "env:NAME")
    assert not secrets.matches("cloud-1", settings, "env:OTHER")
    assert not secrets.matches("cloud-1", settings, CLEAR)
