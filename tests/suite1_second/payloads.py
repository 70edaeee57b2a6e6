"""Payloads: maps of CBOR to checked values, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.suite1_second import cbor
from tests.suite1_second.primitives import Refused

LARGEST = 16 << 20
VALUES = 65_536

KIND, SENT_AT, ID, TEXT, FILE_NAME, MEDIA_TYPE, SIZE, DIGEST, KEY, IDS, REPLY_TO = range(11)


def count(value: cbor.Value) -> int:
    """How many values there are, keys and containers among them."""
    match value:
        case dict():
            return 1 + sum(1 + count(each) for each in value.values())
        case list():
            return 1 + sum(map(count, value))
    return 1


def is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_bytes(size: int, value: object) -> bool:
    return isinstance(value, bytes) and len(value) == size


def is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value.encode()) <= 255


def fits(key: int, value: object) -> bool:
    """Whether a value is what the text has for that key."""
    match key:
        case 0 | 1 | 6:
            return is_number(value)
        case 2 | 10:
            return is_bytes(16, value)
        case 3:
            return isinstance(value, str)
        case 4 | 5:
            return is_short_text(value)
        case 7 | 8:
            return is_bytes(32, value)
        case 9:
            return isinstance(value, list) and len(value) <= 256 and all(is_bytes(16, each) for each in value)
    raise AssertionError(key)


@dataclass(frozen=True)
class Form:
    """What a kind needs, and what it may have."""

    name: str
    needs: frozenset[int]
    may_have: frozenset[int] = frozenset()


FORMS = {
    1: Form("text", frozenset({3}), frozenset({10})),
    2: Form("file", frozenset({4, 5, 6, 7, 8}), frozenset({3, 10})),
    3: Form("could not open", frozenset({9})),
}
ALWAYS = frozenset({KIND, SENT_AT, ID})
EVERYWHERE = ALWAYS | {TEXT, REPLY_TO}
"""Keys whose values are looked at in every payload that has them."""


@dataclass(frozen=True)
class Payload:
    """A payload; `form` is the kind's name, or "unknown" with the text that it has."""

    form: str
    fields: dict[int, cbor.Value] = field(default_factory=dict)


def decode(data: bytes) -> Payload:
    """A checked payload; raises Refused("malformed")."""
    if len(data) > LARGEST:
        raise Refused("malformed")
    try:
        value = cbor.decode(data)
    except cbor.NotCbor as error:
        raise Refused("malformed") from error
    if count(value) > VALUES:
        raise Refused("malformed")
    if not isinstance(value, dict) or not value.keys() >= ALWAYS or not all(fits(key, value[key]) for key in ALWAYS):
        raise Refused("malformed")
    kind = value[KIND]
    assert isinstance(kind, int)
    form = FORMS.get(kind)
    if form is None or any(isinstance(key, int) and key < 0 for key in value):
        form = Form("unknown", frozenset(), frozenset({TEXT}))
    wanted = EVERYWHERE | form.needs | form.may_have
    fields = {key: each for key, each in value.items() if isinstance(key, int) and key in wanted}
    if not fields.keys() >= form.needs or not all(fits(key, each) for key, each in fields.items()):
        raise Refused("malformed")
    return Payload(form.name, fields)


def encode(kind: int, sent_at: int, token: bytes, **more: cbor.Value) -> bytes:
    """A payload; further fields by the names of their keys."""
    names = ("text", "file_name", "media_type", "size", "digest", "key", "ids", "reply_to")
    fields: dict[int, cbor.Value] = {KIND: kind, SENT_AT: sent_at, ID: token}
    fields |= {3 + names.index(name): value for name, value in more.items()}
    return cbor.encode(fields)
