"""The side of the machine that joins, whole: from the code to a directory that can be started."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from entgldb.actors.cluster_key import cluster_keys, read_cluster_keys
from entgldb.actors.tls.certificates import name_of
from entgldb.actors.tls.key_files import key_in
from entgldb.launch.joining.code import read_code
from entgldb.launch.joining.doors import join
from entgldb.launch.joining.exchange import Admission, JoinError
from entgldb.launch.node.config import load
from entgldb.launch.node.files import locked
from entgldb.launch.node.init import Made, Plan, check, init
from entgldb.messages.errors import InvalidError
from entgldb.storage.authorship.identity import owner_of
from entgldb.storage.file.durable import write_whole


def become_member(plan: Plan, code: str) -> Made:
    """Make the node of ``plan`` with what a member gives for the code.

    A directory that cannot be used is told before the code is spent. Raises JoinError, and what ``init``
    raises.
    """
    found = read_code(code)
    own = check(plan)
    # a directory with documents has an id, which is not for everybody to give again
    wanted = plan.node_id or owner_of(plan.directory.resolve())
    made: list[Made] = []

    def keep(admission: Admission) -> str:
        node_id = admission.node_id or own
        seeds = (*plan.seeds, *(seed for seed in admission.seeds if seed not in plan.seeds))
        made.append(init(replace(plan, node_id=node_id, seeds=seeds, cluster_key=admission.cluster_key)))
        return key_in(Path(plan.directory))

    asyncio.run(join(found, wanted, keep, own))
    return made[0]


def take_key(directory: Path, code: str) -> None:
    """Give a node that is there, and does not run, the cluster key that counts; all else stays as it is.

    It is for one that came by a key which was not made for it any more: nobody else would take it in.

    Raises JoinError, also for a code of another cluster; InvalidError, EntglError in-use, OSError.
    """
    settings = load(directory)
    if settings.sync.role != "lan":
        raise InvalidError("a cloud node holds no cluster key", hint="entgldb init --join on a LAN")
    found, file = read_code(code), Path(settings.store.key_file)

    def keep(admission: Admission) -> str:
        keys = cluster_keys(admission.cluster_key.reveal())
        if name_of(keys) != name_of(read_cluster_keys(file)):
            raise JoinError(
                "the code is of another cluster: nothing was changed", hint="entgldb init --join elsewhere"
            )
        # without those before it: one that the database has heard of would count again
        write_whole(file, keys.content.reveal())
        return key_in(directory)

    with locked(directory):
        asyncio.run(join(found, settings.sync.node_id, keep))
