"""What talkers note is read back; a ratchet out of its transaction is behind after a kill."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from client.store.home_store import Store
from client.suite1.values import Identity, Pair
from common.values import ClientId
from torture import unbound_ratchet
from torture.drill_messages import DrillMessage
from torture.journal import Journal
from torture.olm_messages import Envelope
from torture.talkers import Orders, count_acknowledged, read_notes, sent_envelopes

if TYPE_CHECKING:
    from pathlib import Path

PEER = ClientId(b"p" * 16)


def orders(folder: Path, user: str, role: str = "one", epoch: int = 0) -> Orders:
    return Orders(1, folder, user, role, epoch, ("bob",), receives=role == "one", stop=folder / "stop")


def test_notes_are_read_back(tmp_path: Path) -> None:
    first, second, bob = orders(tmp_path, "alice"), orders(tmp_path, "alice", "two"), orders(tmp_path, "bob")
    message = DrillMessage(first.name, "bob", 1)
    with Journal(first.journal) as journal:
        journal.write(["T hello", f"A {message}", f"K {message}", "N bob 3"])
    with Journal(second.journal) as journal:
        journal.write([f"A {DrillMessage(second.name, 'bob', 1)}"])
    with Journal(bob.journal) as journal:
        journal.write([f"R {message}", "R damaged", "U alice 7 it was altered"])
    notes = read_notes([first, second, bob])
    assert notes.attempted == [message, DrillMessage("alice-two.0", "bob", 1)]
    assert notes.acknowledged == [message]
    assert notes.received == {"alice": [], "bob": [message, DrillMessage("damaged", "damaged", 0)]}
    assert (notes.unreadable, notes.renewed, notes.told) == (
        ["bob alice 7 it was altered"],
        ["alice bob 3"],
        ["alice hello"],
    )
    assert [count_acknowledged(one) for one in (first, second, orders(tmp_path, "carol"))] == [1, 0, 0]


def test_a_process_of_a_home_has_its_own_name_in_each_epoch(tmp_path: Path) -> None:
    names = {orders(tmp_path, "alice", role, epoch).name for role in ("one", "two") for epoch in (0, 1)}
    assert len(names) == 4
    assert orders(tmp_path, "alice").home == orders(tmp_path, "alice", "two", 1).home


def test_the_wire_is_read_back_without_what_a_kill_cut(tmp_path: Path) -> None:
    sent = [Envelope(Pair(b"a" * 16, b"b" * 16), bytes([number]) * 100) for number in range(3)]
    one = orders(tmp_path, "alice")
    with Journal(one.wire) as wire:
        wire.write(list(map(str, sent)))
    one.wire.write_bytes(one.wire.read_bytes()[:-9])
    assert list(sent_envelopes([one])) == sent[:2]


def test_an_unbound_ratchet_is_behind_after_a_kill(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.database.transaction():
        store.peers.add(PEER, Identity(bytes(32), bytes(32)), 1)
    store.close()
    child = os.fork()
    if not child:
        unbound_ratchet.switch_off()
        store = Store.open(tmp_path)
        for number in range(3):
            with store.database.transaction():
                store.peers.put_state(PEER, bytes([number]))
            row = store.peers.of_id(PEER)
            if row is None or row.state != bytes([number]):
                os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store = Store.open(tmp_path)
    row = store.peers.of_id(PEER)
    store.close()
    assert row is not None
    assert row.state == b"\1"
