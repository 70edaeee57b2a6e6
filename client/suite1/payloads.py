"""What a message says: a map in CBOR, by `cbor2`.

Owns: kinds and fields, the rule for unknown ones.
Promises: a payload that comes back was in deterministic encoding, with every field that its kind
needs, of its type and within its bounds.
Exposure: reads what an authenticated peer wrote; any bytes end in a value or in `PayloadMalformed`.

    0 kind      1 sent at      2 id       3 text      4 file name     5 media type
    6 size      7 digest       8 key      9 ids      10 reply to

Source: docs/suite-1.md, "Payloads".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple, NoReturn

from client.errors import ClientError
from client.suite1.values import MAX_PAYLOAD

ID_SIZE: Final = 16
MAX_NAME: Final = 255
"""Bytes of UTF-8, of a file's name and of a media type."""
MAX_IDS: Final = 256
MAX_VALUES: Final = 65_536
"""Of a payload, each key, value, array and map counted: what they take in memory is bounded."""
_MAX_DEPTH: Final = 8
_DIGEST: Final = 32
_KEY: Final = 32


class PayloadMalformed(ClientError):
    """A payload of this version breaks its rules."""


class PayloadTooLong(ClientError):
    """What is to be sent does not fit a payload; nothing was sealed."""


class Kind(IntEnum):
    """What a payload is. 4, and 7 to 15, are kept for receipts and other things about messages, 16
    to 31 for groups.
    """

    TEXT = 1
    FILE = 2
    NOT_OPENED = 3
    KEYS_WANTED = 5
    NEW_KEYS = 6


class Field(IntEnum):
    """The keys of the map."""

    KIND = 0
    SENT_AT = 1
    ID = 2
    TEXT = 3
    NAME = 4
    MEDIA_TYPE = 5
    SIZE = 6
    DIGEST = 7
    KEY = 8
    IDS = 9
    REPLY_TO = 10


class About(NamedTuple):
    """What every payload says of itself. `sent_at`: by the sender's clock, in Unix milliseconds.
    `reply_to`: the id of the message that it answers, or None.
    """

    id: bytes
    sent_at: int
    reply_to: bytes | None = None


class Text(NamedTuple):
    """A text."""

    about: About
    text: str


class File(NamedTuple):
    """A file; its content follows the envelope, under `key`. `name` is the sender's and not safe.
    `digest`: SHA-256 of the content.
    """

    about: About
    name: str
    media_type: str
    size: int
    digest: bytes
    key: bytes
    caption: str


class CouldNotOpen(NamedTuple):
    """The sender could not open these messages of ours: tokens under which they came."""

    about: About
    ids: tuple[bytes, ...]


class KeysWanted(NamedTuple):
    """The sender asks for a new session."""

    about: About


class NewKeys(NamedTuple):
    """The sender's answer to that, or of their own accord: the first message of a new session."""

    about: About


class Unknown(NamedTuple):
    """A payload of a later version. `text`: what its sender wants shown instead, or empty. `raw`:
    to be kept.
    """

    about: About
    kind: int
    text: str
    raw: bytes


Known = Text | File | CouldNotOpen | KeysWanted | NewKeys
Payload = Known | Unknown


def encoded(payload: Known) -> bytes:
    """Return a payload's bytes. Raises `PayloadTooLong`."""
    import cbor2  # noqa: PLC0415

    about = payload.about
    fields: dict[int, Any] = {Field.SENT_AT: about.sent_at, Field.ID: about.id}
    if about.reply_to is not None:
        fields[Field.REPLY_TO] = about.reply_to
    match payload:
        case Text(_, text):
            fields |= {Field.KIND: Kind.TEXT, Field.TEXT: text}
        case File(_, name, media_type, size, digest, key, caption):
            fields |= {
                Field.KIND: Kind.FILE, Field.NAME: name, Field.MEDIA_TYPE: media_type, Field.SIZE: size,
                Field.DIGEST: digest, Field.KEY: key,
            }  # fmt: skip
            if caption:
                fields[Field.TEXT] = caption
        case CouldNotOpen(_, ids):
            fields |= {Field.KIND: Kind.NOT_OPENED, Field.IDS: list(ids)}
        case KeysWanted():
            fields[Field.KIND] = Kind.KEYS_WANTED
        case NewKeys():
            fields[Field.KIND] = Kind.NEW_KEYS
    raw = cbor2.dumps({int(key): int(value) if isinstance(value, int) else value for key, value in fields.items()},
                      canonical=True)  # fmt: skip
    if len(raw) > MAX_PAYLOAD:
        raise PayloadTooLong("It is too long for one message.", f"{MAX_PAYLOAD // 2**20} MiB fit; send it as a file.")
    assert decoded(raw) == payload
    return raw


def decoded(raw: bytes) -> Payload:
    """Read a payload. Raises `PayloadMalformed`."""
    fields = _fields(raw)
    about = About(
        _bytes(fields, Field.ID, ID_SIZE), _number(fields, Field.SENT_AT),
        _bytes(fields, Field.REPLY_TO, ID_SIZE) if Field.REPLY_TO in fields else None,
    )  # fmt: skip
    kind = _number(fields, Field.KIND)
    # A key below zero changes the meaning: who does not know it does not know the message.
    is_known = not any(isinstance(key, int) and key < 0 for key in fields)
    text = _text(fields, Field.TEXT, MAX_PAYLOAD) if Field.TEXT in fields else ""
    if is_known and kind == Kind.TEXT:
        if Field.TEXT not in fields:
            raise _malformed("a text without its text")
        return Text(about, text)
    if is_known and kind == Kind.FILE:
        return File(
            about, _text(fields, Field.NAME, MAX_NAME), _text(fields, Field.MEDIA_TYPE, MAX_NAME),
            _number(fields, Field.SIZE), _bytes(fields, Field.DIGEST, _DIGEST), _bytes(fields, Field.KEY, _KEY), text,
        )  # fmt: skip
    if is_known and kind == Kind.NOT_OPENED:
        return CouldNotOpen(about, _ids(fields.get(Field.IDS)))
    if is_known and kind == Kind.KEYS_WANTED:
        return KeysWanted(about)
    if is_known and kind == Kind.NEW_KEYS:
        return NewKeys(about)
    return Unknown(about, kind, text, raw)


def _fields(raw: bytes) -> dict[Any, Any]:
    import cbor2  # noqa: PLC0415

    if len(raw) > MAX_PAYLOAD or not _is_small(raw):
        raise _malformed("it is too long, or has too many values")
    try:
        found = cbor2.loads(
            raw, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False, semantic_decoders=_NO_TAGS
        )
        is_deterministic = isinstance(found, dict) and _is_plain(found) and cbor2.dumps(found, canonical=True) == raw
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise PayloadMalformed("the payload is no CBOR of this suite") from error
    if not is_deterministic:
        raise _malformed("the payload is no map in deterministic encoding")
    assert isinstance(found, dict)
    return found


def _is_small(raw: bytes) -> bool:
    """Whether bytes of CBOR have a bounded number of values, before anything is made of them."""
    at = count = 0
    while at < len(raw):
        major, short = raw[at] >> 5, raw[at] & 31
        count += 1
        if count > MAX_VALUES or short > _LONGEST_HEAD:
            return False
        head = 1 if short < _FIRST_LONG_HEAD else 1 + (1 << short - _FIRST_LONG_HEAD)
        if major in {2, 3}:
            # Of byte strings and texts the head has the length.
            at += short if head == 1 else int.from_bytes(raw[at + 1 : at + head], "big")
        at += head
    return True


_FIRST_LONG_HEAD: Final = 24
_LONGEST_HEAD: Final = 27
"""The short count of a head: up to 23 it is the number, from 24 to 27 one to eight bytes have it.
"""


def _refuse_tag(*_: object) -> NoReturn:
    import cbor2  # noqa: PLC0415

    raise cbor2.CBORDecodeError("a tag")


# Those that the library decodes by itself. Of all others it makes a CBORTag, which is not plain.
_NO_TAGS: Final = dict.fromkeys((*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag)


def _is_plain(value: object) -> bool:
    """Whether a value is of the types that this suite allows: no floats, tags, or simple values but
    false, true and null.
    """
    match value:
        case None | bool() | int() | bytes() | str():
            return True
        case list():
            return all(map(_is_plain, value))
        case dict():
            return all(isinstance(key, int | str) and not isinstance(key, bool) for key in value) and all(
                map(_is_plain, value.values())
            )
    return False


def _number(fields: dict[Any, Any], field: Field) -> int:
    match fields.get(field):
        case bool():
            pass
        case int(number) if 0 <= number < 2**63:
            return number
    raise _malformed(f"field {field} is no number")


def _bytes(fields: dict[Any, Any], field: Field, size: int) -> bytes:
    match fields.get(field):
        case bytes(value) if len(value) == size:
            return value
    raise _malformed(f"field {field} is not {size} bytes")


def _text(fields: dict[Any, Any], field: Field, longest: int) -> str:
    match fields.get(field):
        case str(value) if len(value.encode("utf-8")) <= longest:
            return value
    raise _malformed(f"field {field} is no text of up to {longest} bytes")


def _ids(found: object) -> tuple[bytes, ...]:
    if isinstance(found, list) and len(found) <= MAX_IDS:
        ids = tuple(each for each in found if isinstance(each, bytes) and len(each) == ID_SIZE)
        if len(ids) == len(found):
            return ids
    raise _malformed(f"field {Field.IDS} is no list of ids")


def _malformed(why: str) -> PayloadMalformed:
    return PayloadMalformed(f"the payload is malformed: {why}")
