"""What an operator's commands change in a store in PostgreSQL, beside the worker, and what they
read where none answers.

Owns: these transactions. Promises: as storage_worker.engine.interface says. Each one counts a
change, for which a worker looks with the turns of each second. What the journal still has of a
user's proof would come on top of what is changed: so that waits until the worker has taken it in.
The keys that a user has published are with the shard of that user, and go from there; what the
journal has of them is not applied to what was removed.
Exposure: an operator's connection string.

The row `store` is changed first, as a flush does it: whoever has it finds no other row locked.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256

from common.shards import DIRECTORY, shard_of
from storage_worker.engine.errors import StoreFailed, StoreUnusable
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blocks import BlockLists
from storage_worker.engine.postgres.connection import Connection, shown
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.mail_pages import MailPages
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.postgres.schema import Place, check_version
from storage_worker.engine.postgres.users import UserRegistry
from storage_worker.engine.records import InvitationMade
from storage_worker.engine.values import Account, Invitation, KeptName, MailboxStats, Totals

_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_ACCOUNTS_AT_ONCE = 500
_DIRECTORY = "messageu_0"
"""The schema of shard 0."""


class PostgresTables:
    """An `OperatorsTables` over the directory of a store. `sleep` waits for seconds; `shard_url`:
    the database that has the shard of a user, if it is not that of the directory. Raises
    `StoreUnusable` and `StoreFailed`.
    """

    def __init__(self, url: str, sleep: Callable[[float], object], shard_url: str | None = None) -> None:
        self._connection = Connection(url, _DIRECTORY)
        self._sleep = sleep
        self._shard_url = shard_url or url
        self._shards = 1
        try:
            for version in self._connection.rows(statements.VERSION) if self._is_there() else []:
                self._shards = version[2]
            check_version(self._connection, Place(DIRECTORY, self._shards))
        except BaseException:
            self._connection.close()
            raise

    def _is_there(self) -> bool:
        return bool(self._connection.rows(statements.HAS_STORE, _DIRECTORY)[0][0])

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    @staticmethod
    @contextmanager
    def _change(connection: Connection) -> Generator[None]:
        with connection.transaction():
            connection.change(statements.COUNT_CHANGE)
            yield

    def _await_journal(self) -> None:
        """Wait until the tables have what the journal has now."""
        last: int = self._connection.rows(statements.LAST_TURN)[0][0]
        for _ in range(round(_WAIT_SECONDS / _LOOK_SECONDS)):
            if not self._connection.rows(statements.COUNT_TURNS, last)[0][0]:
                return
            self._sleep(_LOOK_SECONDS)
        raise StoreUnusable(
            "the journal has what the tables lack, and no storage worker takes it in: start it, and try again"
        )

    @contextmanager
    def _shard_of(self, client_id: bytes) -> Generator[Connection]:
        """The tables of a user's shard."""
        place = Place(shard_of(client_id, self._shards), self._shards)
        if place.number == DIRECTORY:
            yield self._connection
            return
        with closing(Connection(self._shard_url, place.schema)) as connection:
            try:
                check_version(connection, place)
            except StoreUnusable as error:
                raise StoreUnusable(
                    f"the user's keys are with shard {place.number} of {place.shards}: {error}. Where that is in "
                    "another database, name it with --shard-store"
                ) from error
            [(server_id, *_state)] = connection.rows(statements.DIRECTORY_STATE)
            if server_id != self._connection.rows(statements.DIRECTORY_STATE)[0][0]:
                raise StoreUnusable(f"{shown(self._shard_url)} has the shard of another server than the directory")
            yield connection

    def make_invitation(self, made: InvitationMade, now_ms: int) -> None:
        """Make one, and drop those whose time is over."""
        with self._connection.transaction():
            self._connection.change(statements.FORGET_OVER, now_ms)
            self._connection.change(statements.MAKE_INVITATION, made.digest, made.uses, made.expires_at)

    def invitations(self) -> list[Invitation]:
        """All of them, by the time when they expire."""
        return [Invitation(*row) for row in self._connection.rows(statements.INVITATIONS)]

    def revoke(self, digests: Sequence[bytes]) -> None:
        """Drop these."""
        with self._connection.transaction():
            for digest in digests:
                self._connection.change(statements.DROP_INVITATION, digest)

    def delete(self, name: str) -> bool:
        """Mark a user as deleted; whether there was one."""
        with self._change(self._connection):
            return bool(self._connection.change(statements.MARK_NAME_DELETED, name))

    def kept_names(self) -> list[KeptName]:
        """The names of deleted users that were not freed, in the order of registration."""
        return [KeptName(*row) for row in self._connection.rows(statements.KEPT_NAMES)]

    def free(self, name: str) -> bool:
        """Let others register a deleted user's name; whether there was one."""
        with self._change(self._connection):
            self._connection.change(statements.FORGET_LOOKS_OF_NAME, name)
            return bool(self._connection.change(statements.FREE_NAME, name))

    def is_leaving(self, name: str) -> bool | None:
        """Whether what the user of this name had is being deleted; None for no user."""
        found = self._connection.rows(statements.NAME_IN_USE, name)
        return found[0][1] if found else None

    def re_key(self, name: str, key: bytes, day: int) -> bool:
        """Give a user another public key; whether there is one."""
        found = self._connection.rows(statements.FIND_NAME, name)
        if not found:
            return False
        [(client_id, _key, row)] = found
        # With what is published others would write to the home that is lost. It goes first: a
        # command that breaks off between leaves nobody who does that.
        with self._shard_of(client_id) as shard, self._change(shard):
            # It is the row of another digest then, which the journal's publications do not follow.
            before = shard.rows(statements.KEY_DIGESTS, [row])
            digest = sha256(before[0][1] if before else b"").digest()
            shard.change(statements.REMOVE_KEYS, row, digest)
        with self._change(self._connection):
            return bool(self._connection.change(statements.RE_KEY, name, key, day))

    def unprove(self, name: str) -> bool:
        """Clear the mark that a user has authenticated; whether there is one."""
        if self.is_leaving(name) is not False:
            return False
        self._await_journal()
        with self._change(self._connection):
            return bool(self._connection.change(statements.UNPROVE, name))

    # --- what is read where no worker answers
    # ----------------------------------------------------------------------------------------------

    def _registry(self) -> tuple[Database, UserRegistry, Keys]:
        database = Database(self._connection, epoch=0)
        [(_server_id, generation, _changes)] = self._connection.rows(statements.DIRECTORY_STATE)
        keys = Keys(database, generation)
        return database, UserRegistry(database, BlockLists(database), keys), keys

    def accounts(self) -> Iterator[tuple[Account, MailboxStats]]:
        """All users, and what waits for them."""
        database, users, _keys = self._registry()
        pages = MailPages(database)
        after = 0
        while found := users.accounts(after, _ACCOUNTS_AT_ONCE):
            pages.expect([one.row for one in found])
            for one in found:
                yield one, pages.stats(one.row)
            after = found[-1].row

    def totals(self) -> tuple[Totals, int]:
        """The store in a few numbers, and its generation."""
        database, users, keys = self._registry()
        pages = MailPages(database)
        [(_server_id, generation, starts, _sequence, _blob, accepted, exactly)] = self._connection.rows(
            statements.FACTS
        )
        if generation != keys.generation:
            raise StoreFailed("the store has got another generation meanwhile: try again")
        totals = Totals(
            users.count(users.last_row()),
            users.authenticated(),
            *pages.load(),
            accepted,
            exactly,
            0,
            starts,
            *keys.totals(),
        )
        return totals, generation
