"""What a thief finds in a copied home, and earlier states where the log has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.home_store import Store
from client.store.own_keys import OwnKeysRow
from common.values import ClientId
from tests.client.suite1.two_homes import ALICE, BOB, NOW, talking
from torture.stolen_states import stolen_states

if TYPE_CHECKING:
    from pathlib import Path

    from client.suite1.own_keys import OwnKeys
    from client.suite1.peers import Peer


def keep(store: Store, keys: OwnKeys, peer: Peer) -> None:
    with store.database.transaction():
        store.own_keys.put(OwnKeysRow(ClientId(ALICE), keys.to_bytes()))
        store.peers.add(ClientId(BOB), peer.identity, NOW)
        store.peers.put_state(ClientId(BOB), peer.to_bytes())


def test_earlier_states_are_found_until_the_log_is_emptied(tmp_path: Path) -> None:
    _, alice, bob = talking()
    (tmp_path / "home").mkdir()
    store = Store.open(tmp_path / "home")
    states = []
    for number in range(3):
        alice.read(BOB, bob.seal(ALICE, str(number)))
        states.append(alice.peer(BOB))
        keep(store, alice.keys, states[-1])
    found = stolen_states(tmp_path / "home", None)
    assert [state.peers[BOB] for state in found] == states[::-1]
    assert found[0].keys == alice.keys
    store.database.erase_replaced()
    assert [state.peers[BOB] for state in stolen_states(tmp_path / "home", None)] == states[-1:]
    store.close()


def test_a_home_without_keys_has_no_states(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    assert stolen_states(tmp_path, None) == []
