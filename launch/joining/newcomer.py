"""The new machine's side of joining, whole: from the code to a directory that can be started."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from entgldb.actors.tls.key_files import key_in
from entgldb.launch.joining.code import read_code
from entgldb.launch.joining.doors import join
from entgldb.launch.joining.exchange import Admission
from entgldb.launch.node.init import Made, Plan, check, init


def become_member(plan: Plan, code: str) -> Made:
    """Make the node of ``plan`` with what a member gives for the code.

    A directory that cannot be used is told before the code is spent. Raises JoinError, and what ``init``
    raises.
    """
    found = read_code(code)
    check(plan)
    made: list[Made] = []

    def keep(admission: Admission) -> str:
        node_id = admission.node_id or plan.node_id
        seeds = (*plan.seeds, *(seed for seed in admission.seeds if seed not in plan.seeds))
        made.append(init(replace(plan, node_id=node_id, seeds=seeds, cluster_key=admission.cluster_key)))
        return key_in(Path(plan.directory))

    asyncio.run(join(found, plan.node_id, keep))
    return made[0]
