"""The users as a shard beside the directory knows them.

Owns: whom the directory was asked for, and of whom nothing may be remembered any more.
Promises: who is found is remembered; who is not is asked for again each time. What an operator
changes at the directory is known within a second while it can be reached; of a user who has
authenticated or was deleted the gateway tells at once (`refresh`). Names, lists and registration
are the directory's alone.
Exposure: names and ids are what strangers chose; the rules checked their form.

Source: docs/decisions/0024-shards.md.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from common.storage_protocol.operations import UserEntry
from storage_worker.engine.errors import DirectoryUnreachable, StoreFailed
from storage_worker.engine.paged.unwritten import drop_written
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blocks import BlockLists
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.directory import Directory, State
from storage_worker.engine.postgres.known_users import KnownUsers
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.records import Record, UserRegistered, UserSeen
from storage_worker.engine.values import Account, Deletion, KeyState, User


class RemoteUsers(KnownUsers):
    """Of shard `number`. `state`: of the directory, when the shard was opened."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        blocks: BlockLists,
        keys: Keys,
        number: int,
        state: State,
    ) -> None:
        super().__init__()
        self._database = database
        self._keys = keys
        self._directory = directory
        self._blocks = blocks
        self._number = number
        self._state = state
        self._seen: dict[int, int] = {}
        """What the journal alone has."""
        self._taken: dict[int, int] = {}
        self._unreported: dict[int, int] = {}
        """What the directory was not told yet, of what the journal will not have any more."""
        self._leaving: dict[int, bytes] = {}
        self._gone: list[int] = []
        """Deleted users of whom nothing is left here, until the directory knows it."""
        self.has_deleted = False
        """Whether there are more deleted users than whoever sets this back knows of."""

    # --- the log of turns
    # ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Be as the tables are."""
        self._forget_known()
        self._seen.clear()
        self._taken = {}

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        if isinstance(record, UserSeen):
            self._seen[record.user] = record.day
        self._note(record)

    has_news = False
    """Nothing waits for the tables of this shard."""
    has_shared_news = False

    def taken(self, _now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`. The directory is told now: once the journal has it no more, a
        kill would leave nobody who knows it. Where it can't be reached, it is told later.
        """
        self._taken = dict(self._seen)
        self._unreported.update(self._taken)
        with suppress(DirectoryUnreachable):
            self._report()
        return lambda _database: None

    def publish(self) -> None:
        """The users are the directory's."""

    def written(self) -> None:
        """See `commit_log.TakenPart`."""
        drop_written(self._seen, self._taken)

    # --- what others do
    # ----------------------------------------------------------------------------------------------

    def refresh(self, client_id: bytes) -> None:
        """The directory knows something new of this user."""
        if client_id in self.known:
            self._forget_row(self.known[client_id].row)
        self.look_again()

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Look at the directory, when it is time to: rows and client ids of users who were deleted
        since the last call. Raises `StoreFailed` for a new generation of the store.
        """
        if not self._looks_now(now_ms):
            return []
        try:
            self._report()
            state = self._directory.state()
            leaving = dict(self._directory.leaving(self._number))
        except DirectoryUnreachable:
            return []
        if state.generation != self._state.generation:
            raise StoreFailed("the directory has another generation of the store: the shard has to be opened again")
        if state.changes != self._state.changes:
            self._state = state
            self._keys.look_again()
            self._forget_known()
        departed = [one for one in leaving.items() if one[0] not in self._leaving]
        for row, _client_id in departed:
            self._forget_row(row)
        self._leaving = leaving
        self.has_deleted = self.has_deleted or bool(departed)
        return departed

    def _report(self) -> None:
        if self._unreported:
            self._directory.note_seen(list(self._unreported), list(self._unreported.values()))
            self._unreported.clear()
        while self._gone:
            self._directory.report_gone(self._gone[-1], self._number)
            self._gone.pop()

    # --- reads
    # ----------------------------------------------------------------------------------------------

    def find(self, client_id: bytes) -> User | None:
        """The user with this id, or None. Raises `DirectoryUnreachable` where nobody knows."""
        user = self.known.get(client_id)
        if user is None:
            for row, proven, seen, disabled in [found[1:] for found in self._directory.users([client_id])]:
                keys = self._keys.states([row])[row]
                user = self._found(client_id, row, proven, seen, disabled, self._blocks.any_of(row), keys)
        return user

    def expect(self, client_ids: Iterable[bytes]) -> None:
        """`find` will be asked for these: look all of them up at once."""
        unknown = self._unknown(client_ids)
        if not unknown:
            return
        try:
            found = self._directory.users(unknown)
        except DirectoryUnreachable:
            # Each of them is refused when it is asked for.
            return
        rows = [row for _client_id, row, *_rest in found]
        blockers = {row for (row,) in self._database.rows(statements.BLOCKERS, rows)} if rows else set()
        keys = self._keys.states(rows) if rows else {}
        for client_id, row, proven, seen, disabled in found:
            blocks = row in blockers or self._blocks.any_unwritten(row)
            self._found(client_id, row, proven, seen, disabled, blocks, keys[row])

    def _found(
        self,
        client_id: bytes,
        row: int,
        proven: bool,
        seen: int | None,
        disabled: bool,
        blocks: bool,
        keys: KeyState,
    ) -> User:
        day = self._seen.get(row, self._unreported.get(row, -1 if seen is None else seen))
        return self._remember(User(row, client_id, proven, blocks, day, disabled, keys=keys))

    def row_of(self, client_id: bytes) -> int:
        """The row of a user who exists, or did when the journal was written. Raises
        `StoreFailed`.
        """
        try:
            user = self.find(client_id)
            row = self._directory.row_of(client_id) if user is None else user.row
        except DirectoryUnreachable as error:
            raise StoreFailed(f"what the journal holds can't be read: {error}") from error
        if row is None:
            raise StoreFailed("the journal holds mail of a user whom the directory does not have")
        return row

    def deletion(self, client_id: bytes) -> Deletion | None:
        """How far it is only the directory knows."""
        return Deletion.GOES_ON if client_id in self._leaving.values() else None

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""
        return self._directory.public_key(user.row)

    def last_row(self) -> int:
        """None is counted here."""
        return 0

    def count(self, until: int) -> int:
        """None is counted here."""
        return 0

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """None is listed here."""
        return []

    def authenticated(self) -> int:
        """None is counted here."""
        return 0

    def unseen_since(self, day: int, after: int, until: int) -> Sequence[User]:
        """None is counted here."""
        return []

    def find_name(self, name: str) -> NoReturn:
        """Names are the directory's."""
        raise _not_here()

    def name_is_kept(self, name: str) -> NoReturn:
        """Names are the directory's."""
        raise _not_here()

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> NoReturn:
        """Names are the directory's."""
        raise _not_here()

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """The list is the directory's."""
        raise _not_here()

    def register(self, user: UserRegistered) -> NoReturn:
        """Users are the directory's."""
        raise _not_here()

    # --- who was deleted
    # ----------------------------------------------------------------------------------------------

    def deleted_rows(self) -> list[int]:
        """The deleted users of whom this shard may have something."""
        return [row for row in sorted(self._leaving) if row not in self._gone]

    def waits_for_others(self, row: int) -> bool:
        """It is the directory that waits for this shard."""
        return False

    def forget_deleted(self, row: int) -> bytes:
        """Inside a transaction: forget the user; the id."""
        self._blocks.forget_user(row)
        return self._leaving[row]

    def forgotten(self, row: int) -> None:
        """That transaction is committed: the directory has to know it."""
        self._gone.append(row)
        self.look_again()


def _not_here() -> AssertionError:
    return AssertionError("a gateway asks the directory for this")
