"""A client's bytes -> requests: the server's end of one connection.

Owns: where a frame begins and ends, the padded dialect, the lenient sizes of type 1 and of a first
602, what is refused unread.
Promises: takes any split of the bytes; holds at most one frame of `Limits.inline_content` plus what
one `receive_data` added, and reports how much that is; never raises, whatever the bytes are. Larger
contents pass through in parts.
Exposure: the first code that strangers' bytes meet.

The caller feeds bytes with `receive_data` and pulls events with `next_event` until it gives None.
It may stop pulling at any event (for example while a response is streamed): the rest stays
buffered. Sends are handed out as they are in the buffer: consecutive whole 603s of one requester
are one event (`PipelinedSends`), up to `Limits.run_messages` of them, and so are 642s.

    state     what the next byte is               leaves when
    ───────   ─────────────────────────────────   ────────────────────────────────────────────────────────
    FRAME     part of a header or a small frame   the frame is whole → event, FRAME (EXAMINE after the first)
    CONTENT   content of a large 603 or 642       all of it came → ContentEnd, FRAME (EXAMINE)
    SKIP      payload of a refused frame          all of it came → FRAME (EXAMINE)
    EXAMINE   behind the first request            zeros up to the 1024 boundary → Padded, IGNORE;
                                                  any other byte before → FRAME, with the zeros given back
    IGNORE    nothing that matters                never

Codes of other numberings and big-endian numbers are translated when a header is read
(`common.client_protocol.dialects`).

Source: docs/client-protocol.md, "Framing" and "The padded dialect".
"""

from collections.abc import Iterator
from enum import Enum, auto
from itertools import repeat
from typing import Final, NamedTuple

from msgspec import Struct

from common.client_protocol.dialects import LAST_OWN_CODE, big_endian_meaning_of, is_big_endian, meaning_of, swapped
from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import (
    FIXED,
    LAYOUTS,
    SEND_HEAD,
    SEND_ONCE_HEAD,
    SEND_ONCE_REQUEST,
    SEND_REQUEST,
    ContentLayout,
    LargeSendRequest,
    RegisterRequest,
    Request,
    RequestCode,
    SendRequest,
)
from common.client_protocol.versions import PADDED_BLOCK
from common.errors import ValueRejected
from common.storage_protocol.message_format import walk_frames, walk_frames_once
from common.tables import complete
from common.values import (
    CLIENT_ID_SIZE,
    KINDS_SENT_ONCE,
    MESSAGE_KINDS,
    ClientId,
    MessageKind,
    RefusalReason,
    Token,
)

HEADER_SIZE: Final = REQUEST_HEADER.size
_unpack_header = REQUEST_HEADER.unpack_from
_unpack_whole_send = SEND_REQUEST.unpack_from
_unpack_whole_send_once = SEND_ONCE_REQUEST.unpack_from
_unpack_send = SEND_HEAD.unpack_from
_unpack_send_once = SEND_ONCE_HEAD.unpack_from
_SEND: Final = int(RequestCode.SEND)
_SEND_ONCE: Final = int(RequestCode.SEND_ONCE)
_KEY_REQUEST: Final = int(MessageKind.KEY_REQUEST)
_LAST_KIND: Final = max(MESSAGE_KINDS)
_LAST_KIND_ONCE: Final = max(KINDS_SENT_ONCE)
_SEND_FRAME: Final = HEADER_SIZE + SEND_HEAD.size
_SEND_HEAD: Final = SEND_HEAD.size
_SEND_ONCE_FRAME: Final = HEADER_SIZE + SEND_ONCE_HEAD.size
_SEND_ONCE_HEAD: Final = SEND_ONCE_HEAD.size
_PUBLIC_KEY: Final = int(RequestCode.PUBLIC_KEY)
_PUBLIC_KEY_SIZE: Final = CLIENT_ID_SIZE
_ZERO_HEADER_REST: Final = bytes(HEADER_SIZE - CLIENT_ID_SIZE)
"""Where a header of 16 bytes of id would go on: code 0, which is never valid."""
_UNSIZED_KEY_REQUEST: Final = HEADER_SIZE + _PUBLIC_KEY_SIZE + len(_ZERO_HEADER_REST)
"""Bytes that show whether a first 602 that declares size 0 is followed by its id."""

complete(
    "ServerConnection.next_event, by name,",
    dict.fromkeys((RequestCode.SEND, RequestCode.SEND_ONCE)),
    [code for code, layout in LAYOUTS.items() if isinstance(layout, ContentLayout)],
)


class Limits(NamedTuple):
    """Bytes: the largest content that is accepted, and up to which size a content is handed over
    whole.

    `run_messages`, `run_bytes`: a run of sends ends at the message that reaches either, so that
    other connections get their turn.
    """

    largest_content: int
    inline_content: int = 64 * 1024
    run_messages: int = 64
    run_bytes: int = 64 * 1024


class Malformed(NamedTuple):
    """A frame that can't be a request. `fatal`: nothing after it will be read."""

    reason: RefusalReason
    fatal: bool


class PipelinedSends(Struct, frozen=True, gc=False):
    """603s, or (`once`) 642s, of one requester, all valid and whole, one behind the other.

    `frames` are their bytes as they came; `recipients`, one for each, is what their answers need.
    """

    requester: bytes
    recipients: list[bytes]
    frames: bytes
    once: bool = False

    @property
    def code(self) -> RequestCode:
        """Of each of them."""
        return RequestCode.SEND_ONCE if self.once else RequestCode.SEND

    def requests(self) -> Iterator[SendRequest]:
        """The requests one by one, for servers without the fast path."""
        if self.once:
            for sender, token, recipient, kind, content in walk_frames_once(self.frames):
                yield SendRequest(ClientId(sender), ClientId(recipient), kind, content, Token(token))
            return
        for sender, recipient, kind, content in walk_frames(self.frames):
            yield SendRequest(ClientId(sender), ClientId(recipient), kind, content)


class ContentData(NamedTuple):
    """The next bytes of the content that a `LargeSendRequest` announced."""

    data: bytes


class ContentEnd(NamedTuple):
    """The content of the `LargeSendRequest` is complete."""


class Padded(NamedTuple):
    """The client speaks the padded dialect: one request, and it reads until the server closes."""


class BigEndian(NamedTuple):
    """The client's numbers are big-endian, and it expects such answers. Comes before its
    first request.
    """


Event = Request | PipelinedSends | ContentData | ContentEnd | Malformed | Padded | BigEndian


class Phase(Enum):
    """What the connection waits for; time-outs depend on it."""

    BETWEEN = auto()
    """The next request, none of which has come (held zeros are none)."""
    HEADER = auto()
    """The rest of a header."""
    PAYLOAD = auto()
    """More of a payload."""


class _State(Enum):
    FRAME = auto()
    CONTENT = auto()
    SKIP = auto()
    EXAMINE = auto()
    IGNORE = auto()


_FRAME: Final = _State.FRAME
_TLS_HANDSHAKE: Final = b"\x16\x03"
"""What TLS of every version begins with: a record of a handshake."""


class ServerConnection:
    """The pure core of one client's connection."""

    __slots__ = (
        "_big_endian", "_data", "_first", "_frame_size", "_held", "_largest_inline", "_left", "_limits", "_need",
        "_pos", "_state", "_zeros", "began_as_tls", "greeted",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._largest_inline = min(limits.inline_content, limits.largest_content)
        self._data = b""
        self._pos = 0
        self._held: bytearray | None = None
        self._need = 0
        self._state = _State.FRAME
        self._left = 0
        self._frame_size = 0
        self._zeros = 0
        self._first = True
        self._big_endian = False
        self.greeted = False
        """Whether 640 was answered, which whoever answers says: names may be beyond ASCII then."""
        self.began_as_tls = False
        """Whether the first request was refused and begins as a handshake of TLS does."""

    def receive_data(self, data: bytes) -> None:
        """Take in what the socket gave. O(len(data)), amortised."""
        if self._state is _State.IGNORE:
            return
        if self._held is not None:
            held = self._held
            if len(held) + len(data) < self._need:
                held += data
                return
            data = b"".join((held, data))
            self._held = None
        elif self._pos < len(self._data):
            data = self._data[self._pos :] + data
        self._data = data
        self._pos = 0

    def receive_run(self, data: bytes) -> PipelinedSends | None:
        """As `receive_data`. If the data begins with a run, also returns it as the next event: the
        short path for most reads.

        `drained` says whether `next_event` has to be called.
        """
        if self._state is _FRAME and self._held is None and not self._data and not self._first:
            self._data = data
            return self._run(data, 0)
        self.receive_data(data)
        return None

    @property
    def drained(self) -> bool:
        """Whether every byte so far belongs to an event that was handed out, and the next one
        begins a frame.
        """
        return not self._data and self._held is None and self._state is _FRAME

    @property
    def phase(self) -> Phase:
        """What the connection waits for, once `next_event` has returned None."""
        if self._state is _State.CONTENT or self._state is _State.SKIP:
            return Phase.PAYLOAD
        if self._held is None:
            return Phase.BETWEEN
        return Phase.HEADER if len(self._held) < HEADER_SIZE else Phase.PAYLOAD

    @property
    def memory(self) -> int:
        """Bytes buffered for this connection, including the consumed part of a buffer."""
        return len(self._data) + (len(self._held) if self._held is not None else 0)

    def ignore(self) -> None:
        """Discard what was not handed out yet, and all further input."""
        self._state = _State.IGNORE
        self._data, self._pos, self._held, self._zeros = b"", 0, None, 0

    @property
    def undigested(self) -> int:
        """Bytes that do not belong to an event that was handed out."""
        return len(self._data) - self._pos + (len(self._held) if self._held is not None else 0) + self._zeros

    def begins_request(self, data: bytes) -> bool:
        """Whether `data`, as the next input, contains a byte of a request; padding, and what may be
        padding, does not count.
        """
        if self._state is _State.IGNORE or not data:
            return False
        if self._state is not _State.EXAMINE:
            return True
        possible_padding = data[: self._left]
        return possible_padding.count(0) != len(possible_padding)

    def next_event(self) -> Event | None:
        """The next request, or part of one, or refusal; None if more bytes are needed."""
        if self._state is not _FRAME:
            event = self._outside_frames()
            if event is not None or not self._at_frame():
                return event
        data = self._data
        pos = self._pos
        available = len(data) - pos
        if available >= _SEND_FRAME:
            run = self._run(data, pos)
            if run is not None:
                return run
        elif available < HEADER_SIZE:
            return self._wait(HEADER_SIZE)
        requester, _version, code, size = _unpack_header(data, pos)
        if code > LAST_OWN_CODE or self._big_endian:
            if self._first and not self._big_endian and is_big_endian(code):
                self._big_endian = True
                return BigEndian()
            code, size = self._turned(code, size)
        if code == _SEND:
            if available < _SEND_FRAME:
                return self._wait(_SEND_FRAME)
            recipient, kind, content_size = _unpack_send(data, pos + HEADER_SIZE)
            if self._big_endian:
                content_size = swapped(content_size)
            if kind == _KEY_REQUEST and content_size == 0:
                size = _SEND_HEAD
            return self._send(requester, recipient, kind, content_size, size, _SEND_HEAD, None)
        if code == _SEND_ONCE:
            if available < HEADER_SIZE + SEND_ONCE_HEAD.size:
                return self._wait(HEADER_SIZE + SEND_ONCE_HEAD.size)
            token, recipient, kind, content_size = _unpack_send_once(data, pos + HEADER_SIZE)
            return self._send(requester, recipient, kind, content_size, size, SEND_ONCE_HEAD.size, Token(token))
        if code == _PUBLIC_KEY and size == 0 and self._first:
            if available < _UNSIZED_KEY_REQUEST:
                return self._wait(_UNSIZED_KEY_REQUEST)
            if data.startswith(_ZERO_HEADER_REST, pos + HEADER_SIZE + _PUBLIC_KEY_SIZE):
                size = _PUBLIC_KEY_SIZE
        layout = FIXED.get(code)
        if layout is None or size not in layout.sizes:
            if size > self._limits.largest_content + SEND_HEAD.size:
                return self._refuse_for_good()
            return self._refuse_and_skip(size)
        frame_size = HEADER_SIZE + size
        if available < frame_size:
            return self._wait(frame_size)
        self._end_of_frame(frame_size)
        try:
            request = layout.decode(ClientId(requester), data[pos + HEADER_SIZE : pos + frame_size])
        except ValueRejected:
            return Malformed(RefusalReason.MALFORMED, fatal=False)
        if isinstance(request, RegisterRequest) and not (self.greeted or request.name.isascii()):
            return Malformed(RefusalReason.MALFORMED, fatal=False)
        return request

    def _run(self, data: bytes, start: int) -> PipelinedSends | None:
        """The 603s that are whole and valid from `start` on; None if there is none. The
        hot path.
        """
        if self._big_endian:
            return None
        pos = start
        end = len(data)
        last_head = min(end - _SEND_FRAME, start + self._limits.run_bytes)
        if self._first:
            # What is behind a connection's first request is examined before it is read as one.
            last_head = min(last_head, start)
        requester = data[start : start + CLIENT_ID_SIZE]
        largest = self._largest_inline
        recipients: list[bytes] = []
        for _ in repeat(None, self._limits.run_messages):
            if pos > last_head:
                break
            sender, _version, code, size, recipient, kind, content_size = _unpack_whole_send(data, pos)
            if code != _SEND or sender != requester:
                if code == _SEND_ONCE and pos == start:
                    return self._run_once(data, start)
                break
            if size - _SEND_HEAD == content_size <= largest and 0 < kind <= _LAST_KIND:
                after = pos + _SEND_FRAME + content_size
                if after > end:
                    break
            elif kind == _KEY_REQUEST and content_size == 0:
                after = pos + _SEND_FRAME
            else:
                break
            recipients.append(recipient)
            pos = after
        if pos == start:
            return None
        self._end_of_run(pos, end, pos - start)
        return PipelinedSends(requester, recipients, data[start:pos])

    def _run_once(self, data: bytes, start: int) -> PipelinedSends | None:
        """The same of 642s."""
        pos = start
        end = len(data)
        last_head = min(end - _SEND_ONCE_FRAME, start + self._limits.run_bytes)
        if self._first:
            last_head = min(last_head, start)
        requester = data[start : start + CLIENT_ID_SIZE]
        largest = self._largest_inline
        recipients: list[bytes] = []
        for _ in repeat(None, self._limits.run_messages):
            if pos > last_head:
                break
            sender, _version, code, size, _token, recipient, kind, content_size = _unpack_whole_send_once(data, pos)
            after = pos + _SEND_ONCE_FRAME + content_size
            if (
                code != _SEND_ONCE
                or sender != requester
                or not size - _SEND_ONCE_HEAD == content_size <= largest
                or not 0 < kind <= _LAST_KIND_ONCE
                or after > end
            ):
                break
            recipients.append(recipient)
            pos = after
        if pos == start:
            return None
        self._end_of_run(pos, end, pos - start)
        return PipelinedSends(requester, recipients, data[start:pos], once=True)

    def _end_of_run(self, pos: int, end: int, size: int) -> None:
        if pos == end:
            self._data = b""
            self._pos = 0
        else:
            self._pos = pos
        if self._first:
            self._leave_frame(size)

    def _turned(self, code: int, size: int) -> tuple[int, int]:
        """Translate a header's code and size if the client uses other numbers."""
        if self._big_endian:
            return big_endian_meaning_of(code), swapped(size)
        return meaning_of(code), size

    def _at_frame(self) -> bool:
        return self._state is _State.FRAME

    @property
    def suspicious(self) -> bool:
        """Whether a request has begun whose payload size is wrong unless one of the two lenient
        cases follows.

        Those are a type 1 of any size, and a first 602 of size 0. The first bytes of the payload
        decide; if they do not come, `event_on_silence` judges without them.
        """
        return self._judgeable() is not None

    def event_on_silence(self) -> Event | None:
        """Judge a suspicious frame as it is, because nothing more has come for a while, or the
        client has ended its side.
        """
        size = self._judgeable()
        if size is None or self._held is None:
            return None
        self._data, self._pos, self._held = bytes(self._held), 0, None
        if size > self._limits.largest_content:
            return self._refuse_for_good()
        return self._refuse_and_skip(size)

    def _judgeable(self) -> int | None:
        """The declared size of a held request that is wrong unless a lenient case
        follows, else None.
        """
        held = self._held
        if self._state is not _State.FRAME or held is None or len(held) < HEADER_SIZE:
            return None
        _requester, _version, code, size = _unpack_header(held)
        if code > LAST_OWN_CODE or self._big_endian:
            code, size = self._turned(code, size)
        if code == _PUBLIC_KEY and size == 0:
            return 0
        if code not in (_SEND, _SEND_ONCE):
            return None
        head = SEND_HEAD.size if code == _SEND else SEND_ONCE_HEAD.size
        too_short = size < head and len(held) >= HEADER_SIZE + size
        return size if too_short or size > self._limits.largest_content + head else None

    def _send(
        self,
        requester: bytes,
        recipient: bytes,
        kind: int,
        content_size: int,
        size: int,
        head: int,
        token: Token | None,
    ) -> Event | None:
        if size > self._limits.largest_content + head:
            return self._refuse_for_good()
        kinds = MESSAGE_KINDS if token is None else KINDS_SENT_ONCE
        if content_size != size - head or kind not in kinds:
            return self._refuse_and_skip(size)
        if content_size > self._limits.inline_content:
            self._pos += HEADER_SIZE + head
            self._left = content_size
            self._frame_size = HEADER_SIZE + size
            self._state = _State.CONTENT
            return LargeSendRequest(ClientId(requester), ClientId(recipient), kind, content_size, token)
        frame_size = HEADER_SIZE + size
        start = self._pos
        if len(self._data) - start < frame_size:
            return self._wait(frame_size)
        content = self._data[start + HEADER_SIZE + head : start + frame_size]
        self._end_of_frame(frame_size)
        return SendRequest(ClientId(requester), ClientId(recipient), kind, content, token)

    def _wait(self, need: int) -> Event | None:
        """Hold the incomplete frame until `need` bytes of it are there. Returns None, for
        `next_event` to return.
        """
        rest = self._data[self._pos :]
        self._data, self._pos = b"", 0
        if rest:
            self._held = bytearray(rest)
            self._need = need
        return None

    def _end_of_frame(self, frame_size: int) -> None:
        self._pos += frame_size
        if self._first:
            self._leave_frame(frame_size)

    def _leave_frame(self, frame_size: int) -> None:
        """The next byte begins a frame, or, behind the first frame, perhaps padding."""
        self._state = _State.FRAME
        if self._first:
            self._first = False
            self._left = -frame_size % PADDED_BLOCK
            if self._left:
                self._state = _State.EXAMINE

    def _refuse_for_good(self) -> Malformed:
        self._note_tls()
        self.ignore()
        return Malformed(RefusalReason.TOO_LARGE, fatal=True)

    def _note_tls(self) -> None:
        if self._first and self._data.startswith(_TLS_HANDSHAKE, self._pos):
            self.began_as_tls = True

    def _refuse_and_skip(self, size: int) -> Malformed:
        self._note_tls()
        self._pos += HEADER_SIZE
        self._left = size
        self._frame_size = HEADER_SIZE + size
        self._state = _State.SKIP
        return Malformed(RefusalReason.MALFORMED, fatal=False)

    def _outside_frames(self) -> Event | None:
        """An event of one of the other states. None with state FRAME means: continue with
        frames.
        """
        if self._state is _State.CONTENT:
            if not self._left:
                self._leave_frame(self._frame_size)
                return ContentEnd()
            data = self._take()
            return ContentData(data) if data else None
        if self._state is _State.SKIP:
            self._take()
            if self._left:
                return None
            self._leave_frame(self._frame_size)
        if self._state is _State.EXAMINE:
            return self._examine()
        return None

    def _take(self) -> bytes:
        """Take up to `_left` bytes."""
        data = self._data[self._pos : self._pos + self._left]
        self._pos += len(data)
        self._left -= len(data)
        if self._pos == len(self._data):
            self._data, self._pos = b"", 0
        return data

    def _examine(self) -> Event | None:
        chunk = self._take()
        if chunk.count(0) == len(chunk):
            self._zeros += len(chunk)
            if self._left:
                return None
            self._state = _State.IGNORE
            self._zeros = 0
            return Padded()
        self._data = bytes(self._zeros) + chunk + self._data[self._pos :]
        self._pos = 0
        self._zeros = 0
        self._state = _State.FRAME
        return None
