"""The schema of a shard: how it is made, brought up to date, and recognised.

Owns: the tables, and the versions of them. Promises: a worker that opens a shard finds the version
that it knows, made for the place that it was told; anything else is refused with the command to
run. Making and upgrading are one transaction each, so there is no half of either.
Exposure: an operator's connection string.

Each shard is one schema of the database; for another number of shards a store moves. Shard 0 is the
directory: its tables of users, names and invitations are those of all shards, and are empty in the
others.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from common.shards import DIRECTORY
from storage_worker.engine.errors import StoreUnusable
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.connection import Connection

SCHEMA_VERSION: Final = 3
ENCODING: Final = "UTF8"

_PUBLISHED_KEYS: Final = """
-- With what others begin a conversation under the modern cipher suite.
CREATE TABLE published_key (
    account bigint PRIMARY KEY,
    generation bigint NOT NULL,        -- of the store when it was published: in another one none is given out
    digest bytea NOT NULL,             -- SHA-256 of the last publication
    bundle bytea,                      -- NULL: it was removed
    one_time bytea NOT NULL            -- one-time keys of 96 bytes, the oldest first
) WITH (toast_tuple_target = 128);
ALTER TABLE published_key ALTER COLUMN bundle SET STORAGE EXTERNAL;
ALTER TABLE published_key ALTER COLUMN one_time SET STORAGE EXTERNAL;
"""
TABLES: Final = f"""
CREATE TABLE owner (
    id bigint PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL              -- of the worker that has the shard: who has an earlier one writes nothing
);
CREATE TABLE store (
    id bigint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL,           -- of this schema
    shard bigint NOT NULL,
    shards bigint NOT NULL,
    server_id bytea NOT NULL,
    generation bigint NOT NULL,        -- the directory's counts, which is shard 0's
    changes bigint NOT NULL,           -- of users, after which other shards forget what they remember of them
    starts bigint NOT NULL,            -- how often a worker opened this store
    sequence bigint NOT NULL,          -- the highest ever given to a message; the journal may have higher ones
    blob bigint NOT NULL,              -- the highest ever given to a large content; the same
    accepted bigint NOT NULL           -- how many messages were accepted; the journal has more
);
-- A turn is one row: its records, which come on top of what the other tables have.
CREATE TABLE journal (
    number bigint PRIMARY KEY,
    records bytea NOT NULL
);
-- Neighbouring messages of one mailbox, `first` to `last`, as entries one behind the other. Where `blob` is set it is
-- one message, and its content is the pieces of that number.
CREATE TABLE mail_page (
    recipient bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    messages bigint NOT NULL,
    content_bytes bigint NOT NULL,
    blob bigint,
    entries bytea NOT NULL,
    checksum bigint NOT NULL,          -- CRC-32 of all that is before it
    PRIMARY KEY (recipient, first) INCLUDE (last, messages, content_bytes, blob)
) WITH (toast_tuple_target = 8160);
CREATE INDEX page_of_blob ON mail_page (blob) WHERE blob IS NOT NULL;
CREATE TABLE blob_piece (
    blob bigint NOT NULL,
    piece bigint NOT NULL,             -- of 1 MiB, the last one may be shorter
    data bytea NOT NULL,
    checksum bigint NOT NULL,          -- CRC-32 of the numbers and the data
    PRIMARY KEY (blob, piece)
);
CREATE TABLE account (
    id bigint PRIMARY KEY,
    client_id bytea NOT NULL UNIQUE,
    name text NOT NULL UNIQUE,
    public_key bytea NOT NULL,
    proven boolean NOT NULL DEFAULT false,
    told boolean NOT NULL DEFAULT false, -- every other shard knows that they are proven
    deleted boolean NOT NULL DEFAULT false, -- no user any more; what there is of them is being deleted
    registered bigint,                 -- day, since 1970, UTC
    seen bigint,                       -- the last day on which they asked for something
    disabled boolean NOT NULL DEFAULT false -- nothing is done for them, and what is sent to them is kept
);
CREATE INDEX deleted_of_account ON account (id) WHERE deleted;
-- Who was deleted. Their ids are not given again, nor their client ids, of which the SHA-256 is left; nor their names.
CREATE TABLE deleted_account (
    id bigint PRIMARY KEY,
    name text UNIQUE,
    id_digest bytea NOT NULL UNIQUE
);
-- Shards that have nothing of a deleted user any more. The directory waits for all of them.
CREATE TABLE gone_account (
    account bigint NOT NULL,
    shard bigint NOT NULL,
    PRIMARY KEY (account, shard)
);
-- What the names of users look like (common.name_rule.looks).
CREATE TABLE name_look (
    look text NOT NULL,
    beyond_ascii boolean NOT NULL,     -- the name is
    account bigint NOT NULL,
    PRIMARY KEY (look, beyond_ascii, account)
);
-- Whose messages a user does not get.
CREATE TABLE block (
    account bigint NOT NULL,
    sender bigint NOT NULL,
    PRIMARY KEY (account, sender)
);
CREATE INDEX block_of_sender ON block (sender);
CREATE TABLE invitation (
    digest bytea PRIMARY KEY,          -- SHA-256 of the 16 bytes that let somebody register
    uses bigint NOT NULL,              -- so many are left
    expires_at bigint NOT NULL         -- Unix milliseconds
);
CREATE TABLE sent_token (
    sequence bigint PRIMARY KEY,
    sender bigint NOT NULL,
    token bytea NOT NULL,
    recipient bigint NOT NULL,
    kind bigint NOT NULL,
    digest bytea NOT NULL,
    accepted_at bigint NOT NULL,
    answered bigint,                   -- of one that was moved: what its message got; `sequence` is for the order alone
    UNIQUE (sender, token)
);
CREATE INDEX newest_of_sender ON sent_token (sender, sequence);
CREATE TABLE slot (
    slot bigint PRIMARY KEY,
    epoch bigint NOT NULL,
    incarnation bytea NOT NULL,
    earlier bytea NOT NULL,            -- incarnations that were succeeded, newest first, 16 bytes each
    number bigint NOT NULL,
    outcomes bytea,                    -- of batch `number`; NULL: it was refused
    before bytea                       -- of the batch before it
);
-- `sequence`: the highest that was given before this day (since 1970, UTC) began. Days without mail may be missing.
CREATE TABLE day (
    day bigint PRIMARY KEY,
    sequence bigint NOT NULL
);
-- How many hours workers had run on this store when the clock last showed a day (since 1970, UTC).
CREATE TABLE running_time (
    day bigint PRIMARY KEY,
    hours bigint NOT NULL
);
-- What is in them is encrypted by its senders: nothing is gained by compressing it.
ALTER TABLE mail_page ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE blob_piece ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE journal ALTER COLUMN records SET STORAGE EXTERNAL;
{_PUBLISHED_KEYS}
"""

UPGRADES: Final[Mapping[int, str]] = {
    1: _PUBLISHED_KEYS,
    2: "ALTER TABLE sent_token ADD COLUMN answered bigint;",
}
"""From a version to the next one: the statements."""


class Place(NamedTuple):
    """Shard `number` of so many."""

    number: int
    shards: int

    @property
    def schema(self) -> str:
        """Where its tables are."""
        return f"messageu_{self.number}"


def create(connection: Connection, place: Place, server_id: bytes, now_ms: int) -> None:
    """Make the schema of a shard, empty. Raises `StoreUnusable` where there is one."""
    refuse_other(connection, place)
    with connection.transaction():
        create_inside(connection, place, server_id, now_ms)


def create_inside(connection: Connection, place: Place, server_id: bytes, generation: int) -> None:
    """Inside a transaction: the same."""
    connection.run_script(f"CREATE SCHEMA IF NOT EXISTS {place.schema};{TABLES}")
    connection.change(statements.INSERT_STORE, SCHEMA_VERSION, *place, server_id, generation)
    connection.change(statements.INSERT_OWNER)


def refuse_other(connection: Connection, place: Place) -> None:
    """Raise `StoreUnusable` where a store can't be made: there is one, or the encoding is wrong."""
    encoding = connection.setting("server_encoding")
    if encoding != ENCODING:
        raise StoreUnusable(f"the database has the encoding {encoding}: make one with the encoding {ENCODING}")
    if has_store(connection, place):
        raise StoreUnusable(f"the database has a store in the schema {place.schema} already: nothing was changed")


def has_store(connection: Connection, place: Place) -> bool:
    """Whether the shard's schema is there."""
    return bool(connection.rows(statements.HAS_STORE, place.schema)[0][0])


def shards_of(connection: Connection) -> int:
    """How many shards the store has whose directory's schema the connection looks into. Raises
    `StoreUnusable` where there is none.
    """
    if not has_store(connection, Place(DIRECTORY, 1)):
        raise _no_store(Place(DIRECTORY, 1))
    [(_version, _shard, shards)] = connection.rows(statements.VERSION)
    return int(shards)


def stored_version(connection: Connection, place: Place) -> int:
    """The version of a shard's schema. Raises `StoreUnusable` where there is none, or it is another
    shard's.
    """
    if not has_store(connection, place):
        raise _no_store(place)
    [(version, *found)] = connection.rows(statements.VERSION)
    if Place(*found) != place:
        raise StoreUnusable(
            f"the schema {place.schema} is shard {found[0]} of {found[1]}, not {place.number} of {place.shards}"
        )
    return int(version)


def _no_store(place: Place) -> StoreUnusable:
    return StoreUnusable(
        f"the database has no store in the schema {place.schema}: make it with `messageu-admin store create`"
    )


def check_version(connection: Connection, place: Place, newest: int = SCHEMA_VERSION) -> None:
    """Raise `StoreUnusable` where the schema is none that this program works with."""
    version = stored_version(connection, place)
    if version < newest:
        raise StoreUnusable(
            f"the store has schema version {version}, this program needs {newest}: run `messageu-admin store upgrade`"
        )
    if version > newest:
        raise StoreUnusable(
            f"a later version of MessageU made the store (schema version {version}, this program knows {newest})"
        )


def upgrade(
    connection: Connection,
    place: Place,
    say: Callable[[str], object],
    upgrades: Mapping[int, str] = UPGRADES,
    newest: int = SCHEMA_VERSION,
) -> None:
    """Bring a shard's schema to the newest version, in one transaction. A worker that still has the
    shard loses it. Raises `StoreUnusable`.
    """
    version = stored_version(connection, place)
    if version < newest:
        with connection.transaction():
            connection.rows(statements.TAKE_OVER)
            for step in range(version, newest):
                connection.run_script(upgrades[step])
            connection.change(statements.SET_VERSION, newest)
        say(f"The store's schema was version {version} and is {newest} now.")
        return
    check_version(connection, place, newest)
    say(f"The store's schema is version {newest}: there is nothing to do.")
