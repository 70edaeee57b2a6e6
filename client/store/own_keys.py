"""This account's own keys of cipher suite 1.

Owns: the table `own_keys`.
Promises: a private key is on disk before its public half can leave. Whoever changes the state loads
and keeps it in one transaction, so that two processes of a home never lose each other's changes.
Exposure: holds private keys; as `client.store.home_store`.

Source: docs/suite-1.md; docs/decisions/0030-a-ratchet-in-the-store.md.
"""

from typing import NamedTuple

from client.store.database import Database
from client.store.sealing import OWN_KEYS, Sealing
from common.values import ClientId


class OwnKeysRow(NamedTuple):
    """The state of this account's keys."""

    client_id: ClientId
    """The id that what is published speaks of."""
    state: bytes
    """As `client.suite1` writes it."""
    server_id: bytes | None = None
    generation: int | None = None
    """The server's store that has what was published last."""


class OwnKeysTable:
    """This account's own keys."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def get(self) -> OwnKeysRow | None:
        """Return the state; None before there is one. Raises `CipherError` if it was altered."""
        rows = self._database.rows("SELECT client_id, state, server_id, generation FROM own_keys")
        if not rows:
            return None
        client_id, state, server_id, generation = rows[0]
        return OwnKeysRow(client_id, self._sealing.open(OWN_KEYS, state, 1), server_id, generation)

    def put(self, row: OwnKeysRow) -> None:
        """Within a transaction: keep the state."""
        # What it replaces are private keys: nothing of them stays in the file.
        self._database.overwrite_freed()
        self._database.run(
            "INSERT OR REPLACE INTO own_keys (number, client_id, state, server_id, generation) VALUES (1, ?, ?, ?, ?)",
            row.client_id,
            self._sealing.seal(OWN_KEYS, row.state, 1),
            row.server_id,
            row.generation,
        )
