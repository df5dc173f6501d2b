"""The CAs of the cluster that followed one another: told in Hello, and once more on a link that is open.

A link stays when the cluster key changes. Its other end may not have the document of the new key, since that
stands in a log which the new key alone attests: a node that made a key may have begun a new log since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from entgldb.actors.ports import Links, LogReader, Witness
from entgldb.actors.sync.members.key_watch import KeyWatch
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages import wire
from entgldb.messages.model import KEYS
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, cas_in


class Cas:
    """The words of this node about them, and those of its peers."""

    def __init__(self, log: LogReader, keys: KeyWatch, witness: Witness) -> None:
        self._log = log
        self._keys = keys
        self._witness = witness
        self._read_for = ""
        self._followed = wire.CasFollowed(b"", ())

    def in_hello(self, peer: PeerLink, hello: wire.Hello) -> wire.Hello:
        """The Hello to a peer, with them."""
        self._read()
        peer.followed = self._followed
        return replace(hello, ca_key=peer.followed.ca_key, successors=peer.followed.successors)

    def tell(self, peers: Iterable[PeerLink], links: Links) -> None:
        """At each heartbeat: to those who have heard of others in Hello, or since."""
        # the file of keys may be ahead of the database
        if self._keys.held() != self._read_for or (self._keys.rotated and not self._followed.ca_key):
            self._read()
        for peer in peers:
            if self._followed.ca_key and peer.followed != self._followed:
                peer.followed = self._followed
                links.send(peer.link, self._followed)

    def hear(self, peer: PeerLink, said: wire.CasFollowed) -> bool:
        """A peer tells of them; a cloud hears of them elsewhere.

        False where it tells more often on one link than a cluster has keys: each time costs signatures that
        are to be verified.
        """
        if not peer.certified:
            return True
        peer.times_told += 1
        if peer.times_told > CHAIN_MAX:
            return False
        cluster = "" if peer.hello is None else peer.hello.cluster
        member = self._keys.is_for(peer.certified, peer.key_shown, peer.under)
        self._witness.hear(cluster, said.ca_key, said.successors, member=member)
        return True

    def _read(self) -> None:
        """Up to the key that this node holds: a member may have told of one that nobody can take."""
        self._read_for = self._keys.held()
        self._followed = wire.CasFollowed(*cas_in(self._log.get(KEYS, self._read_for)))
