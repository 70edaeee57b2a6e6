"""A client whose ratchet is not in the transaction of the message: each state of a session reaches
the disk with the next one.

Owns: that one change. Promises: a client that is killed in between uses a message key twice, so
that the drill `kills-while-ratcheting` shows with it that it can fail.
Exposure: none.
"""

from client.store.peers import PeerRow, PeerTable
from common.values import ClientId


def switch_off() -> None:
    """For the rest of this process."""
    put_state, of_id = PeerTable.put_state, PeerTable.of_id
    kept: dict[ClientId, bytes] = {}

    def put_later(table: PeerTable, client_id: ClientId, state: bytes) -> None:
        if client_id in kept:
            put_state(table, client_id, kept[client_id])
        kept[client_id] = state

    def of_memory(table: PeerTable, client_id: ClientId) -> PeerRow | None:
        row = of_id(table, client_id)
        return row if row is None or client_id not in kept else row._replace(state=kept[client_id])

    for name, instead in (("put_state", put_later), ("of_id", of_memory)):
        setattr(PeerTable, name, instead)
