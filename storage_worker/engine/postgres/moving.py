"""A store in PostgreSQL as one end of a move.

Owns: how its tables are read for that, and how they are written. Promises: as
storage_worker.engine.paged.moving says. A source, which may have several shards, is taken over, so
that a worker that has it ends, and no other one gets it until the move is over; nothing else of it
changes, and nothing at all where a shard is missing, is another server's, or has a journal that was
not taken in. A target, which may have several shards too, is made in one transaction: it is there
as a whole, or not at all.
Exposure: an operator's connection string.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, Self

from common.shards import DIRECTORY, shard_of
from storage_worker.engine.errors import StoreDamaged, StoreSuperseded, StoreUnusable
from storage_worker.engine.paged.merging import PartDays, days_of, facts_of, slots_of, tokens_of
from storage_worker.engine.paged.moving import Row, StoreFacts, in_parts
from storage_worker.engine.paged.page import NewPage, checksum_of
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blobs import PIECE_BYTES, Blobs
from storage_worker.engine.postgres.blobs import checksum_of as checksum_of_piece
from storage_worker.engine.postgres.connection import Connection, Parameter
from storage_worker.engine.postgres.connection import Row as ServerRow
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.postgres.schema import (
    Place,
    check_version,
    create_inside,
    has_store,
    refuse_other,
    shards_of,
)

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
    "slot": (-1,),
    "day": (-1,),
    "running_time": (-1,),
}
"""Keys that no row of a table has, below those that one has."""
_OF_WHOSE_SHARD: Final = {"block": 0, "published_key": 0, "sent_token": 3}
"""By table, in which column the user is whose shard has the row; of a token the recipient."""
_OF_EACH_SHARD: Final = "day"
"""The table of which each shard has all; what is left is the directory's."""


class _Tables(Database):
    """The tables of one part, over a connection that all parts share: each statement looks into the
    part's schema.
    """

    def __init__(self, connection: Connection, place: Place, epoch: int) -> None:
        super().__init__(connection, epoch)
        self._schema = place.schema
        self._looks_into = connection.look_into
        self._ask = connection.rows
        self.rows = self._rows

    def _rows(self, statement: str, *parameters: Parameter) -> list[ServerRow]:
        self._looks_into(self._schema)
        return self._ask(statement, *parameters)


class _End:
    """One end of a move, in a `with`: a transaction that is open when it is left is undone."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._resources = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._resources.close()


class PostgresSource(_End):
    """A store of as many parts as it has, which no other worker gets until the `with` is left.
    Raises `StoreUnusable` and `StoreFailed`.
    """

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            connection = Connection(self._url, Place(DIRECTORY, 1).schema)
            resources.callback(connection.close)
            shards = shards_of(connection)
            places = [Place(number, shards) for number in range(shards)]
            # All of them are looked at before a worker loses one.
            _refuse_strangers(connection, places)
            epochs = []
            with connection.transaction():
                for place in places:
                    connection.look_into(place.schema)
                    [(epoch,)] = connection.rows(statements.TAKE_OVER)
                    epochs.append(epoch)
            # It stays open while the target is written.
            connection.let_transactions_wait()
            self._parts = [_Tables(connection, place, epoch) for place, epoch in zip(places, epochs, strict=True)]
            connection.begin()
            resources.callback(connection.roll_back)
            for part, epoch in zip(self._parts, epochs, strict=True):
                if not part.rows(statements.HOLD, epoch):
                    raise StoreSuperseded("a storage worker was started meanwhile: nothing was moved")
                _refuse_journal(part.rows(statements.COUNT_JOURNAL))
            self._shards: dict[int, int] = {}
            """By row, of each user. Of one part nobody asks."""
            if shards > 1:
                self._refuse_mixed()
            self._behind = [0]
            """Numbers of contents: by part, how many those before it have."""
            for part in self._parts:
                self._behind.append(self._behind[-1] + _facts(part).blob_id)
            self._resources = resources.pop_all()
        return self

    def _refuse_mixed(self) -> None:
        shards = len(self._parts)
        for row, client_id, *_rest in self._table(DIRECTORY, "account"):
            self._shards[row] = shard_of(client_id, shards)
        for number, part in enumerate(self._parts):
            if any(self._shards.get(row) != number for (row,) in part.rows(statements.WITH_MAIL)):
                raise StoreUnusable(
                    f"part {number} of {shards} has mail of somebody who is no user of part 0, or belongs to another "
                    "part: these parts are not from the same moment. Nothing was moved"
                )

    def facts(self) -> StoreFacts:
        """What it is."""
        tokens: int = sum(part.row(statements.COUNT_TOKENS)[0] for part in self._parts)
        return facts_of([_facts(part) for part in self._parts], tokens)

    def rows(self, table: str) -> Iterator[Row]:
        """A table, in the order of its key; tokens by sender, in the order of their use."""
        numbers = range(len(self._parts))
        if len(numbers) == 1 or table not in {*_OF_WHOSE_SHARD, _OF_EACH_SHARD, "slot"}:
            return self._table(DIRECTORY, table)
        if table == "sent_token":
            return tokens_of([self._table(number, table) for number in numbers])
        if table == "slot":
            return iter(slots_of(row for number in numbers for row in self._table(number, table)))
        if table == _OF_EACH_SHARD:
            sequences = [_facts(part).sequence for part in self._parts]
            days = [[(row[0], row[1]) for row in self._table(number, table)] for number in numbers]
            return iter(days_of([PartDays(*one) for one in zip(days, sequences, strict=True)]))
        whose = _OF_WHOSE_SHARD[table]
        # Of somebody who is no user any more nothing is kept.
        return (
            row for number in numbers for row in self._table(number, table) if self._shards.get(row[whose]) == number
        )

    def _table(self, number: int, table: str) -> Iterator[Row]:
        """What one part has."""
        rows = self._parts[number].rows
        if table == "sent_token":
            place: tuple[int, int] = (-1, -1)
            while found := rows(statements.MOVED_TOKENS, *place, _AT_A_TIME):
                yield from [row[:-1] for row in found]
                place = (found[-1][1], found[-1][-1])
            return
        after = _BEFORE_ALL[table]
        most = _FEW if table == "published_key" else _AT_A_TIME
        while found := rows(statements.MOVED_FROM[table], *after, most):
            yield from found
            after = found[-1][: len(after)]

    def pages(self) -> Iterator[NewPage]:
        """All mail, by mailbox and in its order. Raises `StoreDamaged`."""
        for part, behind in zip(self._parts, self._behind, strict=False):
            for page, checksum in MailPages(part).all():
                if checksum != checksum_of(page):
                    raise StoreDamaged(
                        f"a page of the mailbox of {MailPages(self._parts[DIRECTORY]).owner(page.recipient)} is "
                        f"altered: {page.messages} messages, {page.first} to {page.last}"
                    )
                yield page if page.blob_id is None else page._replace(blob_id=behind + page.blob_id)

    def content(self, blob_id: int, size: int) -> Iterator[bytes]:
        """A large content of `size` bytes. Raises `StoreDamaged`."""
        number = bisect_left(self._behind, blob_id) - 1
        blobs, its_number = Blobs(self._parts[number]), blob_id - self._behind[number]
        return in_parts(lambda at, length: blobs.read(its_number, at, length, size), size, PIECE_BYTES)


def _facts(part: Database) -> StoreFacts:
    return StoreFacts(*part.row(statements.FACTS))


def _refuse_strangers(connection: Connection, places: Sequence[Place]) -> None:
    """Raise `StoreUnusable` where these are not the parts of one store, whole and at rest."""
    server_ids = []
    for place in places:
        connection.look_into(place.schema)
        if not has_store(connection, place):
            raise StoreUnusable(
                f"part {place.number} of {place.shards} is not in this database. Bring its schema {place.schema} here "
                "by dump and restore, while its storage worker is stopped"
            )
        try:
            check_version(connection, place)
            _refuse_journal(connection.rows(statements.COUNT_JOURNAL))
        except StoreUnusable as error:
            if place.shards == 1:
                raise
            raise StoreUnusable(f"part {place.number} of {place.shards}: {error}") from error
        [(server_id, *_rest)] = connection.rows(statements.FACTS)
        server_ids.append(server_id)
        if server_id != server_ids[DIRECTORY]:
            raise StoreUnusable(f"part {place.number} of {place.shards} is of another server than part 0")


def _refuse_journal(counted: Sequence[Row]) -> None:
    if counted[0][0]:
        raise StoreUnusable(
            "the last storage worker did not end in order, and the journal has what the tables lack: start one once, "
            "and end it with `messageu-admin drain` or SIGTERM"
        )


class PostgresTarget(_End):
    """A new store of as many shards as `place` says, in one database. Raises `StoreUnusable` where
    there is one, `StoreFull` and `StoreFailed`.
    """

    page_bytes = PAGE_BYTES

    def __init__(self, url: str, place: Place) -> None:
        super().__init__(url)
        self._place = place

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._connection = Connection(self._url, self._place.schema)
            resources.callback(self._connection.close)
            self._places = [Place(number, self._place.shards) for number in range(self._place.shards)]
            for place in self._places:
                refuse_other(self._connection, place)
            self._shards: dict[int, int] = {}
            """By row, of each user."""
            self._tokens = 0
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
        if table == "sent_token":
            # Their order is the table's; sequences of several parts are in none, and may repeat.
            rows = [(number, *row[1:], row[0]) for number, row in enumerate(rows, self._tokens + 1)]
            self._tokens += len(rows)
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
