"""Responses: their bytes for the server, their values for clients, and one table of their layouts.

Owns: the codes of responses and their layouts; encoding of every response, in parts where it is
streamed; the values that a client's decoder returns; which sizes each code may have, and how it is
decoded.
Promises: every code has a row, or this module can't be imported. What `encode_*` writes,
`client_connection.ClientConnection` reads.
Exposure: the server encodes what it has checked before. Decoders are fed with what a server sent,
which need not be honest.

Source: docs/client-protocol.md, "Responses".
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from common.client_protocol.fields import RESPONSE_HEADER, message_id, pack_name
from common.client_protocol.versions import SERVER_VERSION
from common.errors import FrameUndecodable, ResponseMalformed
from common.names import ascii_form
from common.storage_protocol.message_format import ENTRY_HEAD, heads
from common.tables import complete
from common.values import (
    CLIENT_ID_SIZE,
    LONGEST_BUNDLE,
    ONE_TIME_KEY_SIZE,
    PUBLIC_KEY_SIZE,
    ClientId,
    PublicKey,
    Token,
    Username,
)


class ResponseCode(IntEnum):
    """The codes of responses."""

    REGISTERED = 2100
    USERS = 2101
    PUBLIC_KEY = 2102
    STORED = 2103
    WAITING = 2104
    HELLO = 2140
    AUTHENTICATED = 2141
    FETCHED = 2143
    KEYS_KEPT = 2144
    KEY_CLAIMED = 2145
    DELETED = 2147
    ABOUT = 2148
    CERTIFICATES = 2149
    BLOCK_SET = 2151
    ERROR = 9000
    ERROR_WITH_REASON = 9001


USER: Final = Struct("<16s255s")
"""client id, name field"""
KEY_REPLY: Final = Struct("<16s160s")
"""client id, public key"""
STORED: Final = Struct("<16sI")
"""recipient, message id"""
WAITING_HEAD: Final = Struct("<16sIBI")
"""sender, message id, kind, content size"""
FETCHED_HEAD: Final = Struct("<16s16sQQBBI")
"""sender, token, sequence, accepted at (Unix ms), flags, kind, content size"""
HELLO_REPLY: Final = Struct("<IIII16sQ32s")
"""extension version, features, max payload, idle seconds, server id, store generation, nonce"""
REASON: Final = Struct("<HI")
"""reason, retry after (seconds)"""
ABOUT_HEAD: Final = Struct("<HIIQB")
"""expire days (0: never), largest message (bytes), messages of a mailbox, bytes of a mailbox, who
may register; a text in UTF-8 follows"""
LONGEST_ABOUT: Final = 4096
"""Bytes of that text."""
CERTIFICATES_HEAD: Final = Struct("<B")
"""count of the digests that follow"""
DIGEST_SIZE: Final = 32
KEYS_KEPT: Final = Struct("<H")
"""one-time keys that the server keeps now"""
PART_SIZE: Final = Struct("<H")
"""size of the bundle or of the one-time key that follows"""
NONCE_SIZE: Final = 32
FLAG_SENDER_AUTHENTICATED: Final = 1
LARGEST_CONTENT: Final = 2**32 - 1 - FETCHED_HEAD.size
"""Bytes: what both 2104 and 2143 can carry in their u32 payload size."""

ERROR: Final = RESPONSE_HEADER.pack(SERVER_VERSION, ResponseCode.ERROR, 0)
"""9000, the whole of it."""
AUTHENTICATED: Final = RESPONSE_HEADER.pack(SERVER_VERSION, ResponseCode.AUTHENTICATED, 0)
"""2141, the whole of it."""
DELETED: Final = RESPONSE_HEADER.pack(SERVER_VERSION, ResponseCode.DELETED, 0)
"""2147, the whole of it."""
BLOCK_SET: Final = RESPONSE_HEADER.pack(SERVER_VERSION, ResponseCode.BLOCK_SET, 0)
"""2151, the whole of it."""
_STORED_HEADER: Final = RESPONSE_HEADER.pack(SERVER_VERSION, ResponseCode.STORED, STORED.size)
_RUN: Final = 256
"""2103s that are packed at a time; their layouts are kept."""
_IDS_REPEAT: Final = 2**32
"""From this sequence on a message's id is another number."""
_ENTRY_HEAD: Final = ENTRY_HEAD.size
_unpack_entry: Final = Struct("<16s16xQ8xxBI").unpack_from
"""Of an entry's head: sender, sequence, kind, content size."""
_SENDER: Final = CLIENT_ID_SIZE
"""Where an entry's head ends that 2104 has too."""
_SEQUENCE: Final = 32
"""Where an entry has its sequence, whose lower half is the message's id."""
_TAIL_BEHIND_SEQUENCE: Final = 17
"""How far behind that kind, content size and content begin, as 2104 has them."""
_unpack_id_and_size: Final = Struct("<4sI10xI").unpack_from
"""Of an entry from its sequence on: the lower and the upper half of that, and the content's
size."""
_pack_stored = STORED.pack
_pack_waiting = WAITING_HEAD.pack
_pack_fetched = FETCHED_HEAD.pack


def encode_registered(client_id: bytes) -> bytes:
    """2100."""
    return encode_head(ResponseCode.REGISTERED, len(client_id)) + client_id


def encode_head(code: ResponseCode, payload_size: int) -> bytes:
    """The header of a response whose payload follows in parts."""
    return RESPONSE_HEADER.pack(SERVER_VERSION, code, payload_size)


def encode_user(client_id: bytes, name: str) -> bytes:
    """One entry of 2101's payload."""
    return USER.pack(client_id, pack_name(Username(name)))


def encode_users(users: Iterable[tuple[bytes, str]], *, published: bool = False) -> bytes:
    """Entries of 2101, one behind the other. `published`: names in their ASCII form."""
    if published:
        return b"".join([encode_user(client_id, ascii_form(Username(name))) for client_id, name in users])
    return b"".join([encode_user(client_id, name) for client_id, name in users])


def encode_public_key(client_id: bytes, key: bytes) -> bytes:
    """2102."""
    return encode_head(ResponseCode.PUBLIC_KEY, KEY_REPLY.size) + client_id + key


def encode_stored(recipient: bytes, sequence: int) -> bytes:
    """2103."""
    return _STORED_HEADER + _pack_stored(recipient, message_id(sequence))


def encode_stored_run(recipients: Sequence[bytes], first: int) -> bytes:
    """2103s, one behind the other: for each recipient, with the sequences `first`, `first` + 1, …

    The hot path: one `pack` for up to `_RUN` of them.
    """
    count = len(recipients)
    if first + count > _IDS_REPEAT:
        return b"".join([encode_stored(recipient, first + number) for number, recipient in enumerate(recipients)])
    if count == 1:
        return _STORED_HEADER + _pack_stored(recipients[0], first)
    if count > _RUN:
        starts = range(0, count, _RUN)
        return b"".join([encode_stored_run(recipients[start : start + _RUN], first + start) for start in starts])
    fields: list[object] = [_STORED_HEADER] * (3 * count)
    fields[1::3] = recipients
    fields[2::3] = range(first, first + count)
    return _stored_run_layout(count).pack(*fields)


@cache
def _stored_run_layout(count: int) -> Struct:
    return Struct("<" + f"{RESPONSE_HEADER.size}s{CLIENT_ID_SIZE}sI" * count)


def encode_pulled_head(sender: bytes, sequence: int, kind: int, size: int) -> bytes:
    """What precedes a message's content in 2104."""
    return _pack_waiting(sender, message_id(sequence), kind, size)


def encode_pulled(entries: bytes) -> list[bytes]:
    """Convert messages from the store's format (`common.storage_protocol.message_format`) to that
    of 2104, in pieces to be joined. The hot path.

    Raises `FrameUndecodable` if the last entry is cut off.
    """
    # 2104 has the sender, half of the sequence, and what is from the kind on. So between two ids
    # it has the end of one entry and the beginning of the next, as they lie one behind the other.
    at, end = _SEQUENCE, len(entries)
    parts = [entries[:_SENDER]]
    add = parts.append
    try:
        while at < end:
            number, upper, size = _unpack_id_and_size(entries, at)
            if upper:
                return _encode_pulled_late(entries)
            add(number)
            start = at + _TAIL_BEHIND_SEQUENCE
            at += _ENTRY_HEAD + size
            add(entries[start : at - _SEQUENCE + _SENDER])
    except struct.error:
        at = 0
    if at != end + _SEQUENCE:
        raise FrameUndecodable("an entry is cut off")
    return parts


def _encode_pulled_late(entries: bytes) -> list[bytes]:
    """The same where some sequences are not the ids as they are."""
    parts: list[bytes] = []
    for head in heads(entries):
        start = head.end - head.size
        parts += (encode_pulled_entry_head(entries[head.start : start]), entries[start : head.end])
    return parts


def encode_pulled_entry_head(head: bytes) -> bytes:
    """The same for the head of a single entry."""
    sender, sequence, kind, size = _unpack_entry(head)
    return _pack_waiting(sender, message_id(sequence), kind, size)


def encode_fetched_head(
    sender: bytes, token: bytes, sequence: int, accepted_at: int, authenticated: bool, kind: int, size: int
) -> bytes:
    """What precedes a message's content in 2143. `accepted_at` in Unix milliseconds."""
    return _pack_fetched(
        sender, token, sequence, accepted_at, FLAG_SENDER_AUTHENTICATED if authenticated else 0, kind, size
    )


def encode_hello(
    extension_version: int,
    features: int,
    max_payload: int,
    idle_seconds: int,
    server_id: bytes,
    generation: int,
    nonce: bytes,
) -> bytes:
    """2140."""
    payload = HELLO_REPLY.pack(extension_version, features, max_payload, idle_seconds, server_id, generation, nonce)
    return encode_head(ResponseCode.HELLO, len(payload)) + payload


def encode_about(
    expire_days: int, largest_message: int, mailbox_messages: int, mailbox_bytes: int, registration: int, text: bytes
) -> bytes:
    """2148. `text`: UTF-8, at most `LONGEST_ABOUT` bytes."""
    head = ABOUT_HEAD.pack(expire_days, largest_message, mailbox_messages, mailbox_bytes, registration)
    return encode_head(ResponseCode.ABOUT, len(head) + len(text)) + head + text


def encode_certificates(digests: Sequence[bytes]) -> bytes:
    """2149: one or two SHA-256 digests, of the certificate in use first."""
    head = encode_head(ResponseCode.CERTIFICATES, CERTIFICATES_HEAD.size + DIGEST_SIZE * len(digests))
    return b"".join((head, CERTIFICATES_HEAD.pack(len(digests)), *digests))


def encode_keys_kept(kept: int) -> bytes:
    """2144."""
    return encode_head(ResponseCode.KEYS_KEPT, KEYS_KEPT.size) + KEYS_KEPT.pack(kept)


def encode_key_claimed(bundle: bytes, one_time_key: bytes) -> bytes:
    """2145. `one_time_key`: empty for none."""
    sizes = PART_SIZE.pack(len(bundle)), PART_SIZE.pack(len(one_time_key))
    head = encode_head(ResponseCode.KEY_CLAIMED, 2 * PART_SIZE.size + len(bundle) + len(one_time_key))
    return b"".join((head, sizes[0], bundle, sizes[1], one_time_key))


def encode_reason(reason: int, retry_after: int) -> bytes:
    """9001, for connections whose 640 asked for reasons. `retry_after` in seconds."""
    return encode_head(ResponseCode.ERROR_WITH_REASON, REASON.size) + REASON.pack(reason, retry_after)


# --- what a client reads
# --------------------------------------------------------------------------------------


class RegisteredResponse(NamedTuple):
    """2100."""

    client_id: ClientId


class UserListed(NamedTuple):
    """One entry of 2101. The name is as the server lists it: other servers accept names that break
    our rules.
    """

    client_id: ClientId
    name: str


class PublicKeyResponse(NamedTuple):
    """2102. `client_id` is None if the server leaves it out, as some do."""

    client_id: ClientId | None
    public_key: PublicKey


class StoredResponse(NamedTuple):
    """2103."""

    recipient: ClientId
    message_id: int


class HelloResponse(NamedTuple):
    """2140."""

    extension_version: int
    features: int
    max_payload: int
    idle_seconds: int
    server_id: bytes
    generation: int
    nonce: bytes


class AuthenticatedResponse(NamedTuple):
    """2141."""


class DeletedResponse(NamedTuple):
    """2147."""


class AboutResponse(NamedTuple):
    """2148. `expire_days`: days after which unfetched messages are deleted; 0: never.

    `registration`: a number of `Registration`, or one of a later version. `text` is the operator's;
    sanitize it before showing it.
    """

    expire_days: int
    largest_message: int
    mailbox_messages: int
    mailbox_bytes: int
    registration: int
    text: str


class CertificatesResponse(NamedTuple):
    """2149: the SHA-256 of the server's certificate, and of the next one if there is one."""

    digests: tuple[bytes, ...]


class KeysKeptResponse(NamedTuple):
    """2144: how many of the user's one-time keys the server keeps now."""

    kept: int


class KeyClaimedResponse(NamedTuple):
    """2145: a user's bundle, of 1 to `LONGEST_BUNDLE` bytes, and a one-time key that nobody else
    gets; `one_time_key` is empty where the server gave none.
    """

    bundle: bytes
    one_time_key: bytes


class BlockSetResponse(NamedTuple):
    """2151."""


class ErrorResponse(NamedTuple):
    """9000 (`reason` None) or 9001. `text`: what some servers add to a 9000; sanitize it before
    showing it.
    """

    reason: int | None = None
    retry_after: int = 0
    text: str = ""


class MessageHead(NamedTuple):
    """What 2104 or 2143 says of a message before its content of `size` bytes.

    `number` is 2104's message id or 2143's sequence. 2104 has no `token`, `accepted_at` (Unix ms),
    `authenticated`.
    """

    sender: ClientId
    number: int
    kind: int
    size: int
    token: Token | None = None
    accepted_at: int | None = None
    sender_authenticated: bool = False


Whole = (
    RegisteredResponse
    | PublicKeyResponse
    | StoredResponse
    | HelloResponse
    | AuthenticatedResponse
    | DeletedResponse
    | AboutResponse
    | CertificatesResponse
    | KeysKeptResponse
    | KeyClaimedResponse
    | BlockSetResponse
    | ErrorResponse
)

LONGEST_ERROR_TEXT: Final = 64 * 1024
"""Bytes of text that a 9000 may carry."""


class WholeLayout(NamedTuple):
    """A response that is decoded at once. `sizes`: the allowed sizes of its payload, in bytes."""

    sizes: range | tuple[int, ...]
    decode: Callable[[bytes], Whole]


class ListLayout(NamedTuple):
    """A response of entries, whose payload may have any size that is a multiple of `multiple`.

    `head`: bytes before an entry's content.
    """

    head: int
    decode: Callable[[bytes], UserListed | MessageHead]
    multiple: int = 1


def _decode_user(entry: bytes) -> UserListed:
    client_id, name_field = USER.unpack(entry)
    # One odd name must not make the whole list unreadable; what shows it makes it harmless.
    return UserListed(ClientId(client_id), name_field.partition(b"\0")[0].decode("utf-8", "replace"))


def _decode_public_key(payload: bytes) -> PublicKeyResponse:
    if len(payload) == PUBLIC_KEY_SIZE:
        return PublicKeyResponse(None, PublicKey(payload))
    client_id, key = KEY_REPLY.unpack(payload)
    return PublicKeyResponse(ClientId(client_id), PublicKey(key))


def _decode_stored(payload: bytes) -> StoredResponse:
    recipient, number = STORED.unpack(payload)
    return StoredResponse(ClientId(recipient), number)


def _decode_waiting(entry: bytes) -> MessageHead:
    sender, number, kind, size = WAITING_HEAD.unpack(entry)
    return MessageHead(ClientId(sender), number, kind, size)


def _decode_fetched(entry: bytes) -> MessageHead:
    sender, token, sequence, accepted_at, flags, kind, size = FETCHED_HEAD.unpack(entry)
    authenticated = bool(flags & FLAG_SENDER_AUTHENTICATED)
    return MessageHead(ClientId(sender), sequence, kind, size, Token(token), accepted_at, authenticated)


def _decode_certificates(payload: bytes) -> CertificatesResponse:
    (count,) = CERTIFICATES_HEAD.unpack_from(payload)
    digests = payload[CERTIFICATES_HEAD.size :]
    if count * DIGEST_SIZE != len(digests):
        raise ResponseMalformed(f"{count} certificates in {len(digests)} bytes")
    return CertificatesResponse(tuple(digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE)))


def _decode_key_claimed(payload: bytes) -> KeyClaimedResponse:
    bundle, rest = _part(payload)
    one_time_key, rest = _part(rest)
    if not 1 <= len(bundle) <= LONGEST_BUNDLE or len(one_time_key) not in (0, ONE_TIME_KEY_SIZE) or rest:
        raise ResponseMalformed(
            f"a bundle of {len(bundle)} bytes, a one-time key of {len(one_time_key)}, and {len(rest)} bytes"
        )
    return KeyClaimedResponse(bundle, one_time_key)


def _part(data: bytes) -> tuple[bytes, bytes]:
    """What a size precedes, and what is behind it."""
    if len(data) < PART_SIZE.size:
        raise ResponseMalformed("a size is cut off")
    (size,) = PART_SIZE.unpack_from(data)
    end = PART_SIZE.size + size
    if end > len(data):
        raise ResponseMalformed(f"{size} bytes are announced, {len(data) - PART_SIZE.size} are there")
    return data[PART_SIZE.size : end], data[end:]


def _decode_about(payload: bytes) -> AboutResponse:
    expire_days, largest, messages, size, registration = ABOUT_HEAD.unpack_from(payload)
    text = payload[ABOUT_HEAD.size :].decode("utf-8", "replace")
    return AboutResponse(expire_days, largest, messages, size, registration, text)


LAYOUTS: Final[Mapping[ResponseCode, WholeLayout | ListLayout]] = complete(
    "LAYOUTS of common/client_protocol/responses.py",
    {
        ResponseCode.REGISTERED: WholeLayout((CLIENT_ID_SIZE,), lambda payload: RegisteredResponse(ClientId(payload))),
        ResponseCode.USERS: ListLayout(USER.size, _decode_user, multiple=USER.size),
        # Some servers leave the id out.
        ResponseCode.PUBLIC_KEY: WholeLayout((KEY_REPLY.size, PUBLIC_KEY_SIZE), _decode_public_key),
        ResponseCode.STORED: WholeLayout((STORED.size,), _decode_stored),
        ResponseCode.WAITING: ListLayout(WAITING_HEAD.size, _decode_waiting),
        ResponseCode.HELLO: WholeLayout(
            (HELLO_REPLY.size,), lambda payload: HelloResponse(*HELLO_REPLY.unpack(payload))
        ),
        ResponseCode.AUTHENTICATED: WholeLayout((0,), lambda _payload: AuthenticatedResponse()),
        ResponseCode.FETCHED: ListLayout(FETCHED_HEAD.size, _decode_fetched),
        ResponseCode.KEYS_KEPT: WholeLayout(
            (KEYS_KEPT.size,), lambda payload: KeysKeptResponse(*KEYS_KEPT.unpack(payload))
        ),
        ResponseCode.KEY_CLAIMED: WholeLayout(
            range(2 * PART_SIZE.size + 1, 2 * PART_SIZE.size + LONGEST_BUNDLE + ONE_TIME_KEY_SIZE + 1),
            _decode_key_claimed,
        ),
        ResponseCode.DELETED: WholeLayout((0,), lambda _payload: DeletedResponse()),
        ResponseCode.ABOUT: WholeLayout(range(ABOUT_HEAD.size, ABOUT_HEAD.size + LONGEST_ABOUT + 1), _decode_about),
        ResponseCode.CERTIFICATES: WholeLayout(
            tuple(CERTIFICATES_HEAD.size + DIGEST_SIZE * count for count in (1, 2)), _decode_certificates
        ),
        ResponseCode.BLOCK_SET: WholeLayout((0,), lambda _payload: BlockSetResponse()),
        ResponseCode.ERROR: WholeLayout(
            range(LONGEST_ERROR_TEXT + 1),
            lambda payload: ErrorResponse(text=payload.rstrip(b"\0").decode("utf-8", "replace")),
        ),
        ResponseCode.ERROR_WITH_REASON: WholeLayout(
            (REASON.size,), lambda payload: ErrorResponse(*REASON.unpack(payload))
        ),
    },
    ResponseCode,
)
"""Every response."""
BY_NUMBER: Final[dict[int, WholeLayout | ListLayout]] = {int(code): layout for code, layout in LAYOUTS.items()}
"""The same, for a code as it came."""
