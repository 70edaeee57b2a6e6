"""The change of a home's store to another server. Owns: that change, in one transaction over all
tables; the record of the account that was left. Promises: before the commit everything is as it
was, and after it everything belongs to the new server. The changed identity files are in `rewrite`;
whoever opens the home next writes them (`client.store.sealing`). Messages, keys, contacts, verified
keys, and blocked or muted senders stay.
Exposure: the new server's id, generation and pins are what it named when the account signed in.

    table          afterwards
    ────────────   ──────────────────────────────────────────────────────────────────────────────────
    server         the new one, nothing fetched yet
    setting        those of the server are the new one's; the others stay
    contact        nobody is listed, until the new server's list is taken over
    pin            as before, except for the own one: it has the new name and id
    silenced       as before, and the new server is to be told
    acknowledged   empty: the old server can lose nothing any more that would be sent again
    outbox         nothing waits; where the caller says why, what did is set aside
    others         as before

Source: docs/client.md, "Moving to another server".
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

from client import paths
from client.store.home_store import Store
from client.store.sealing import OUTBOX_PROBLEM
from client.store.settings import ServerRow
from common.errors import ValueRejected
from common.names import any_username
from common.server_address import ServerAddress, parse_addresses
from common.values import ClientId, Username, client_id_from_hex

_LEFT: Final = "left_account"
"""The setting that records the account that was left."""


class LeftAccount(NamedTuple):
    """The account that the last move left behind, under the same key."""

    address: ServerAddress
    """Without an invitation; with the pins of its server."""
    name: Username
    client_id: ClientId
    server: ServerRow | None
    """None: it never signed in."""
    moved_to: str
    """HOST:PORT of the server to which the account moved."""
    deleted: bool = False
    """Whether it was deleted."""

    def text(self) -> str:
        """Return it in the form of the setting."""
        server = None if self.server is None else [self.server.server_id.hex(), self.server.generation]
        fields = [str(self.address), self.name, self.client_id.hex(), server, self.moved_to, self.deleted]
        return json.dumps(fields)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the setting; None if it can't be read."""
        try:
            address, name, client_id, server, moved_to, deleted = json.loads(text)
            row = None if server is None else ServerRow(bytes.fromhex(server[0]), int(server[1]), 0)
            return cls(
                parse_addresses(address),
                any_username(name),
                client_id_from_hex(client_id),
                row,
                str(moved_to),
                bool(deleted),
            )
        except (ValueError, TypeError, LookupError, AttributeError, ValueRejected):
            return None


def left_account(store: Store) -> LeftAccount | None:
    """Return the account that the last move left; None if the home never moved."""
    text = store.settings.get(_LEFT)
    return None if text is None else LeftAccount.parse(text)


def note_deletion(store: Store, left: LeftAccount) -> None:
    """Note that the account that the last move left is deleted."""
    store.settings.put(_LEFT, left._replace(deleted=True).text())


class Relocation(NamedTuple):
    """The account at the new server."""

    name: Username
    client_id: ClientId
    server: ServerRow | None
    """None: the account did not sign in."""
    settings: Mapping[str, str | None]
    """Settings of the server; None: there is none of that name."""
    files: Mapping[str, str]
    """The home's files that change with it."""


def relocate(store: Store, new: Relocation, left: LeftAccount, set_aside_because: str | None) -> None:
    """Change to another server. Only if nobody else has the store open.

    What waits in the outbox is set aside for the given reason; None: nothing waits.
    """
    database = store.database
    with database.transaction():
        _set_aside(store, set_aside_because)
        database.run("DELETE FROM server")
        if new.server is not None:
            database.run("INSERT INTO server VALUES (1, ?, ?, 0)", new.server.server_id, new.server.generation)
        _put_settings(store, {**new.settings, _LEFT: left.text()}.items())
        database.run("UPDATE contact SET listed = 0 WHERE listed")
        database.run("DELETE FROM acknowledged")
        database.run("DELETE FROM silenced WHERE NOT blocked AND NOT muted")
        database.run("UPDATE silenced SET told = 0")
        _rename_self(store, left, new)
        database.run("DELETE FROM rewrite")
        for name, content in new.files.items():
            database.run("INSERT INTO rewrite VALUES (?, ?)", name, content)


def _put_settings(store: Store, settings: Iterable[tuple[str, str | None]]) -> None:
    for name, value in settings:
        if value is None:
            store.database.run("DELETE FROM setting WHERE name = ?", name)
        else:
            store.database.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, value)


def _set_aside(store: Store, because: str | None) -> None:
    """Their large contents are removed once nothing has referred to them for a while."""
    database = store.database
    waiting = database.rows("SELECT number, recipient, shared_key FROM outbox WHERE problem IS NULL")
    assert because is not None or not waiting
    for number, recipient, carries in waiting:
        problem = paths.plain(because or "")
        database.run("UPDATE shared_key SET usable = 0 WHERE number = ?", carries)
        sealed = store.sealing.seal(OUTBOX_PROBLEM, problem, number, recipient)
        database.run("UPDATE outbox SET problem = ?, spool = NULL WHERE number = ?", sealed, number)
        store.sent.set_problem(database.value("SELECT number FROM sent WHERE outbox = ?", number), problem)


def _rename_self(store: Store, left: LeftAccount, new: Relocation) -> None:
    """Keep the pin of notes to oneself, unless the new name is that of a known user: then the next
    note makes a new pin.
    """
    database = store.database
    database.run(
        "INSERT INTO contact (client_id, name, listed, public_key) "
        "SELECT client_id, name, 0, public_key FROM pin WHERE client_id = ? "
        "ON CONFLICT (client_id) DO UPDATE SET public_key = excluded.public_key",
        left.client_id,
    )
    if database.rows("SELECT 1 FROM pin WHERE (name = ? OR client_id = ?) AND client_id <> ?",
                     new.name, new.client_id, left.client_id):  # fmt: skip
        database.run("DELETE FROM pin WHERE client_id = ?", left.client_id)
        return
    database.run(
        "UPDATE pin SET client_id = ?, name = ?, offered_id = NULL, offered_key = NULL, offered_since = NULL "
        "WHERE client_id = ?",
        new.client_id,
        new.name,
        left.client_id,
    )
