"""One message as the store keeps it and as it is handed out, and a frame of a run as it comes in:
pure layouts.

Owns: the layout of an entry (head and content), and of the frames of `StoreMessages` and
`StoreMessagesOnce`.
Promises: packing and walking are inverses; a walk ends exactly at the end, or raises.
Exposure: contents are opaque; heads are made by the storage worker alone.

The layouts are those of the client protocol (2143's entries, 603's and 642's frames) on purpose:
messages pass through both programs by the thousand, and what need not be converted costs nothing.
See docs/decisions/.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from common.errors import FrameUndecodable

ENTRY_HEAD: Final = Struct("<16s16sQQBBI")
"""sender, token, sequence, accepted at (Unix ms), flags, kind, content size"""
FLAG_AUTHENTICATED: Final = 1
"""In an entry's flags: the sender's connection was authenticated."""
SEND_FRAME: Final = Struct("<16s7x16sBI")
"""sender, recipient, kind, content size"""
SEND_ONCE_FRAME: Final = Struct("<16s7x16s16sBI")
"""sender, token, recipient, kind, content size"""

_unpack_head = ENTRY_HEAD.unpack_from


class Entry(NamedTuple):
    """A message. `accepted_at` in Unix milliseconds."""

    sender: bytes
    token: bytes
    sequence: int
    accepted_at: int
    flags: int
    kind: int
    size: int
    content: bytes


def pack_entry(entry: Entry) -> bytes:
    """The bytes of an entry whose content is whole."""
    return ENTRY_HEAD.pack(*entry[:7]) + entry.content


def walk(entries: bytes) -> Iterator[Entry]:
    """The entries that lie one behind the other. Raises `FrameUndecodable` where the last
    one is cut off.
    """
    for head in heads(entries):
        content = entries[head.end - head.size : head.end]
        sender, token, sequence, accepted_at, flags, kind, size = _unpack_head(entries, head.start)
        yield Entry(sender, token, sequence, accepted_at, flags, kind, size, content)


class Head(NamedTuple):
    """Where a message lies among entries: its bytes are `start` to `end`, its content
    takes the last `size` of them.
    """

    sequence: int
    size: int
    start: int
    end: int


def heads(entries: bytes) -> list[Head]:
    """Where the messages of entries lie. The entries are whole, or it raises `FrameUndecodable`."""
    found: list[Head] = []
    at, end = 0, len(entries)
    while at < end:
        if end - at < ENTRY_HEAD.size:
            raise FrameUndecodable("an entry's head is cut off")
        _sender, _token, sequence, _accepted_at, _flags, _kind, size = _unpack_head(entries, at)
        start = at
        at += ENTRY_HEAD.size + size
        if at > end:
            raise FrameUndecodable("an entry's content is cut off")
        found.append(Head(sequence, size, start, at))
    return found


class Frame(NamedTuple):
    """A message of a run."""

    sender: bytes
    recipient: bytes
    kind: int
    content: bytes


def walk_frames(frames: bytes) -> Iterator[Frame]:
    """The frames of a run. Raises `FrameUndecodable` where the last one is cut off."""
    at, end = 0, len(frames)
    while at < end:
        if end - at < SEND_FRAME.size:
            raise FrameUndecodable("a frame's head is cut off")
        sender, recipient, kind, size = SEND_FRAME.unpack_from(frames, at)
        start = at + SEND_FRAME.size
        at = start + size
        if at > end:
            raise FrameUndecodable("a frame's content is cut off")
        yield Frame(sender, recipient, kind, frames[start:at])


class FrameOnce(NamedTuple):
    """A message of a run with tokens."""

    sender: bytes
    token: bytes
    recipient: bytes
    kind: int
    content: bytes


def walk_frames_once(frames: bytes) -> Iterator[FrameOnce]:
    """The frames of a run with tokens. Raises `FrameUndecodable` where the last one is cut off."""
    at, end = 0, len(frames)
    while at < end:
        if end - at < SEND_ONCE_FRAME.size:
            raise FrameUndecodable("a frame's head is cut off")
        sender, token, recipient, kind, size = SEND_ONCE_FRAME.unpack_from(frames, at)
        start = at + SEND_ONCE_FRAME.size
        at = start + size
        if at > end:
            raise FrameUndecodable("a frame's content is cut off")
        yield FrameOnce(sender, token, recipient, kind, frames[start:at])


def first_frames(frames: bytes, count: int, layout: Struct = SEND_FRAME) -> int:
    """How many bytes the first `count` frames of a run take; all of them where it has no more.
    `layout`: of their heads, which end with the size.
    """
    at, end = 0, len(frames)
    while count and at < end:
        at += layout.size + layout.unpack_from(frames, at)[-1]
        count -= 1
    return at


def pack_frame(sender: bytes, recipient: bytes, kind: int, content: bytes) -> bytes:
    """The pair of `walk_frames`, for tests and tools."""
    return SEND_FRAME.pack(sender, recipient, kind, len(content)) + content


def pack_frame_once(sender: bytes, token: bytes, recipient: bytes, kind: int, content: bytes) -> bytes:
    """The pair of `walk_frames_once`, for tests and tools."""
    return SEND_ONCE_FRAME.pack(sender, token, recipient, kind, len(content)) + content
