"""Every limit has a name, a unit in that name, and a test that crosses it."""

from typing import Final

FRAME_BYTES_MAX: Final = 2 * 1024 * 1024
"""One frame on any socket. Checked on the four length bytes, before memory is taken."""
HELLO_BYTES_MAX: Final = 64 * 1024
"""The first frame of a link, before the other side has proved anything."""
BATCH_BYTES_MAX: Final = 256 * 1024
"""Headers and bodies of one ``Entries``; a batch holds at least one entry, however large."""
CHUNK_BYTES_MAX: Final = 256 * 1024
"""Rows of one chunk of a snapshot, not counting the row that crosses it."""
LSNS_BETWEEN: Final = 2**32
"""Numbers that a snapshot merged in steps leaves out before its own; modulo it they count what has come."""
WINDOW_BATCHES_MAX: Final = 64
"""Batches sent and not acknowledged on one session. The receiver disconnects a peer that sends more."""
WINDOW_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes of their headers and bodies, not counting the batch that crosses it. The receiver disconnects a peer
that sends more."""
PAGE_ROWS_MAX: Final = 500
"""Rows read in one go; no reader keeps a transaction open between pages."""
BODY_BYTES_MAX: Final = 1024 * 1024
"""One document as UTF-8 JSON."""
MERGE_BYTES_MAX: Final = BODY_BYTES_MAX + BODY_BYTES_MAX // 2
"""The changed fields of one document as they travel, with their paths and what they name."""
MERGED_BYTES_MAX: Final = 4 * 1024 * 1024
"""A document that merges, with the versions of its fields, as one writer makes it. Concurrent writers may
together make a larger one: the node applies it all the same, and counts it."""
HISTORY_BYTES_MAX: Final = 1024 * 1024
"""The versions of its fields alone: beyond it the next writer writes the document whole."""
BASE_BYTES_MAX: Final = 2 * BODY_BYTES_MAX
"""A document as a client read it, sent along with what it made of it: merged ones may outgrow a write."""
KEY_BYTES_MAX: Final = 512
"""One document key as UTF-8."""
NAME_CHARS_MAX: Final = 64
"""A collection name, a node id."""
INDEXES_MAX: Final = 64
"""Indexes of one node: each is asked at every write whether it has to follow."""
INDEXES_PER_COLLECTION_MAX: Final = 16
"""Indexes of one collection."""
INDEX_PATHS_MAX: Final = 8
"""Fields of one index."""
INDEX_NAME_CHARS_MAX: Final = 128
"""The name of an index."""
INDEX_WHERE_BYTES_MAX: Final = 4096
"""The filter of a partial index, as JSON."""
INDEX_ENTRIES_MAX: Final = 1000
"""Entries that one document has in one index, by its arrays; every query looks at one that had more."""
INDEX_STEP_ROWS: Final = 1000
"""Documents that one step of building an index takes in."""
INDEX_STEP_BYTES: Final = 2 * 1024 * 1024
"""Bytes of bodies after which a step ends, not counting the last one."""
DEPTH_MAX: Final = 32
"""Nesting of a document and of any decoded message."""
GROUP_ENTRIES_MAX: Final = 10_000
"""Entries of one transaction."""
GROUP_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bodies of one transaction; a receiver may have to stage so many bytes."""
SIGNED_BYTES_MAX: Final = 128 * 1024
"""Headers and bodies of own entries after which the end of a request is signed, though the commit goes on."""
SIGNATURE_BYTES: Final = 64
"""An Ed25519 signature (RFC 8032)."""
PUBLIC_KEY_BYTES: Final = 32
"""An Ed25519 public key."""
STAGED_BYTES_MAX: Final = 2 * GROUP_BYTES_MAX
"""Bodies and headers of one transaction, as a receiver stages them: the headers may take as much again."""
LOCAL_FRAME_BYTES_MAX: Final = STAGED_BYTES_MAX + 2 * FRAME_BYTES_MAX
"""One frame between actors: a whole group with its headers fits, its last entry and what came with it."""
ROW_BYTES_MAX: Final = 2 * GROUP_BYTES_MAX
"""One row, whoever made it. An entry that would make a larger one is set aside as unfit."""
ENTRIES_PER_BATCH_MAX: Final = 4096
"""Entries in one ``Entries``, a second bound beside bytes."""
HEADER_BYTES_MAX: Final = 5 * 1024
"""One oplog entry header."""
OPTIONAL_BYTES_MAX: Final = 512
"""The optional fields of one header, packed."""
NAMED_MAX: Final = 32
"""Versions that one entry names beside its parent; the next entry names those beyond."""
ORIGINS_MAX: Final = 4096
"""Origins in one version vector."""
RUNS_MAX: Final = 64
"""Of each log so many of the entries that were the first since its writer had opened its file are kept."""
RUNS_TOLD_MAX: Final = 40_000
"""Of all logs together so many are told in a snapshot's head, which is one frame."""
RUN_HASH_BYTES: Final = 8
"""As much of the hash of such an entry is kept."""
INCARNATIONS_RESERVED: Final = 64
"""Places of these that are kept for the node's own incarnations to come, whoever else brings origins."""
TAKEN_MAX: Final = ORIGINS_MAX - INCARNATIONS_RESERVED
"""Origins known in all beyond which none is taken from others."""
CLOUDS_TOLD_MAX: Final = 32
"""Cloud peers of which one claim tells."""
MEMBERS_MAX: Final = 1024
"""Nodes of which the last word is kept."""
STRANGERS_MAX: Final = TAKEN_MAX - MEMBERS_MAX
"""Origins known in all beyond which only those are taken that a member has named as its own."""
ORIGINS_WARNED: Final = STRANGERS_MAX * 3 // 4
"""Origins known in all from which on ``status`` says so: they are never fewer again."""
STRANGERS_PER_PEER_MAX: Final = STRANGERS_MAX // 3
"""Other origins that one peer may bring while the store is open."""
SUCCESSORS_MAX: Final = 100_000
"""Versions that entries name and that have not come: so many of the last are remembered."""
MEMBERS_BYTES_MAX: Final = 64 * 1024
"""Rows of members in one heartbeat; at least one goes, however large."""
TOKEN_BYTES_MAX: Final = 8 * 1024
"""One bearer token."""
SECRET_BYTES_MAX: Final = 4096
"""One client secret, read from anywhere."""
SECRET_OVERLAP_MS_MAX: Final = 30 * 24 * 3600 * 1000
"""So long the client secret before counts beside a new one, at most."""
PEM_BYTES_MAX: Final = 64 * 1024
"""One ``caPem``."""
HTTP_BODY_BYTES_MAX: Final = 64 * 1024
"""An answer of an authorization server."""
DRIFT_MS_MAX: Final = 60_000
"""How far ahead of our clock an entry may be before it is held."""
RESULTS_KEPT_MAX: Final = 100_000
"""Request ids whose results are remembered."""
CLIENTS_KEPT_MAX: Final = 100_000
"""Clients of which it is known that they had results which are forgotten; the oldest go first."""
RESULTS_KEPT_MS_MAX: Final = 24 * 3600 * 1000
"""How long they are remembered."""
CONFLICTS_KEPT_MAX: Final = 10_000
"""Conflict rows per file; the oldest go first."""
CONFLICTS_KEPT_MS_MAX: Final = 30 * 24 * 3600 * 1000
"""How long a conflict row is kept, from when it was found here."""
QUARANTINE_KEPT_MAX: Final = 10_000
"""Entries set aside because they cannot be applied; the oldest go first."""
HELD_ENTRIES_MAX: Final = 100_000
"""Entries held because their clocks run ahead, but for the rest of a transaction that was begun."""
RELEASED_TOGETHER: Final = 2_000
"""Held entries after which one go of releasing ends, or as many as have GROUP_BYTES_MAX: some 0.3 s."""
HELD_BYTES_MAX: Final = 256 * 1024 * 1024
"""Their headers and bodies, with the same exception."""
FORK_PROOFS_MAX: Final = 8
"""Proofs kept of the forks of one origin."""
CLIENT_PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Requests taken from client sockets and not yet committed; beyond it the sockets are not read."""
CLIENT_PENDING_MAX: Final = 16_384
"""Requests of all clients that wait for their answers; beyond it the sockets are not read."""
CLIENT_REQUESTS_MAX: Final = 1024
"""Requests of one client that wait for their answers; beyond it that client is not read."""
CLIENT_TURN_MAX: Final = 256
"""Requests of one client that are taken before the others have their turn."""
CLIENT_ANSWER_BYTES_MAX: Final = 256 * 1024
"""Answers that one client has not read yet; beyond it that client is not read either."""
REQUEST_BYTES_MAX: Final = 48 * 1024 * 1024
"""One request of a client, in pieces: a commit with what its writer had read of each document."""
PIECE_BYTES_MAX: Final = 1024 * 1024
"""One piece of it."""
SPREAD_WAITING_MAX: Final = 1024
"""Questions that wait until other members have something."""
SPREAD_SECONDS_MAX: Final = 20.0
"""Seconds for which one of them waits; a relayed question has to be answered within 30."""
CLIENTS_MAX: Final = 512
"""Clients connected to a node's socket at once: Thespian can watch no descriptor from 1,024 on."""
LOG_LEVEL_SECONDS_MAX: Final = 7 * 24 * 3600.0
"""Another level of the log that ends by itself is no longer."""
PEER_RATE_MIN: Final = 4096
"""Bytes a second that a cloud peer can be limited to: with less, heartbeats and vectors have no room."""
PEER_RATE_MAX: Final = 2**40
"""The same at most."""
PAUSE_SECONDS_MAX: Final = 366 * 24 * 3600.0
"""A pause that ends by itself is no longer."""
WAL_ALARM_BYTES: Final = 256 * 1024 * 1024
"""A larger write-ahead log is an alarm: somebody's open read transaction keeps it from shrinking."""
TENANTS_MAX: Final = 10_000
"""Tenants in the catalogue of one cloud node, deleted ones included."""
OPEN_TENANTS_MAX: Final = 1_000
"""Tenants that one cloud node has open at one time: each is three open files in each of three actors."""
LINK_QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes waiting to be written on one link before it is closed as a slow reader."""
HEARTBEAT_SECONDS_MAX: Final = 60.0
"""Between two heartbeats of one node, by its settings or by its word."""
LINKS_MAX: Final = 256
"""Links of proven members that one listener keeps."""
TENANT_LINKS_MAX: Final = 5_000
"""The same on a cloud node that serves tenants."""
LINKS_PER_MEMBER_MAX: Final = 64
"""Those of one member: of one node of a LAN, or of one client of a cloud, from whatever addresses."""
LINK_STRANGERS_MAX: Final = 64
"""Links that are spoken to and have proved nothing yet: handshakes of TLS, and tokens that are looked at."""
LINK_WAITING_MAX: Final = 256
"""Connections that wait to be spoken to; of the address (of IPv6: /64) with most of them the oldest goes."""
TENANT_LINKS_WAITING_MAX: Final = 2_048
"""The same on a cloud node that serves tenants."""
LIFE_MS_MAX: Final = 100 * 366 * 24 * 3600 * 1000
"""The longest life of a document that expires: a hundred years."""
COUNT_MAX: Final = 2**53 - 1
"""The greatest counter taken from others: so far below 2**63 that counting on from it overflows nothing."""
STRING_BYTES_MAX: Final = FRAME_BYTES_MAX
"""One msgpack string or bin; the frame bounds it."""
ARRAY_ITEMS_MAX: Final = 65_536
"""Items of one msgpack array."""
MAP_ITEMS_MAX: Final = 65_536
"""Items of one msgpack map."""

PACK_BYTES: Final = 4096
"""First size of the buffer for packing a message; it grows as needed. For msgpack's own 256 KiB the process
would take memory from the kernel and give it back for every single message: ten times the time of the
packing."""
SNAPSHOT_CHUNKS_MAX: Final = 2**24
"""Chunks of a snapshot; an offer of more is declined."""
SNAPSHOT_ROWS_MAX: Final = 2**32
"""Rows of a snapshot; an offer of more is declined."""
SNAPSHOT_BYTES_MAX: Final = 2**40
"""Bytes of a snapshot; an offer of more is declined."""
AUDIT_ROWS_MAX: Final = 50_000
"""Rows of the audit log of one node; the oldest go first. By their number, not their age: a clock that is set
ahead must not take them away."""
AUDIT_PRUNED_ROWS: Final = 1_000
"""So many go at a time."""
AUDIT_TEXT_CHARS_MAX: Final = 200
"""One text of a row; a longer one is cut."""
AUDIT_BURST: Final = 10
"""Events that others can cause at will, of one kind, that have a row each; after them one in
AUDIT_PAUSE_SECONDS has, which tells how many there were."""
AUDIT_PAUSE_SECONDS: Final = 600.0
"""Between two rows of one such kind: who causes them without end needs a year to fill the log."""
ANNOUNCED_MAX: Final = 8
"""Addresses that a node says it is reached by."""
INVITATION_MINUTES_MIN: Final = 0.05
"""That an invitation stands, at least."""
INVITATION_MINUTES_MAX: Final = 1440
"""And at most: a code that lies about for longer is found by somebody."""
