"""What tests of the rules ask, and how they look at what is kept."""

from common.storage_protocol.operations import (
    BeginUpload,
    Fetch,
    Fetched,
    GetPublicKey,
    ListUsers,
    Mail,
    Operation,
    Pull,
    Pulled,
    PullPage,
    StoreMessage,
)
from storage_worker.engine.sqlite.mail_pages import MailPages
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces

NOBODY = bytes(16)
TOKEN = b"t" * 16


def fetch(
    gateway: Gateway, user: bytes, lease: int | None = None, max_bytes: int = 2**40, page_bytes: int = 2**20,
    envelope_bytes: int = 25, authenticated: bool = False,
) -> Pulled:  # fmt: skip
    number = next(gateway.leases) if lease is None else lease
    outcome = gateway.one(Pull(number, user, authenticated, max_bytes, envelope_bytes, page_bytes))
    assert isinstance(outcome, Pulled), outcome
    return outcome


def after(
    gateway: Gateway, user: bytes, ack: int, max_bytes: int = 2**40, page_bytes: int = 2**20, watch: bool = False
) -> Fetched:
    outcome = gateway.one(Fetch(user, True, ack, max_bytes, 54, page_bytes, watch))
    assert isinstance(outcome, Fetched), outcome
    return outcome


def contents(page: Mail) -> list[bytes]:
    return [piece.content for piece in pieces(page)]


def waiting(worker: SqliteWorker) -> int:
    """Messages in all mailboxes, read as an admin command would."""
    worker.flush()
    return sum(load.messages for load in MailPages(worker.database).loads().values())


def tokens_kept(worker: SqliteWorker) -> int:
    """In the database, when it has taken in everything."""
    worker.flush()
    count: int = worker.database.row("SELECT coalesce(sum(tokens), 0) FROM token_page")[0]
    return count


def files(worker: SqliteWorker) -> int:
    """Contents that are files of their own."""
    return len(worker.blob_folder.sizes())


def in_the_name_of(user: bytes, other: bytes, authenticated: bool) -> list[Operation]:
    """Every operation that asks something in a user's name and can be refused, but 600
    and the proof's own.
    """
    return [
        ListUsers(user, authenticated),
        GetPublicKey(user, authenticated, other),
        StoreMessage(user, authenticated, other, 3, b"x"),
        BeginUpload(1, user, authenticated, other, 3, 1),
        Pull(1, user, authenticated, 100, 25, 100),
        PullPage(user, authenticated, 1, 0, 9, 100),
        Fetch(user, authenticated, 0, 100, 54, 100, False),
    ]
