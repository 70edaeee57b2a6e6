"""Every statement of this engine.

Owns: the SQL. Promises: a subset that PostgreSQL shares with what speaks its protocol elsewhere: no
LISTEN and NOTIFY, no advisory locks, no large objects, no pipeline; every statement within one
shard, whose schema the connection looks into (`tests` read each of them). Sums are cast to bigint,
for PostgreSQL's own have a type of their own.
Exposure: none; values are parameters, never text.
"""

from typing import Final

# --- who has the shard

TAKE_OVER: Final = "UPDATE owner SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch"
EPOCH: Final = "SELECT epoch FROM owner WHERE id = 1"
HOLD: Final = "SELECT 1::bigint FROM owner WHERE epoch = $1 FOR SHARE"
COUNT_START: Final = "UPDATE store SET starts = starts + 1 WHERE id = 1 RETURNING server_id, generation, starts"
VERSION: Final = "SELECT version, shard, shards FROM store WHERE id = 1"
NEW_GENERATION: Final = (
    "UPDATE store SET generation = CASE WHEN generation < $1::bigint THEN $1::bigint ELSE generation + 1 END "
    "WHERE id = 1 RETURNING generation"
)
HAS_STORE: Final = "SELECT count(*) FROM information_schema.tables WHERE table_schema = $1 AND table_name = 'store'"
SET_VERSION: Final = "UPDATE store SET version = $1 WHERE id = 1"
INSERT_STORE: Final = (
    "INSERT INTO store (id, version, shard, shards, server_id, generation, changes, starts, sequence, blob, accepted) "
    "VALUES (1, $1, $2, $3, $4, $5, 0, 0, 0, 0, 0)"
)
INSERT_OWNER: Final = "INSERT INTO owner (id, epoch) VALUES (1, 0)"

# --- the journal

APPEND: Final = (
    "WITH held AS MATERIALIZED (SELECT 1 FROM owner WHERE epoch = $1 FOR SHARE) "
    "INSERT INTO journal (number, records) SELECT $2::bigint, $3::bytea FROM held"
)
JOURNAL: Final = "SELECT number, records FROM journal WHERE number > $1 ORDER BY number LIMIT $2"
EMPTY_JOURNAL: Final = "DELETE FROM journal WHERE number <= $1"

# --- mail

MARKS: Final = "SELECT sequence, blob, accepted FROM store WHERE id = 1"
WRITE_MARKS: Final = "UPDATE store SET sequence = $1, blob = $2, accepted = $3 WHERE id = 1"
STATS: Final = (
    "SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(content_bytes), 0)::bigint FROM mail_page "
    "WHERE recipient = $1"
)
STATS_OF_MANY: Final = (
    "SELECT recipient, sum(messages)::bigint, sum(content_bytes)::bigint FROM mail_page "
    "WHERE recipient = ANY($1::bigint[]) GROUP BY recipient"
)
LOAD: Final = (
    "SELECT count(DISTINCT recipient), coalesce(sum(messages), 0)::bigint, coalesce(sum(content_bytes), 0)::bigint "
    "FROM mail_page"
)
OLDEST: Final = (
    "SELECT first, last, messages, content_bytes, blob FROM mail_page "
    "WHERE recipient = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT $4"
)
NEXT_MAILBOX: Final = "SELECT min(recipient) FROM mail_page WHERE recipient > $1"
OVERLAPPING: Final = (
    "SELECT first, last, messages, content_bytes, blob FROM mail_page WHERE recipient = $1 AND first BETWEEN "
    "coalesce((SELECT max(first) FROM mail_page WHERE recipient = $1 AND first <= $2), 0) AND $3 AND last >= $2 "
    "ORDER BY first LIMIT $4"
)
PAGES_FROM: Final = (
    "SELECT recipient, first, last, messages, content_bytes, blob, entries, checksum FROM mail_page "
    "WHERE recipient = $1 AND first >= $2 ORDER BY first LIMIT $3"
)
PAGES: Final = (
    "SELECT recipient, first, last, messages, content_bytes, blob, entries, checksum FROM mail_page "
    "WHERE recipient > $1 OR (recipient = $1 AND first > $2) ORDER BY recipient, first LIMIT $3"
)
INSERT_PAGES: Final = (
    "INSERT INTO mail_page (recipient, first, last, messages, content_bytes, blob, entries, checksum) "
    "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], "
    "$7::bytea[], $8::bigint[])"
)
DELETE_WITHIN: Final = (
    "DELETE FROM mail_page AS p USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS gone(recipient, first, last) "
    "WHERE p.recipient = gone.recipient AND p.first >= gone.first AND p.last <= gone.last RETURNING p.blob"
)
CUT_BY: Final = (
    "SELECT p.recipient, p.first, gone.first, gone.last FROM mail_page AS p "
    "JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS gone(recipient, first, last) "
    "ON p.recipient = gone.recipient AND p.first <= gone.last AND p.last >= gone.first "
    "ORDER BY p.recipient, p.first, gone.first"
)
DELETE_PAGE: Final = "DELETE FROM mail_page WHERE recipient = $1 AND first = $2"
DELETE_SOME: Final = (
    "DELETE FROM mail_page WHERE recipient = $1 AND first IN "
    "(SELECT first FROM mail_page WHERE recipient = $1 ORDER BY first LIMIT $2) RETURNING blob"
)
IN_BLOBS: Final = "SELECT recipient, first, content_bytes, blob FROM mail_page WHERE blob IS NOT NULL"
NOTE_DAY: Final = "INSERT INTO day (day, sequence) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING"
FIRST_DAY: Final = "SELECT min(day) FROM day"
SEQUENCE_OF_DAY: Final = "SELECT sequence FROM day WHERE day >= $1 ORDER BY day LIMIT 1"

# --- large contents

WRITE_PIECE: Final = (
    "WITH held AS MATERIALIZED (SELECT 1 FROM owner WHERE epoch = $1 FOR SHARE) "
    "INSERT INTO blob_piece (blob, piece, data, checksum) SELECT $2::bigint, $3::bigint, $4::bytea, $5::bigint "
    "FROM held ON CONFLICT (blob, piece) DO UPDATE SET data = excluded.data, checksum = excluded.checksum"
)
PIECE: Final = "SELECT data, checksum FROM blob_piece WHERE blob = $1 AND piece = $2"
DELETE_BLOBS: Final = "DELETE FROM blob_piece WHERE blob = ANY($1::bigint[])"
BLOB_SIZES: Final = "SELECT blob, sum(octet_length(data))::bigint FROM blob_piece GROUP BY blob"

# --- users

FIND_USER: Final = (
    "SELECT id, proven, told, seen, disabled, "
    "(SELECT bundle IS NOT NULL FROM published_key WHERE published_key.account = account.id) "
    "FROM account WHERE client_id = $1 AND NOT deleted"
)
FIND_USERS: Final = (
    "SELECT client_id, id, proven, told, seen, disabled, "
    "EXISTS (SELECT 1 FROM block WHERE block.account = account.id), "
    "(SELECT bundle IS NOT NULL FROM published_key WHERE published_key.account = account.id) "
    "FROM account WHERE client_id = ANY($1::bytea[]) AND NOT deleted"
)
ROW_OF: Final = "SELECT id FROM account WHERE client_id = $1"
FIND_NAME: Final = "SELECT client_id, public_key, id FROM account WHERE name = $1 AND NOT deleted"
NAME_IN_USE: Final = "SELECT id, deleted FROM account WHERE name = $1"
NAME_KEPT: Final = "SELECT id FROM deleted_account WHERE name = $1"
USER_STATE: Final = "SELECT id, deleted FROM account WHERE client_id = $1"
DIGEST_KEPT: Final = "SELECT id FROM deleted_account WHERE id_digest = $1"
HAS_LOOK: Final = (
    "SELECT account FROM name_look WHERE look = ANY($1::text[]) AND (beyond_ascii OR NOT $2::boolean) LIMIT 1"
)
REGISTER: Final = (
    "INSERT INTO account (id, client_id, name, public_key, registered, seen) SELECT 1 + greatest("
    "(SELECT coalesce(max(id), 0) FROM account), (SELECT coalesce(max(id), 0) FROM deleted_account)), "
    "$1, $2, $3, $4, $4 RETURNING id"
)
INSERT_LOOKS: Final = (
    "INSERT INTO name_look (look, beyond_ascii, account) SELECT look, $2::boolean, $3::bigint "
    "FROM unnest($1::text[]) AS new(look) ON CONFLICT DO NOTHING"
)
PUBLIC_KEY: Final = "SELECT public_key FROM account WHERE id = $1"
TOLD: Final = "UPDATE account SET told = true WHERE id = ANY($1::bigint[])"
PROVE: Final = "UPDATE account SET told = told AND proven, proven = true WHERE id = ANY($1::bigint[])"
MARK_DELETED: Final = "UPDATE account SET deleted = true WHERE id = ANY($1::bigint[])"
SET_DISABLED: Final = "UPDATE account SET disabled = $2::boolean WHERE id = ANY($1::bigint[])"
SET_SEEN: Final = (
    "UPDATE account SET seen = new.day FROM unnest($1::bigint[], $2::bigint[]) AS new(id, day) "
    "WHERE account.id = new.id"
)
DELETED_USERS: Final = "SELECT id FROM account WHERE deleted ORDER BY id"
FORGET_USER: Final = "DELETE FROM account WHERE id = $1 RETURNING client_id, name"
KEEP_NAME: Final = "INSERT INTO deleted_account (id, name, id_digest) VALUES ($1, $2, $3)"
LAST_USER: Final = "SELECT coalesce(max(id), 0) FROM account"
COUNT_USERS: Final = "SELECT count(*), max(id) FROM account WHERE id > $1 AND id <= $2 AND NOT deleted"
PAGE_OF_USERS: Final = (
    "SELECT id, client_id, name FROM account WHERE id > $1 AND id <= $2 AND NOT deleted ORDER BY id LIMIT $3"
)
ACCOUNTS: Final = (
    "SELECT id, client_id, name, proven, registered, seen, disabled, "
    "(SELECT CASE WHEN generation = $3 THEN octet_length(one_time) / 96 ELSE 0 END::bigint FROM published_key "
    "WHERE published_key.account = account.id AND bundle IS NOT NULL) "
    "FROM account WHERE id > $1 AND NOT deleted ORDER BY id LIMIT $2"
)
COUNT_PROVEN: Final = "SELECT count(*) FROM account WHERE proven AND NOT deleted"
PROVEN_OF: Final = "SELECT id, proven FROM account WHERE id = ANY($1::bigint[])"
OWNER_OF: Final = "SELECT name, encode(client_id, 'hex') FROM account WHERE id = $1"

UNSEEN: Final = "SELECT client_id FROM account WHERE id > $1 AND id <= $2 AND seen < $3 AND NOT deleted ORDER BY id"

# --- what the shards have of one another

DIRECTORY_STATE: Final = "SELECT server_id, generation, changes FROM store WHERE id = 1"
CHANGES: Final = "SELECT changes FROM store WHERE id = 1"
DELETED_IDS: Final = "SELECT id, client_id FROM account WHERE deleted ORDER BY id"
COUNT_CHANGE: Final = "UPDATE store SET changes = changes + 1 WHERE id = 1"
DIRECTORY_USERS: Final = (
    "SELECT client_id, id, proven, seen, disabled FROM account WHERE client_id = ANY($1::bytea[]) AND NOT deleted"
)
BLOCKERS: Final = "SELECT DISTINCT account FROM block WHERE account = ANY($1::bigint[])"
LEAVING: Final = (
    "SELECT id, client_id FROM account WHERE deleted AND NOT EXISTS "
    "(SELECT 1 FROM gone_account WHERE gone_account.account = account.id AND shard = $1) ORDER BY id LIMIT $2"
)
REPORT_GONE: Final = (
    "INSERT INTO gone_account (account, shard) SELECT id, $2::bigint FROM account WHERE id = $1 AND deleted "
    "ON CONFLICT DO NOTHING"
)
COUNT_GONE: Final = "SELECT count(*) FROM gone_account WHERE account = $1"
FORGET_GONE: Final = "DELETE FROM gone_account WHERE account = $1"
LATER_SEEN: Final = (
    "UPDATE account SET seen = new.day FROM unnest($1::bigint[], $2::bigint[]) AS new(id, day) "
    "WHERE account.id = new.id AND coalesce(account.seen, -1) < new.day"
)

# --- how long workers have run

RUNNING_HOURS: Final = "SELECT coalesce(max(hours), 0) FROM running_time"
FIRST_DAY_AFTER: Final = "SELECT min(day) FROM running_time WHERE hours > $1"
NOTE_RUNNING: Final = (
    "INSERT INTO running_time (day, hours) VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET hours = excluded.hours"
)

# --- invitations, blocks, tokens, slots

FIND_INVITATION: Final = "SELECT digest, uses, expires_at FROM invitation WHERE digest = $1"
INVITATIONS: Final = "SELECT digest, uses, expires_at FROM invitation ORDER BY expires_at, digest"
MAKE_INVITATION: Final = (
    "INSERT INTO invitation (digest, uses, expires_at) VALUES ($1, $2, $3) "
    "ON CONFLICT (digest) DO UPDATE SET uses = excluded.uses, expires_at = excluded.expires_at"
)
USE_INVITATION: Final = "UPDATE invitation SET uses = uses - 1 WHERE digest = $1"
DROP_USED_INVITATION: Final = "DELETE FROM invitation WHERE digest = $1 AND uses <= 0"
DROP_INVITATION: Final = "DELETE FROM invitation WHERE digest = $1"

HAS_BLOCK: Final = "SELECT account FROM block WHERE account = $1 AND sender = $2"
COUNT_BLOCKS: Final = "SELECT count(*) FROM block WHERE account = $1"
ANY_BLOCK: Final = "SELECT account FROM block WHERE account = $1 LIMIT 1"
ADD_BLOCKS: Final = (
    "INSERT INTO block (account, sender) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING"
)
DROP_BLOCKS: Final = (
    "DELETE FROM block USING unnest($1::bigint[], $2::bigint[]) AS gone(account, sender) "
    "WHERE block.account = gone.account AND block.sender = gone.sender"
)
FORGET_BLOCKS: Final = "DELETE FROM block WHERE account = $1 OR sender = $1"

FIND_KEYS: Final = (
    "SELECT coalesce(bundle, ''::bytea), digest, generation, one_time FROM published_key WHERE account = $1"
)
WRITE_KEYS: Final = (
    "INSERT INTO published_key (account, generation, digest, bundle, one_time) "
    "SELECT account, generation, digest, bundle, one_time "
    "FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[]) "
    "AS new(account, generation, digest, bundle, one_time, follows) WHERE follows = coalesce("
    "(SELECT kept.digest FROM published_key AS kept WHERE kept.account = new.account), ''::bytea) "
    "ON CONFLICT (account) DO UPDATE SET generation = excluded.generation, digest = excluded.digest, "
    "bundle = excluded.bundle, one_time = excluded.one_time"
)
KEY_DIGESTS: Final = "SELECT account, digest FROM published_key WHERE account = ANY($1::bigint[])"
KEY_STATES: Final = "SELECT account, bundle IS NOT NULL FROM published_key WHERE account = ANY($1::bigint[])"
FORGET_KEYS: Final = "DELETE FROM published_key WHERE account = $1"
KEYS_OF_ALL: Final = (
    "SELECT count(*), coalesce(sum(CASE WHEN generation = $1 THEN octet_length(one_time) ELSE 0 END), 0)::bigint "
    "FROM published_key WHERE bundle IS NOT NULL AND NOT account = ANY($2::bigint[])"
)

FIND_SENT: Final = (
    "SELECT coalesce(answered, sequence), sender, token, recipient, kind, digest, accepted_at, sequence "
    "FROM sent_token WHERE sender = $1 AND token = $2"
)
TOKENS_OF: Final = "SELECT token FROM sent_token WHERE sender = $1"
NEWER_TOKENS: Final = "SELECT count(*) FROM sent_token WHERE sender = $1 AND sequence > $2"
ADD_TOKENS: Final = (
    "INSERT INTO sent_token (sequence, sender, token, recipient, kind, digest, accepted_at) "
    "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], "
    "$7::bigint[]) "
    # One whose time was over may be there.
    "ON CONFLICT (sender, token) DO UPDATE SET sequence = excluded.sequence, recipient = excluded.recipient, "
    "kind = excluded.kind, digest = excluded.digest, accepted_at = excluded.accepted_at, answered = NULL"
)
TRIM_TOKENS: Final = (
    "DELETE FROM sent_token AS t USING (SELECT new.sender, (SELECT kept.sequence FROM sent_token AS kept "
    "WHERE kept.sender = new.sender ORDER BY kept.sequence DESC OFFSET $2 LIMIT 1) AS last "
    "FROM unnest($1::bigint[]) AS new(sender)) AS old WHERE t.sender = old.sender AND t.sequence <= old.last"
)
OLDEST_TOKENS: Final = "SELECT sequence, accepted_at FROM sent_token ORDER BY sequence LIMIT $1"
DROP_OLD_TOKENS: Final = "DELETE FROM sent_token WHERE sequence <= $1"
FORGET_TOKENS: Final = "DELETE FROM sent_token WHERE sender = $1"

SLOTS: Final = "SELECT slot, epoch, incarnation, earlier, number, outcomes, before FROM slot"
WRITE_SLOT: Final = (
    "INSERT INTO slot (slot, epoch, incarnation, earlier, number, outcomes, before) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (slot) DO UPDATE SET epoch = excluded.epoch, "
    "incarnation = excluded.incarnation, earlier = excluded.earlier, number = excluded.number, "
    "outcomes = excluded.outcomes, before = excluded.before"
)

# --- what an operator's commands do

FORGET_OVER: Final = "DELETE FROM invitation WHERE expires_at <= $1"
MARK_NAME_DELETED: Final = "UPDATE account SET deleted = true WHERE name = $1 AND NOT deleted"
KEPT_NAMES: Final = (
    "SELECT name, goes_on FROM (SELECT name, false AS goes_on, id FROM deleted_account WHERE name IS NOT NULL "
    "UNION ALL SELECT name, true, id FROM account WHERE deleted) AS kept ORDER BY id"
)
FORGET_LOOKS_OF_NAME: Final = "DELETE FROM name_look WHERE account IN (SELECT id FROM deleted_account WHERE name = $1)"
FREE_NAME: Final = "UPDATE deleted_account SET name = NULL WHERE name = $1"
RE_KEY: Final = (
    "UPDATE account SET public_key = $2, seen = greatest(coalesce(seen, 0), $3::bigint) WHERE name = $1 AND NOT deleted"
)
REMOVE_KEYS: Final = (
    "INSERT INTO published_key (account, generation, digest, bundle, one_time) VALUES ($1, 0, $2, NULL, ''::bytea) "
    "ON CONFLICT (account) DO UPDATE SET generation = excluded.generation, digest = excluded.digest, "
    "bundle = excluded.bundle, one_time = excluded.one_time"
)
UNPROVE: Final = "UPDATE account SET proven = false, told = false WHERE name = $1 AND NOT deleted"
LAST_TURN: Final = "SELECT coalesce(max(number), 0) FROM journal"
COUNT_TURNS: Final = "SELECT count(*) FROM journal WHERE number <= $1"

# --- a move to or from another engine

COUNT_JOURNAL: Final = "SELECT count(*) FROM journal"
FACTS: Final = "SELECT server_id, generation, starts, sequence, blob, accepted, true FROM store WHERE id = 1"
WRITE_FACTS: Final = "UPDATE store SET starts = $1, sequence = $2, blob = $3, accepted = $4 WHERE id = 1"
MOVED_PIECE: Final = "INSERT INTO blob_piece (blob, piece, data, checksum) VALUES ($1, $2, $3, $4)"
_MOVED: Final = {
    "account": (
        1,
        "id bigint, client_id bytea, name text, public_key bytea, proven boolean, deleted boolean, registered bigint, "
        "seen bigint, disabled boolean",
    ),
    "deleted_account": (1, "id bigint, name text, id_digest bytea"),
    "name_look": (3, "look text, beyond_ascii boolean, account bigint"),
    "block": (2, "account bigint, sender bigint"),
    "published_key": (1, "account bigint, generation bigint, digest bytea, bundle bytea, one_time bytea"),
    "invitation": (1, "digest bytea, uses bigint, expires_at bigint"),
    "sent_token": (
        1,
        "sequence bigint, sender bigint, token bytea, recipient bigint, kind bigint, digest bytea, accepted_at bigint, "
        "answered bigint",
    ),
    "slot": (
        1,
        "slot bigint, epoch bigint, incarnation bytea, earlier bytea, number bigint, outcomes bytea, before bytea",
    ),
    "day": (1, "day bigint, sequence bigint"),
    "running_time": (1, "day bigint, hours bigint"),
}
"""By table: how many columns its key has, which come first, and the columns that are moved."""


def _moved_from(table: str, keys: int, columns: str) -> str:
    named = [column.split() for column in columns.split(", ")]
    key = ", ".join([name for name, _type in named[:keys]])
    before = ", ".join([f"${number}::{type_}" for number, (_name, type_) in enumerate(named[:keys], 1)])
    names = ", ".join([name for name, _type in named])
    return f"SELECT {names} FROM {table} WHERE ({key}) > ({before}) ORDER BY {key} LIMIT ${keys + 1}"  # noqa: S608 - of names above


def _moved_into(table: str, columns: str) -> str:
    named = [column.split() for column in columns.split(", ")]
    names = ", ".join([name for name, _type in named])
    arrays = ", ".join([f"${number}::{type_}[]" for number, (_name, type_) in enumerate(named, 1)])
    return f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays})"  # noqa: S608 - of names above


MOVED_FROM: Final = {table: _moved_from(table, *columns) for table, columns in _MOVED.items() if table != "sent_token"}
"""By table: the rows behind a key, so many at most."""
MOVED_TOKENS: Final = (
    "SELECT coalesce(answered, sequence), sender, token, recipient, kind, digest, accepted_at, sequence "
    "FROM sent_token WHERE (sender, sequence) > ($1::bigint, $2::bigint) ORDER BY sender, sequence LIMIT $3"
)
"""The same of tokens, by sender, with what is answered."""
COUNT_TOKENS: Final = "SELECT count(*) FROM sent_token"
WITH_MAIL: Final = "SELECT DISTINCT recipient FROM mail_page"
MOVED_INTO: Final = {table: _moved_into(table, columns) for table, (_keys, columns) in _MOVED.items()}
"""By table: rows, by columns."""
