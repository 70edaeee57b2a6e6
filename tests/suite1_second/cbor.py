"""CBOR in core deterministic encoding (RFC 8949, 4.2.1), as far as payloads need it."""

from __future__ import annotations

from collections.abc import Mapping

Value = int | bytes | str | bool | list["Value"] | dict[int | str, "Value"] | None

LEVELS = 8


class NotCbor(Exception):
    """Not in that encoding, or with something that payloads do not have."""


def head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * size:
            return bytes([major << 5 | code]) + value.to_bytes(size, "big")
    raise NotCbor


def encode(value: object) -> bytes:
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            text = value.encode()
            return head(3, len(text)) + text
        case list():
            return head(4, len(value)) + b"".join(map(encode, value))
        case Mapping():
            pairs = sorted((encode(key), encode(each)) for key, each in value.items())
            return head(5, len(pairs)) + b"".join(key + each for key, each in pairs)
    raise NotCbor


class Decoder:
    """Reads one value, and refuses every other encoding of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise NotCbor
        self.at += size
        return self.data[self.at - size : self.at]

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, code = first >> 5, first & 31
        if code < 24:
            return major, code
        if code > 27 or major == 7:
            raise NotCbor
        value = int.from_bytes(self.take(1 << (code - 24)), "big")
        if len(head(major, value)) != 1 + (1 << (code - 24)):
            raise NotCbor
        return major, value

    def value(self, level: int = 1) -> Value:
        major, count = self.head()
        if major in {4, 5} and level > LEVELS:
            raise NotCbor
        match major:
            case 0 | 1:
                return count if major == 0 else -1 - count
            case 2:
                return self.take(count)
            case 3:
                try:
                    return self.take(count).decode()
                except UnicodeDecodeError as error:
                    raise NotCbor from error
            case 4:
                return [self.value(level + 1) for _ in range(count)]
            case 5:
                return self.map(count, level)
            case 7 if count in {20, 21, 22}:
                return {20: False, 21: True, 22: None}[count]
        raise NotCbor

    def map(self, count: int, level: int) -> dict[int | str, Value]:
        found: dict[int | str, Value] = {}
        before = b""
        for _ in range(count):
            start = self.at
            key = self.value(level + 1)
            encoded = self.data[start : self.at]
            if isinstance(key, bool) or not isinstance(key, int | str) or encoded <= before:
                raise NotCbor
            before = encoded
            found[key] = self.value(level + 1)
        return found


def decode(data: bytes) -> Value:
    decoder = Decoder(data)
    value = decoder.value()
    if decoder.at != len(data):
        raise NotCbor
    return value
