"""Mail in a store."""

from client.crypto.ciphers import SymmetricKey
from client.store.home_store import Store
from client.store.inbox import NewMessage
from common.values import ClientId

A = ClientId(b"a" * 16)
B = ClientId(b"b" * 16)
K1 = SymmetricKey(b"1" * 16)
K2 = SymmetricKey(b"2" * 16)
NOW = 1_700_000_000_000
MUCH_LATER = 1 << 60


def message(number: int, content: bytes = b"x", sender: ClientId = A, spool: str | None = None) -> NewMessage:
    return NewMessage(sender, 3, len(content), content, spool, content * 2, number, None, None, sender_proven=False)


def pull(store: Store, *messages: NewMessage, complete: bool = True) -> int:
    number = store.inbox.begin_pull()
    kept = store.inbox.add_pulled(messages, NOW, number)
    if complete:
        store.inbox.end_pull(number)
    return kept


def unread(store: Store) -> list[tuple[bytes | None, bool]]:
    """Show everything; contents, and whether they may be repeated."""
    found = []
    while (row := store.inbox.next_unread(0)) is not None:
        store.inbox.begin_showing(row.number, None)
        store.inbox.was_shown(row.number, readable=True)
        found.append((row.content, row.repeated))
    return found
