"""Another cluster key that is made unasked: when, and by whom."""

from __future__ import annotations

import json

import pytest

from entgldb.actors.store.members.keys import TEND_SECONDS, unbelieved
from entgldb.launch.testing.keys import id_of
from entgldb.messages.client import Write
from entgldb.messages.local.members import NoteSelf
from entgldb.messages.model import KEYS, Entry
from entgldb.messages.secret import Secret
from entgldb.storage.store import Store
from tests.unit.actors.store.test_cluster_keys import Rig
from tests.unit.actors.store.test_store_keeper import NOW


def test_another_key_is_made_once_all_that_lack_it_have_told_a_box() -> None:
    rig = Rig()
    rig.row("n2", Box="")
    rig.row("n4", Box="")
    rig.rotate()
    made = []
    for name in ("n2", "n4"):
        rig.row(name)
        rig.ask(NoteSelf())
        rig.ctx.run(TEND_SECONDS)
        made.append(len(rig.store.documents(KEYS)))
    assert made == [1, 2]


@pytest.mark.parametrize(("third", "made"), [(("n1", "n3"), True), (("n3",), False), (("n2", "n3"), True)])
def test_another_key_is_made_by_a_node_of_which_all_have_heard_that_have_not_heard_of_the_last_maker(
    third: tuple[str, ...], *, made: bool
) -> None:
    rig, elsewhere = Rig(), Store.memory("n3", b"3" * 32, NOW)
    for store, number, members in (
        (elsewhere, 1, ("n1", "n3")),
        (elsewhere, 2, third),
        (Store.memory("n2", b"2" * 32, NOW), 3, ("n1", "n2")),
    ):
        key_id = id_of(Secret(bytes([number]) * 32))
        chain = [[rig.ring.held()[0], ""], [key_id, "cd" * 64]]
        known = {name: {"Key": "", "Sealed": ""} for name in members}
        body = json.dumps({"By": "", "For": known, "Chain": chain}).encode()
        first = store.last_lsn() + 1
        with store.group():
            store.write(rig.request(), [Write(KEYS, key_id, body)], NOW + number, system=True)
        with rig.store.group():
            rig.store.apply([Entry(row.header, row.body) for row in store.rows(first, 1)], NOW)
    assert unbelieved(rig.store) is made
