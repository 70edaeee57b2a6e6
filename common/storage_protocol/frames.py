"""Messages of the storage protocol <-> frames.

Owns: the layout of a frame: a header of 20 bytes (version u8, type u8, slot u16, epoch u64, number
u64, little- endian), then a MessagePack body.
Promises: one ZeroMQ frame is one message; encoding and decoding come in pairs; a body must be used
up exactly; a batch whose body can't be decoded still gives its number.
Exposure: the peer is the other program of this server; its frames are validated nevertheless.

Source: docs/storage-protocol.md, "Frames".
"""

from enum import IntEnum
from struct import Struct as Layout
from typing import Annotated, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from common.errors import FrameUndecodable
from common.storage_protocol.operations import U16, U63, Id, Operation, Outcome

VERSION: Final = 1
_HEADER: Final = Layout("<BBHQQ")
HEADER_SIZE: Final = _HEADER.size


Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final = get_args(Level)


class FrameType(IntEnum):
    """The second byte of a frame. Below 128: to the worker. Those of administration are read in
    `administration`.
    """

    HELLO = 1
    BATCH = 2
    ADMIN = 3
    WELCOME = 129
    REPLY = 130
    BATCH_REFUSED = 131
    SUPERSEDED = 132
    GREET_AGAIN = 133
    MAIL_ARRIVED = 134
    ADMIN_ANSWER = 135
    DRAIN = 136
    LOG_LEVEL = 137


class Hello(NamedTuple):
    """A gateway's first message: it takes the slot. `incarnation`: 16 bytes, new for each
    greeting.
    """

    slot: int
    incarnation: bytes


class Batch(NamedTuple):
    """Operations under one number; `number` counts 1, 2, 3 … within (slot, epoch)."""

    slot: int
    epoch: int
    number: int
    operations: list[Operation]


class UndecodableBatch(NamedTuple):
    """A batch whose header is whole and whose body is not; `problem` is for the log."""

    slot: int
    epoch: int
    number: int
    problem: str


class StoreFacts(Struct, array_like=True, frozen=True):
    """What the worker says about its store in a welcome.

    `server_id`: 16 bytes, for the life of the database. `generation`: grows when the database was
    recreated or restored. `committed`: the highest sequence. `shard` of `shards`: which part of the
    server it is.
    """

    server_id: Id
    generation: U63
    committed: U63
    shard: U16 = 0
    shards: U16 = 1


class Welcome(NamedTuple):
    """The slot is the gateway's, under `epoch`, which is committed. Echoes the greeting's
    `incarnation`.
    """

    slot: int
    epoch: int
    incarnation: bytes
    worker_incarnation: bytes
    facts: StoreFacts


class Reply(NamedTuple):
    """The outcomes of batch `number`, in the order of its operations; sent after the commit."""

    slot: int
    epoch: int
    number: int
    worker_incarnation: bytes
    outcomes: list[Outcome]


class BatchRefused(NamedTuple):
    """Batch `number` could not be decoded. Nothing of it was done; the number is used up."""

    slot: int
    epoch: int
    number: int


class Superseded(NamedTuple):
    """`epoch` is over: a later gateway has the slot. What was sent under it was not read."""

    slot: int
    epoch: int


class GreetAgain(NamedTuple):
    """The worker can't place (epoch, number): it knows no such epoch, or numbers are
    missing. Nothing was done.
    """

    slot: int
    epoch: int
    number: int


LOOK_ANYWAY: Final = 2**63 - 1
"""Above every sequence: whoever waits for mail asks again, whatever they have seen."""


class MailArrived(NamedTuple):
    """Advisory: mail up to `sequence` was committed for `recipients`, whom it subscribes to. With
    `LOOK_ANYWAY` as `sequence` they are users who may not fetch any more.
    """

    slot: int
    epoch: int
    sequence: int
    recipients: list[bytes]


class Drain(NamedTuple):
    """Take no more connections and requests, finish what is in flight, and end."""


class LogLevel(NamedTuple):
    """Log from this level on."""

    level: Level


class _WelcomeBody(Struct, array_like=True):
    incarnation: Id
    worker_incarnation: Id
    facts: StoreFacts


class _ReplyBody(Struct, array_like=True):
    worker_incarnation: Id
    outcomes: list[Outcome]


class _MailArrivedBody(Struct, array_like=True):
    sequence: U63
    recipients: list[Id]


_encoder = msgspec.msgpack.Encoder()
_hello_decoder = msgspec.msgpack.Decoder(Annotated[bytes, Meta(min_length=16, max_length=16)])
_level_decoder = msgspec.msgpack.Decoder(Level)
_batch_decoder = msgspec.msgpack.Decoder(list[Operation])
_welcome_decoder = msgspec.msgpack.Decoder(_WelcomeBody)
_reply_decoder = msgspec.msgpack.Decoder(_ReplyBody)
_arrived_decoder = msgspec.msgpack.Decoder(_MailArrivedBody)
_outcomes_decoder = msgspec.msgpack.Decoder(list[Outcome | None])

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises, whatever the bytes are. A text that is no UTF-8 is no `DecodeError`."""

ToWorker = Hello | Batch | UndecodableBatch
Order = Drain | LogLevel
"""What an operator has a worker pass on to its gateways."""
ToGateway = Welcome | Reply | BatchRefused | Superseded | GreetAgain | MailArrived | Order


def framed(kind: FrameType, slot: int, epoch: int, number: int, body: object = None) -> bytes:
    """A whole frame; without a body its header alone."""
    frame = bytearray(HEADER_SIZE)
    _HEADER.pack_into(frame, 0, VERSION, kind, slot, epoch, number)
    if body is not None:
        _encoder.encode_into(body, frame, HEADER_SIZE)
    return bytes(frame)


def encode_hello(hello: Hello) -> bytes:
    """Gateway to worker."""
    return framed(FrameType.HELLO, hello.slot, 0, 0, hello.incarnation)


def encode_batch(batch: Batch) -> bytes:
    """Gateway to worker."""
    return framed(FrameType.BATCH, batch.slot, batch.epoch, batch.number, batch.operations)


def decode_to_worker(frame: bytes) -> ToWorker:
    """Decode a gateway's frame. Raises `FrameUndecodable` if even the header is invalid."""
    kind, slot, epoch, number = read_header(frame)
    body = memoryview(frame)[HEADER_SIZE:]
    if kind == FrameType.BATCH:
        try:
            return Batch(slot, epoch, number, _batch_decoder.decode(body))
        except UNDECODABLE as error:
            return UndecodableBatch(slot, epoch, number, str(error))
    if kind == FrameType.HELLO:
        try:
            return Hello(slot, _hello_decoder.decode(body))
        except UNDECODABLE as error:
            raise FrameUndecodable(f"a greeting without an incarnation: {error}") from error
    raise FrameUndecodable(f"type {kind} is not for the storage worker")


def encode_to_gateway(message: ToGateway) -> bytes:
    """Worker to gateway."""
    match message:
        case Reply(slot, epoch, number, worker_incarnation, outcomes):
            return framed(FrameType.REPLY, slot, epoch, number, _ReplyBody(worker_incarnation, outcomes))
        case Welcome(slot, epoch, incarnation, worker_incarnation, facts):
            return framed(FrameType.WELCOME, slot, epoch, 0, _WelcomeBody(incarnation, worker_incarnation, facts))
        case BatchRefused(slot, epoch, number):
            return framed(FrameType.BATCH_REFUSED, slot, epoch, number)
        case Superseded(slot, epoch):
            return framed(FrameType.SUPERSEDED, slot, epoch, 0)
        case GreetAgain(slot, epoch, number):
            return framed(FrameType.GREET_AGAIN, slot, epoch, number)
        case MailArrived(slot, epoch, sequence, recipients):
            return framed(FrameType.MAIL_ARRIVED, slot, epoch, 0, _MailArrivedBody(sequence, recipients))
        case LogLevel(level):
            return framed(FrameType.LOG_LEVEL, 0, 0, 0, level)
        case Drain():
            return framed(FrameType.DRAIN, 0, 0, 0)


def decode_to_gateway(frame: bytes) -> ToGateway:
    """Decode the worker's frame. Raises `FrameUndecodable`."""
    kind, slot, epoch, number = read_header(frame)
    body = memoryview(frame)[HEADER_SIZE:]
    try:
        if kind == FrameType.REPLY:
            reply = _reply_decoder.decode(body)
            return Reply(slot, epoch, number, reply.worker_incarnation, reply.outcomes)
        if kind == FrameType.WELCOME:
            welcome = _welcome_decoder.decode(body)
            return Welcome(slot, epoch, welcome.incarnation, welcome.worker_incarnation, welcome.facts)
        if kind == FrameType.MAIL_ARRIVED:
            arrived = _arrived_decoder.decode(body)
            return MailArrived(slot, epoch, arrived.sequence, arrived.recipients)
        if kind == FrameType.LOG_LEVEL:
            return LogLevel(_level_decoder.decode(body))
    except UNDECODABLE as error:
        raise FrameUndecodable(f"body of type {kind}: {error}") from error
    if len(body):
        raise FrameUndecodable(f"{len(body)} bytes after a message of type {kind} without a body")
    if kind == FrameType.BATCH_REFUSED:
        return BatchRefused(slot, epoch, number)
    if kind == FrameType.SUPERSEDED:
        return Superseded(slot, epoch)
    if kind == FrameType.GREET_AGAIN:
        return GreetAgain(slot, epoch, number)
    if kind == FrameType.DRAIN:
        return Drain()
    raise FrameUndecodable(f"type {kind} is not for a gateway")


def encode_outcomes(outcomes: list[Outcome | None]) -> bytes:
    """The outcomes that are kept with a batch's number; None where the operation is
    computed again.
    """
    return _encoder.encode(outcomes)


def decode_outcomes(kept: bytes) -> list[Outcome | None]:
    """The pair of `encode_outcomes`. Raises `FrameUndecodable`."""
    try:
        return _outcomes_decoder.decode(kept)
    except UNDECODABLE as error:
        raise FrameUndecodable(f"kept outcomes: {error}") from error


def read_header(frame: bytes) -> tuple[int, int, int, int]:
    """Type, slot, epoch and number of a frame. Raises `FrameUndecodable`."""
    if len(frame) < HEADER_SIZE:
        raise FrameUndecodable(f"a frame of {len(frame)} bytes is shorter than its header")
    version, kind, slot, epoch, number = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise FrameUndecodable(f"storage protocol version {version}, this program speaks {VERSION}")
    return kind, slot, epoch, number
