"""The schema of store.db, and what each version added to the one before.

Owns: the tables.
Promises: a part that was released never changes; what is new is a part of its own.
Exposure: none; text.
"""

from typing import Final

STORE_FILE: Final = "store.db"
APPLICATION_ID: Final = 0x4D534755
VERSION: Final = 12

FIRST: Final = """
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contact (
    client_id  BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    listed     INTEGER NOT NULL,          -- whether the server's last list had it
    public_key BLOB                       -- of old homes, whose keys are pins since
) STRICT, WITHOUT ROWID;

CREATE TABLE shared_key (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    contact  BLOB NOT NULL,
    key      BLOB NOT NULL,
    made     INTEGER NOT NULL,            -- 1: made here, 0: received
    usable   INTEGER NOT NULL,            -- whether we encrypt with it: the other side gets it before what follows
    added_at INTEGER NOT NULL,
    message  INTEGER UNIQUE               -- the inbox number that brought it
) STRICT;
CREATE INDEX shared_key_of ON shared_key (contact, number);

CREATE TABLE pull (                       -- a 604 that brought messages
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    complete INTEGER NOT NULL             -- whether its reply came to its end
) STRICT;

CREATE TABLE inbox (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    sender        BLOB NOT NULL,
    kind          INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    content       BLOB,                   -- a small content, as it came
    spool         TEXT,                   -- the file that holds a large one
    digest        BLOB NOT NULL,          -- SHA-256 of the content as it came
    server_number INTEGER NOT NULL,       -- 2104's message id, 2143's sequence
    token         BLOB,                   -- 2143's
    pull          INTEGER,                -- 2104's
    received_at   INTEGER NOT NULL,       -- Unix ms, our clock
    accepted_at   INTEGER,                -- Unix ms, the server's clock
    sender_proven INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    repeated      INTEGER NOT NULL,       -- may have been shown before
    late          INTEGER NOT NULL,       -- was shown as unreadable before
    saved_path    TEXT                    -- where a file went
) STRICT;
CREATE UNIQUE INDEX inbox_token ON inbox (sender, token) WHERE token IS NOT NULL;
CREATE INDEX inbox_unread ON inbox (number) WHERE state < 2;
CREATE INDEX inbox_unreadable ON inbox (sender, number) WHERE state = 3;
CREATE INDEX inbox_pull ON inbox (pull, sender, server_number) WHERE pull IS NOT NULL;

CREATE TABLE outbox (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    token     BLOB NOT NULL UNIQUE,
    recipient BLOB NOT NULL,
    kind      INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    content   BLOB,                       -- a small content, as it is sent
    spool     TEXT,                       -- the file that holds a large one
    shared_key INTEGER,                   -- the number of the key that it carries
    queued_at INTEGER NOT NULL,           -- Unix ms, our clock
    problem   TEXT                        -- why it was refused for good; NULL: it waits
) STRICT;

CREATE TABLE server (                     -- the one this identity has proven itself to
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    server_id  BLOB NOT NULL,
    generation INTEGER NOT NULL,
    ack        INTEGER NOT NULL           -- everything up to this sequence of its is in the inbox
) STRICT;
"""

_HISTORY: Final = """
CREATE TABLE sent (                       -- texts and files that left, or were to leave, for the user to look up
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient  BLOB NOT NULL,
    kind       INTEGER NOT NULL,
    text       TEXT,                      -- of a type 3
    path       TEXT,                      -- of a type 4
    queued_at  INTEGER NOT NULL,          -- Unix ms, our clock
    stored_at  INTEGER,                   -- Unix ms, our clock: the server has it
    message_id INTEGER,                   -- 2103's
    problem    TEXT,                      -- why it was refused for good
    outbox     INTEGER UNIQUE             -- its outbox number, where it went through the outbox
) STRICT;
"""


_PINS: Final = """
CREATE TABLE pin (                        -- under which id and key a name was first met
    client_id     BLOB PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    public_key    BLOB NOT NULL,
    since         INTEGER NOT NULL,       -- Unix ms
    verified_at   INTEGER,                -- both sides saw the same safety number
    offered_id    BLOB,                   -- what the server names now, where that is something else
    offered_key   BLOB,
    offered_since INTEGER
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO pin (client_id, name, public_key, since)
    SELECT client_id, name, public_key, unixepoch() * 1000 FROM contact WHERE public_key IS NOT NULL;
ALTER TABLE contact ADD COLUMN key_asked INTEGER NOT NULL DEFAULT 0;  -- whether we wait for a symmetric key
ALTER TABLE shared_key ADD COLUMN sealed_to BLOB;  -- for one made here: the public key it was sealed to
"""


_LOCK: Final = """
CREATE TABLE vault (                      -- the home has a passphrase, and what SECRETS names is sealed
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    wrapped BLOB NOT NULL                 -- the data key, under the passphrase
) STRICT;

CREATE TABLE rewrite (                    -- identity files that are to be written as the passphrase now wants them
    name    TEXT PRIMARY KEY,
    content TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""


_UNASKED: Final = """
ALTER TABLE shared_key ADD COLUMN unasked INTEGER NOT NULL DEFAULT 0;  -- it came unasked while one was in use
"""
_UNDER: Final = """
ALTER TABLE outbox ADD COLUMN under INTEGER;  -- the number of the key that it is encrypted under; of before: NULL
"""
_RECENT: Final = """
CREATE INDEX inbox_of ON inbox (sender, number);
CREATE INDEX sent_to ON sent (recipient, number);
"""
# Every statement finds its rows through one of these, so that the cost of a message does not grow
# with the history.
_STEADY: Final = """
DROP INDEX inbox_pull;
CREATE INDEX inbox_pull ON inbox (pull) WHERE pull IS NOT NULL;
CREATE INDEX inbox_again ON inbox (sender, server_number, kind, digest, pull) WHERE pull IS NOT NULL;
CREATE INDEX inbox_seen ON inbox (number) WHERE state >= 2;
CREATE INDEX inbox_unread_of ON inbox (sender) WHERE state < 2;
CREATE INDEX inbox_spool ON inbox (spool) WHERE spool IS NOT NULL;
CREATE INDEX pull_complete ON pull (number) WHERE complete;
CREATE INDEX outbox_waiting ON outbox (number) WHERE problem IS NULL;
CREATE INDEX outbox_waiting_for ON outbox (recipient, number) WHERE problem IS NULL;
CREATE INDEX outbox_carrying ON outbox (shared_key) WHERE shared_key IS NOT NULL;
CREATE INDEX outbox_failed ON outbox (number) WHERE problem IS NOT NULL;
CREATE INDEX outbox_spool ON outbox (spool) WHERE spool IS NOT NULL;
CREATE INDEX contact_listed ON contact (name, client_id) WHERE listed;
CREATE INDEX pin_offered ON pin (name) WHERE offered_key IS NOT NULL;
"""
_ORDER: Final = """
ALTER TABLE outbox ADD COLUMN tried_at INTEGER;    -- Unix ms: first sent and not answered; NULL: it surely is not there
ALTER TABLE sent ADD COLUMN after INTEGER NOT NULL DEFAULT 0;  -- the highest inbox number when it was queued
ALTER TABLE shared_key ADD COLUMN after INTEGER NOT NULL DEFAULT 0;  -- the highest inbox number when it was added
CREATE INDEX inbox_key_request ON inbox (sender, number) WHERE kind = 1;
CREATE INDEX inbox_by_time ON inbox (received_at, number);
UPDATE outbox SET tried_at = queued_at WHERE problem IS NULL;
UPDATE sent SET after = coalesce(
    (SELECT number FROM inbox WHERE received_at <= queued_at ORDER BY received_at DESC, number DESC LIMIT 1), 0);
UPDATE shared_key SET after = coalesce(
    message,
    (SELECT number FROM inbox WHERE received_at <= added_at ORDER BY received_at DESC, number DESC LIMIT 1), 0);
DROP INDEX inbox_by_time;
"""
_ACKNOWLEDGED: Final = """
CREATE TABLE acknowledged (               -- what the server has, for as long as a backup put back may lose it
    number     INTEGER PRIMARY KEY,       -- the one that it had in the outbox
    token      BLOB NOT NULL,
    recipient  BLOB NOT NULL,
    kind       INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    content    BLOB,                      -- as it was sent, where it can't be made again from the history
    shared_key INTEGER,                   -- the number of the key that it carries
    under      INTEGER,                   -- the number of the key that it is encrypted under
    digest     BLOB,                      -- of a file: SHA-256 of the content as it was sent
    acknowledged_at INTEGER NOT NULL,     -- Unix ms, our clock
    lost       INTEGER NOT NULL           -- possibly
) STRICT;
CREATE INDEX acknowledged_kept ON acknowledged (number) WHERE NOT lost;
CREATE INDEX acknowledged_lost ON acknowledged (number) WHERE lost;
CREATE INDEX acknowledged_carrying ON acknowledged (shared_key) WHERE shared_key IS NOT NULL;
ALTER TABLE outbox ADD COLUMN again INTEGER NOT NULL DEFAULT 0;  -- it was acknowledged before
ALTER TABLE outbox ADD COLUMN digest BLOB;         -- then, and of a file: as in acknowledged
"""
_SILENCED: Final = """
CREATE TABLE silenced (                   -- whose messages the user does not want, or not to hear of
    client_id BLOB PRIMARY KEY,
    blocked   INTEGER NOT NULL,
    muted     INTEGER NOT NULL,
    told      INTEGER NOT NULL            -- see client/store/silenced.py
) STRICT;
"""
_SUITE_1: Final = """
CREATE TABLE own_keys (                   -- this account's keys of suite 1
    number     INTEGER PRIMARY KEY CHECK (number = 1),
    client_id  BLOB NOT NULL,             -- the id that what is published speaks of
    state      BLOB NOT NULL,
    server_id  BLOB,                      -- the server's store that has what was published last
    generation INTEGER
) STRICT;

CREATE TABLE peer (                       -- users who have shown keys of suite 1
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id   BLOB NOT NULL UNIQUE,
    ed25519     BLOB NOT NULL,
    curve25519  BLOB NOT NULL,
    since       INTEGER NOT NULL,         -- Unix ms
    after       INTEGER NOT NULL,         -- the highest inbox number then
    verified_at INTEGER,                  -- both sides saw the same safety number 2
    offered_ed25519    BLOB,              -- what the user has to decide about: another one, or the same
    offered_curve25519 BLOB,
    offered_since      INTEGER,
    told        INTEGER NOT NULL,         -- whether the user knows of safety number 2
    asked_at    INTEGER,                  -- Unix ms: when they were asked last to send again
    state       BLOB                      -- the sessions
) STRICT;
CREATE INDEX peer_offered ON peer (number) WHERE offered_ed25519 IS NOT NULL;

ALTER TABLE inbox ADD COLUMN opened INTEGER;   -- kind 5, once opened: how many bytes of content are the payload
ALTER TABLE inbox ADD COLUMN payload_id BLOB;
ALTER TABLE inbox ADD COLUMN mark TEXT;        -- kind 5: see client/mail/opening.py
ALTER TABLE inbox ADD COLUMN ask INTEGER NOT NULL DEFAULT 0;  -- its sender is to be asked to send it again
CREATE INDEX inbox_sealed ON inbox (sender, digest) WHERE kind = 5;
CREATE INDEX inbox_ask ON inbox (sender, number) WHERE ask;
CREATE INDEX inbox_payload ON inbox (sender, payload_id) WHERE payload_id IS NOT NULL;
ALTER TABLE outbox ADD COLUMN unsealed INTEGER NOT NULL DEFAULT 0;  -- kind 5: content is the payload still
ALTER TABLE sent ADD COLUMN payload_id BLOB;   -- suite 1
ALTER TABLE sent ADD COLUMN asked_again INTEGER NOT NULL DEFAULT 0; -- see client/store/sent.py
CREATE INDEX sent_payload ON sent (recipient, payload_id) WHERE payload_id IS NOT NULL;
"""
LATER_PARTS: Final = (
    (2, _HISTORY), (3, _PINS), (4, _LOCK), (5, _UNASKED), (6, _UNDER), (7, _RECENT), (8, _STEADY), (9, _ORDER),
    (10, _ACKNOWLEDGED), (11, _SILENCED), (12, _SUITE_1),
)  # fmt: skip
"""What each version of the schema added to the one before."""
