"""The authorization server fails in every way there is, one after the other, under one running cluster.

Each time: the LAN does not notice, the gateway's status names the reason, and when the server is well
again the cloud link goes on without anybody's help.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from entgldb.actors.oauth.client_key import new_client_key, public_jwk
from entgldb.messages.remote_peers import CLIENT_KEY_NAME, PRIVATE_KEY_JWT
from tests.system.support.cloud_trial import Trial
from tests.system.support.cluster_fixture import CLIENT, Cluster
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, method="signal")]

LIFETIME_SECONDS = 1
"""Of a token: the gateway needs a new one all the time, so that a fault is felt at once."""
RETRY_AFTER_SECONDS = 3
ALGORITHMS = [{"algorithm": name} for name in ("RS256", "PS256", "EdDSA", "ES256")]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with Cluster(tmp_path_factory.mktemp("cluster"), lan=2, clouds=1) as cluster:
        cluster.control(lifetime_s=LIFETIME_SECONDS)
        cluster.add_cloud(cluster.lan[1], cluster.clouds[0])
        with Trial(cluster) as made:
            yield made


@dataclass(frozen=True)
class Fault:
    """A fault of the server, how it ends, and the reason that is shown."""

    begin: dict[str, Any]
    end: dict[str, Any]
    reason: str
    recovery_seconds: float = 10.0


def mode(name: str, reason: str) -> Fault:
    return Fault({"mode": name}, {"mode": "ok"}, reason)


FAULTS = {
    "closes every connection": mode("down", "authority-unreachable"),
    "hangs": mode("hang", "authority-unreachable"),
    "says 500": mode("500", "authority-error"),
    "shows a web page": mode("html", "authority-error"),
    "cuts its answer short": mode("truncated", "authority-error"),
    "sends 64 MiB": mode("huge", "authority-error"),
    "redirects": mode("redirect", "authority-error"),
    "refuses the client": Fault({"revoke": CLIENT}, {"allow": CLIENT}, "authority-refused"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_harms_no_lan_and_ends_by_itself(trial: Trial, fault: Fault) -> None:
    cluster = trial.cluster
    trial.is_well()
    before, lan_before = trial.count(fault.reason), trial.lan_faults()
    cluster.control(**fault.begin)
    eventually(lambda: trial.link["reason"] == fault.reason, f"{fault.reason} is shown", 25.0)
    assert trial.count(fault.reason) > before
    eventually(lambda: set(trial.troubles.values()) == {fault.reason}, "every node says why", 25.0)
    trial.lan_is_untouched()
    cluster.control(**fault.end)
    trial.recovers(fault.recovery_seconds)
    eventually(lambda: trial.troubles == {}, "every node says that it is over")
    assert trial.lan_faults() == lan_before


def test_a_server_that_says_429_is_asked_again_when_it_said(trial: Trial) -> None:
    trial.is_well()
    before = trial.count("authority-error")
    trial.cluster.control(mode="429", retry_after_s=RETRY_AFTER_SECONDS)
    eventually(lambda: trial.count("authority-error") > before, "the refusal")
    asked, begun = trial.cluster.control()["requests"], time.monotonic()
    assert trial.link["reason"] == "authority-error"
    trial.lan_is_untouched()
    eventually(lambda: trial.cluster.control()["requests"] > asked, "asked again")
    assert time.monotonic() - begun > RETRY_AFTER_SECONDS - 0.5
    trial.cluster.control(mode="ok", retry_after_s=0)
    trial.recovers(10.0)


def test_a_server_that_is_gone_and_comes_back_with_other_keys_is_taken_up_again(trial: Trial) -> None:
    cluster = trial.cluster
    trial.is_well()
    assert cluster.authority is not None
    cluster.authority.process.kill()
    cluster.authority.end()
    eventually(lambda: trial.link["reason"] == "authority-unreachable", "its absence is shown")
    trial.lan_is_untouched()
    cluster.start_authority(int(cluster.issuer.rpartition(":")[2]))
    cluster.control(lifetime_s=LIFETIME_SECONDS)
    # the cloud looks for unknown keys every 5 s at most
    trial.recovers(25.0)


@pytest.mark.parametrize(
    "change", [{"delay_s": 1.0}, {"rotate": True}, {"withdraw": True}, *ALGORITHMS], ids=str
)
def test_what_is_no_fault_leaves_the_link_working(trial: Trial, change: dict[str, Any]) -> None:
    """A slow server is waited for; new keys are found."""
    trial.is_well()
    trial.cluster.control(**change)
    trial.lan_is_untouched()
    trial.recovers(25.0)
    trial.cluster.control(delay_s=0)


def test_a_secret_changes_over_though_the_server_hears_of_it_later(trial: Trial) -> None:
    """The link stays: by the one before, then by the new one."""
    trial.is_well()
    (peer,) = trial.member.peers.get_all_remote_peers()
    assert peer.oauth2 is not None
    since = trial.link["since"]
    trial.member.peers.rotate_secret(peer.node_id, "another-secret")
    eventually(lambda: trial.link["secret"] == "previous", "the one before is used")
    trial.lan_is_untouched()
    trial.cluster.control(client={"id": peer.oauth2.client_id, "secret": "another-secret"})
    eventually(lambda: trial.link["secret"] == "new", "the new one is used")
    assert (trial.link["state"], trial.link["since"]) == ("connected", since)
    trial.is_well()


def test_nodes_that_sign_for_themselves_need_no_secret(trial: Trial) -> None:
    """Each has its own key; the replicated list holds nothing that lets anybody in."""
    cluster = trial.cluster
    trial.is_well()
    keys = []
    for node in cluster.lan:
        pem = new_client_key()
        (node.directory / CLIENT_KEY_NAME).write_bytes(pem.reveal())
        keys.append(public_jwk(pem))
    (peer,) = trial.member.peers.get_all_remote_peers()
    cluster.control(client={"id": CLIENT, "secret": "another: the old one is worth nothing now"})
    trial.member.peers.update_remote_peer(peer.node_id, auth_method=PRIVATE_KEY_JWT)
    (peer,) = trial.member.peers.get_all_remote_peers()
    assert peer.oauth2 is not None
    assert peer.oauth2.client_secret == ""
    eventually(lambda: trial.link["reason"] == "authority-refused", "keys that nobody registered", 25.0)
    cluster.control(client={"id": CLIENT, "keys": keys})
    trial.recovers(10.0)
