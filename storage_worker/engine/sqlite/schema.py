"""The tables of `mail.db`, and the statements that upgrade a database of an earlier version.

Owns: the schema and its version. Promises: only statements; `storage_worker.engine.sqlite.database`
runs them.
Exposure: none.
"""

from typing import Final

VERSION: Final = 14
APPLICATION_ID: Final = 0x4D736755
"""`MsgU` in the database's header: distinguishes our files from other SQLite databases."""

_NAME_LOOK: Final = """
-- What the names of users look like (common.name_rule.looks).
CREATE TABLE name_look (
    look TEXT NOT NULL,
    beyond_ascii INTEGER NOT NULL, -- 1: the name is
    user INTEGER NOT NULL,
    PRIMARY KEY (look, beyond_ascii, user)
) STRICT, WITHOUT ROWID;
"""
_BLOCK: Final = """
-- Whose messages a user does not get.
CREATE TABLE block (
    user INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    PRIMARY KEY (user, sender)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_of_sender ON block (sender);
"""
_ACCOUNTS: Final = """
-- Who was deleted. Their rows are not given again, nor their ids, of which the SHA-256 is left; nor their names, until
-- `name` is NULL. `erased`: nothing of them is left in the journal's files and in SQLite's log either.
CREATE TABLE deleted_user (
    row INTEGER PRIMARY KEY,
    name TEXT UNIQUE,
    id_digest BLOB NOT NULL UNIQUE,
    erased INTEGER NOT NULL DEFAULT 0
) STRICT;

-- `digest`: SHA-256 of the 16 bytes that let somebody register.
CREATE TABLE invitation (
    digest BLOB PRIMARY KEY,
    uses INTEGER NOT NULL,         -- so many are left
    expires_at INTEGER NOT NULL    -- Unix milliseconds
) STRICT, WITHOUT ROWID;
"""
_DAY: Final = """
-- `sequence`: the highest that was given before this day (since 1970, UTC) began. Days without mail may be missing.
CREATE TABLE day (day INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;
"""
_RUNNING_TIME: Final = """
-- `hours`: so many storage workers had run with --inactive-days when the clock last showed this day (since 1970, UTC).
CREATE TABLE running_time (day INTEGER PRIMARY KEY, hours INTEGER NOT NULL) STRICT;
"""
_PUBLISHED_KEYS: Final = """
-- With what others begin a conversation under the modern cipher suite.
CREATE TABLE published_key (
    user INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,   -- of the store when it was published: in another one none is given out
    digest BLOB NOT NULL,          -- SHA-256 of the last publication
    bundle BLOB,                   -- NULL: an operator has removed it
    one_time BLOB NOT NULL         -- one-time keys of 96 bytes, the oldest first
) STRICT;
"""
PAGES_OF_TOKENS: Final = """
-- Tokens of one sender, with what was sent under each, in the order of their sequences.
CREATE TABLE token_page (
    last INTEGER PRIMARY KEY,      -- sequence of the last one; of a store that was moved a lower number, for the order
    sender INTEGER NOT NULL,
    tokens INTEGER NOT NULL,       -- how many
    accepted_at INTEGER NOT NULL,  -- of the last one
    names BLOB NOT NULL,           -- 16 bytes each
    uses BLOB NOT NULL             -- 57 bytes each, big-endian: sequence, recipient, kind, digest, accepted_at
) STRICT;
CREATE INDEX token_page_of_sender ON token_page (sender, last, tokens);
"""
_MOVED: Final = """
-- While the database takes in what the journal holds in several transactions: of the mailboxes of users up to row
-- `user` it has what the journal's records of `store.era` say, and the journal is to be applied to the others alone.
CREATE TABLE moved (user INTEGER NOT NULL) STRICT;
"""
TALLY: Final = """
-- How many messages were accepted. For people alone: programs of this schema version that know no such table go on
-- without it. Where one did, `counted_to` is not the store's sequence, and what is counted from then on is not `exact`.
CREATE TABLE IF NOT EXISTS tally (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    accepted INTEGER NOT NULL,
    counted_to INTEGER NOT NULL,
    exact INTEGER NOT NULL
) STRICT;
"""

SCHEMA: Final = f"""
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    server_id BLOB NOT NULL,
    generation INTEGER NOT NULL,
    starts INTEGER NOT NULL,       -- how often a worker opened this store
    sequence INTEGER NOT NULL,     -- the highest ever given to a message
    body INTEGER NOT NULL,         -- the highest ever given to a large content
    era BLOB NOT NULL,             -- the journal's records of this era come on top of what is here
    journal INTEGER NOT NULL       -- bytes of each of the journal's files, which have a mark at their end; 0: none
) STRICT;

CREATE TABLE user (
    row INTEGER PRIMARY KEY,
    client_id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    public_key BLOB NOT NULL,
    proven INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0, -- 1: no user any more; what there is of them is being deleted
    registered INTEGER,                 -- day, since 1970, UTC; NULL: before days were noted
    seen INTEGER,                       -- the last day on which they asked for something; NULL: the same
    disabled INTEGER NOT NULL DEFAULT 0, -- 1: nothing is done for them, and what is sent to them is kept
    keys INTEGER                        -- one-time keys in `published_key`; -1: it was removed; NULL: never published
) STRICT;
{_NAME_LOOK}
{_BLOCK}
{_PUBLISHED_KEYS}
-- Neighbouring messages of one mailbox, `first` to `last`, as entries one behind the other. Where `body` is set it is
-- one message, and its content is the file of that number.
CREATE TABLE mail_page (
    row INTEGER PRIMARY KEY,
    recipient INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL,
    body INTEGER,
    entries BLOB NOT NULL,
    checksum INTEGER               -- CRC-32 of all that is before it; NULL: written by version 3
) STRICT;
-- With all columns but the entries, so that nothing else is read to see what a mailbox holds.
CREATE INDEX page_of_mailbox ON mail_page (recipient, first, last, messages, content_bytes, body);
CREATE INDEX page_of_body ON mail_page (body) WHERE body IS NOT NULL;

{PAGES_OF_TOKENS}
{_MOVED}
CREATE TABLE slot (
    slot INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    incarnation BLOB NOT NULL,
    earlier BLOB NOT NULL,         -- incarnations that were succeeded, newest first, 16 bytes each
    number INTEGER NOT NULL,
    outcomes BLOB,                 -- of batch `number`; NULL: it was refused
    before BLOB                    -- of the batch before it
) STRICT;

-- Pages that are given up when the database is full, so that deleting and bookkeeping still find room.
CREATE TABLE ballast (id INTEGER PRIMARY KEY, filler BLOB NOT NULL) STRICT;

{_ACCOUNTS}
{_DAY}
{_RUNNING_TIME}
{TALLY}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

UPGRADE_FROM_2: Final = """
ALTER TABLE slot ADD COLUMN before BLOB;
-- No outcomes, which fit no batch, so that it is unknown. NULL would mean that it was refused, with nothing done.
UPDATE slot SET before = x'90';
"""
UPGRADE_FROM_3: Final = """
-- Of the page's other columns and its entries. NULL: version 3 wrote it, nothing vouches for it.
ALTER TABLE mail_page ADD COLUMN checksum INTEGER;
PRAGMA user_version = 4;
"""
UPGRADE_FROM_4: Final = """
-- 0: version 4 made the journal's files, and left no mark in them.
ALTER TABLE store ADD COLUMN journal INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 5;
"""
UPGRADE_FROM_5: Final = f"""
{_NAME_LOOK}
PRAGMA user_version = 6;
"""
UPGRADE_FROM_6: Final = f"""
ALTER TABLE user ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
{_ACCOUNTS}
PRAGMA user_version = 7;
"""
UPGRADE_FROM_7: Final = f"""
{_DAY}
PRAGMA user_version = 8;
"""
UPGRADE_FROM_8: Final = """
-- Days since 1970, UTC. NULL: it was before they were noted.
ALTER TABLE user ADD COLUMN registered INTEGER;
ALTER TABLE user ADD COLUMN seen INTEGER;
ALTER TABLE user ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 9;
"""
UPGRADE_FROM_9: Final = f"""
{_BLOCK}
PRAGMA user_version = 10;
"""
UPGRADE_FROM_10: Final = f"""
{_RUNNING_TIME}
PRAGMA user_version = 11;
"""
UPGRADE_FROM_11: Final = f"""
ALTER TABLE user ADD COLUMN keys INTEGER;
{_PUBLISHED_KEYS}
PRAGMA user_version = 12;
"""
UPGRADE_FROM_12: Final = """
-- After `PAGES_OF_TOKENS`: one page of each sender's 1,024 at most.
INSERT INTO token_page
SELECT max(sequence), sender, count(*), max(accepted_at), unhex(group_concat(hex(token), '')),
    unhex(group_concat(printf('%016X%016X%02X', sequence, recipient, kind) || hex(digest)
        || printf('%016X', accepted_at), ''))
FROM (SELECT * FROM sent_token ORDER BY sender, sequence) GROUP BY sender;
DROP TABLE sent_token;
PRAGMA user_version = 13;
"""
UPGRADE_FROM_13: Final = f"""
{_MOVED}
PRAGMA user_version = 14;
"""
