"""A store in PostgreSQL as one end of a move to another engine.

Owns: how its tables are read for that, and how they are written. Promises: as
storage_worker.engine.paged.moving says. A source is taken over, so that a worker that has it ends,
and no other one gets it until the move is over; nothing else of it changes. A target, which may
have several shards, is made in one transaction: it is there as a whole, or not at all.
Exposure: an operator's connection string.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, Self

from common.shards import DIRECTORY, shard_of
from storage_worker.engine.errors import StoreDamaged, StoreUnusable
from storage_worker.engine.paged.moving import Row, StoreFacts, in_parts
from storage_worker.engine.paged.page import NewPage, checksum_of
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blobs import PIECE_BYTES, Blobs
from storage_worker.engine.postgres.blobs import checksum_of as checksum_of_piece
from storage_worker.engine.postgres.connection import Connection, Parameter
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.postgres.schema import Place, check_version, create_inside, refuse_other

_AT_A_TIME: Final = 500
_FEW: Final = 50
"""Of rows that are large."""
_BEFORE_ALL: Final[dict[str, tuple[Parameter, ...]]] = {
    "account": (-1,),
    "deleted_account": (-1,),
    "name_look": ("", False, -1),
    "block": (-1, -1),
    "published_key": (-1,),
    "invitation": (b"",),
    "sent_token": (-1,),
    "slot": (-1,),
    "day": (-1,),
    "running_time": (-1,),
}
"""Keys that no row of a table has, below those that one has."""
_OF_WHOSE_SHARD: Final = {"block": 0, "published_key": 0, "sent_token": 3}
"""By table, in which column the user is whose shard has the row; of a token the recipient."""
_OF_EACH_SHARD: Final = "day"
"""The table of which each shard has all; what is left is the directory's."""


class _End:
    """One end of a move, in a `with`: a transaction that is open when it is left is undone."""

    def __init__(self, url: str, place: Place) -> None:
        self._url = url
        self._place = place
        self._resources = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._resources.close()


class PostgresSource(_End):
    """The store of a shard, which no other worker gets until the `with` is left. Raises
    `StoreUnusable` and `StoreFailed`.
    """

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            connection = Connection(self._url, self._place.schema)
            resources.callback(connection.close)
            check_version(connection, self._place)
            with connection.transaction():
                [(epoch,)] = connection.rows(statements.TAKE_OVER)
            # It stays open while the target is written.
            connection.let_transactions_wait()
            self._database = Database(connection, epoch)
            self._database.begin()
            resources.callback(self._database.roll_back)
            if self._database.row(statements.COUNT_JOURNAL)[0]:
                raise StoreUnusable(
                    "the last storage worker did not end in order, and the journal has what the tables lack: start one "
                    "once, and end it with `messageu-admin drain` or SIGTERM"
                )
            self._resources = resources.pop_all()
        return self

    def facts(self) -> StoreFacts:
        """What it is."""
        return StoreFacts(*self._database.row(statements.FACTS))

    def rows(self, table: str) -> Iterator[Row]:
        """A table, in the order of its key."""
        after = _BEFORE_ALL[table]
        most = _FEW if table == "published_key" else _AT_A_TIME
        while found := self._database.rows(statements.MOVED_FROM[table], *after, most):
            yield from found
            after = found[-1][: len(after)]

    def pages(self) -> Iterator[NewPage]:
        """All mail, by mailbox and in its order. Raises `StoreDamaged`."""
        pages = MailPages(self._database)
        for page, checksum in pages.all():
            if checksum != checksum_of(page):
                raise StoreDamaged(
                    f"a page of the mailbox of {pages.owner(page.recipient)} is altered: {page.messages} messages, "
                    f"{page.first} to {page.last}"
                )
            yield page

    def content(self, blob_id: int, size: int) -> Iterator[bytes]:
        """A large content of `size` bytes. Raises `StoreDamaged`."""
        blobs = Blobs(self._database)
        return in_parts(lambda at, length: blobs.read(blob_id, at, length, size), size, PIECE_BYTES)


class PostgresTarget(_End):
    """A new store of as many shards as `place` says, in one database. Raises `StoreUnusable` where
    there is one, `StoreFull` and `StoreFailed`.
    """

    page_bytes = PAGE_BYTES

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._connection = Connection(self._url, self._place.schema)
            resources.callback(self._connection.close)
            self._places = [Place(number, self._place.shards) for number in range(self._place.shards)]
            for place in self._places:
                refuse_other(self._connection, place)
            self._shards: dict[int, int] = {}
            """By row, of each user."""
            self._connection.let_transactions_wait()
            self._resources = resources.pop_all()
        return self

    def begin(self, facts: StoreFacts) -> None:
        """Make it, empty."""
        self._connection.begin()
        for place in self._places:
            self._turn_to(place.number)
            create_inside(self._connection, place, facts.server_id, facts.generation)
            # Numbers that were given are given by no shard again; of messages one counts all.
            accepted = 0 if place.number else facts.accepted
            self._connection.change(statements.WRITE_FACTS, facts.starts, facts.sequence, facts.blob_id, accepted)

    def _turn_to(self, shard: int) -> None:
        """What follows is about the tables of this shard."""
        self._connection.look_into(self._places[shard].schema)

    def write_rows(self, table: str, rows: Sequence[Row]) -> None:
        """Some rows of a table."""
        if table == "account":
            self._shards.update((row, shard_of(client_id, len(self._places))) for row, client_id, *_rest in rows)
        for place in self._places:
            some = [row for row in rows if place.number in self._shards_of(table, row)]
            if some:
                self._turn_to(place.number)
                self._connection.change(statements.MOVED_INTO[table], *map(list, zip(*some, strict=True)))

    def _shards_of(self, table: str, row: Row) -> Sequence[int]:
        """Which have it: none where it is about a user who is none any more."""
        if table == _OF_EACH_SHARD:
            return range(len(self._places))
        if table not in _OF_WHOSE_SHARD or len(self._places) == 1:
            return (DIRECTORY,)
        shard = self._shards.get(row[_OF_WHOSE_SHARD[table]])
        return () if shard is None else (shard,)

    def write_pages(self, pages: Sequence[NewPage]) -> None:
        """Some mail of one mailbox."""
        self._turn_to(self._shards[pages[0].recipient])
        rows = [(*page, checksum_of(page)) for page in pages]
        self._connection.change(statements.INSERT_PAGES, *map(list, zip(*rows, strict=True)))

    def write_content(self, recipient: int, blob_id: int, parts: Iterable[bytes]) -> None:
        """A large content, in parts of `PIECE_BYTES`."""
        self._turn_to(self._shards[recipient])
        for number, part in enumerate(parts):
            checksum = checksum_of_piece(blob_id, number, part)
            self._connection.change(statements.MOVED_PIECE, blob_id, number, part, checksum)

    def finish(self, facts: StoreFacts) -> None:
        """All of it came: from now on it can be served."""
        assert facts.server_id
        self._connection.commit()
