"""Frames of the storage protocol: every message there and back, and nothing else accepted."""

import string
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FrameUndecodable
from common.storage_protocol import frames
from common.storage_protocol import operations as ops
from common.storage_protocol.frames import (
    HEADER_SIZE,
    LEVELS,
    Batch,
    BatchRefused,
    Drain,
    FrameType,
    GreetAgain,
    Hello,
    LogLevel,
    MailArrived,
    Reply,
    StoreFacts,
    Superseded,
    ToGateway,
    ToWorker,
    UndecodableBatch,
    Welcome,
    decode_outcomes,
    decode_to_gateway,
    decode_to_worker,
    encode_batch,
    encode_hello,
    encode_outcomes,
    encode_to_gateway,
)
from common.storage_protocol.message_format import ENTRY_HEAD

ids = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=160, max_size=160)
u8 = st.integers(0, 255)
u16 = st.integers(0, 65535)
u32 = st.integers(0, 2**32 - 1)
u63 = st.integers(0, 2**63 - 1)
names = st.text(string.printable, min_size=1, max_size=254)
flags = st.booleans()
blobs = st.binary(max_size=100)

FIELDS: dict[object, st.SearchStrategy[object]] = {
    ops.Id: ids,
    ops.Id | None: st.none() | ids,
    ops.Key: keys,
    ops.Name: names,
    ops.Bundle: st.binary(min_size=1, max_size=100),
    ops.OneTimeKeys: blobs,
    ops.OneTimeKey: st.binary(max_size=96),
    ops.U8: u8,
    ops.U16: u16,
    ops.U32: u32,
    ops.U63: u63,
    bool: flags,
    bytes: blobs,
}


def values(kind: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Any value of an operation or outcome."""
    fields: dict[str, st.SearchStrategy[object]] = {}
    for name, annotation in kind.__annotations__.items():
        if annotation == list[ops.UserEntry]:
            fields[name] = st.lists(values(ops.UserEntry), max_size=3)
        elif annotation == list[ops.RefusedFrame]:
            fields[name] = st.lists(values(ops.RefusedFrame), max_size=3)
        elif annotation == list[ops.RepeatedFrame]:
            fields[name] = st.lists(values(ops.RepeatedFrame), max_size=3)
        elif annotation is ops.Mail:
            fields[name] = values(ops.Mail)
        elif annotation == ops.Part | None:
            fields[name] = st.none() | values(ops.Part)
        elif name == "head":
            fields[name] = st.binary(min_size=ENTRY_HEAD.size, max_size=ENTRY_HEAD.size)
        else:
            fields[name] = FIELDS[annotation]
    return st.builds(kind, **fields)


operations = st.one_of([values(kind) for kind in ops.Operation.__args__])
outcomes = st.one_of([values(kind) for kind in ops.Outcome.__args__])

slots = st.integers(0, 2**16 - 1)
u64 = st.integers(0, 2**64 - 1)
facts = st.builds(StoreFacts, ids, u63, u63)

to_worker = st.one_of(
    st.builds(Hello, slots, ids),
    st.builds(Batch, slots, u64, u64, st.lists(operations, max_size=5)),
)
to_gateway: st.SearchStrategy[ToGateway] = st.one_of(
    st.builds(Welcome, slots, u64, ids, ids, facts),
    st.builds(Reply, slots, u64, u64, ids, st.lists(outcomes, max_size=5)),
    st.builds(BatchRefused, slots, u64, u64),
    st.builds(Superseded, slots, u64),
    st.builds(GreetAgain, slots, u64, u64),
    st.builds(MailArrived, slots, u64, u63, st.lists(ids, max_size=3)),
    st.builds(LogLevel, st.sampled_from(LEVELS)),
    st.just(Drain()),
)


def encode_to_worker(message: ToWorker) -> bytes:
    if isinstance(message, Hello):
        return encode_hello(message)
    assert isinstance(message, Batch)
    return encode_batch(message)


@given(to_worker)
def test_to_the_worker_and_back(message: ToWorker) -> None:
    assert decode_to_worker(encode_to_worker(message)) == message


@given(to_gateway)
def test_to_the_gateway_and_back(message: ToGateway) -> None:
    assert decode_to_gateway(encode_to_gateway(message)) == message


@given(st.lists(st.none() | outcomes, max_size=5))
def test_kept_outcomes_and_back(kept: list[ops.Outcome | None]) -> None:
    assert decode_outcomes(encode_outcomes(kept)) == kept


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(frame: bytes) -> None:
    for decode in (decode_to_worker, decode_to_gateway, decode_outcomes):
        try:
            decode(frame)
        except FrameUndecodable:
            pass


@given(st.sampled_from(list(FrameType)), st.binary(max_size=100))
def test_random_bodies_raise_nothing_else(kind: FrameType, body: bytes) -> None:
    frame = frames.framed(kind, 1, 2, 3) + body
    for decode in (decode_to_worker, decode_to_gateway):
        try:
            decode(frame)
        except FrameUndecodable:
            pass


@given(to_worker, st.data())
def test_a_frame_cut_anywhere_is_not_decoded(message: ToWorker, data: st.DataObject) -> None:
    frame = encode_to_worker(message)
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    if isinstance(message, Batch) and len(cut) >= HEADER_SIZE:
        undecodable = decode_to_worker(cut)
        assert isinstance(undecodable, UndecodableBatch)
        assert undecodable[:3] == message[:3]
    else:
        with pytest.raises(FrameUndecodable):
            decode_to_worker(cut)


@given(to_gateway, st.data())
def test_an_answer_cut_anywhere_is_not_decoded(message: ToGateway, data: st.DataObject) -> None:
    frame = encode_to_gateway(message)
    with pytest.raises(FrameUndecodable):
        decode_to_gateway(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(to_worker)
def test_trailing_bytes_to_the_worker(message: ToWorker) -> None:
    frame = encode_to_worker(message) + b"\xc0"
    if isinstance(message, Batch):
        assert isinstance(decode_to_worker(frame), UndecodableBatch)
    else:
        with pytest.raises(FrameUndecodable):
            decode_to_worker(frame)


@given(to_gateway)
def test_trailing_bytes_to_the_gateway(message: ToGateway) -> None:
    with pytest.raises(FrameUndecodable):
        decode_to_gateway(encode_to_gateway(message) + b"\xc0")


def test_header() -> None:
    frame = encode_batch(Batch(0x0102, 0x030405060708090A, 0x0B0C0D0E0F101112, []))
    assert frame == bytes.fromhex("01 02 0201 0a09080706050403 1211100f0e0d0c0b 90")


def test_bodies_as_the_text_has_them() -> None:
    frame = encode_batch(Batch(0, 1, 1, [ops.Release(7), ops.AbortUpload(300)]))
    assert frame[HEADER_SIZE:] == bytes.fromhex("92 920c07 9208cd012c")
    frame = encode_to_gateway(Reply(0, 1, 1, bytes(16), [ops.Stored(1), ops.Done(), ops.Refused(6, 30)]))
    assert frame[HEADER_SIZE:] == bytes.fromhex("92 c410" + "00" * 16 + "93 920401 9105 9309061e")


@pytest.mark.parametrize(
    "operation",
    [
        ops.Register("", bytes(160)),
        ops.Register("x" * 255, bytes(160)),
        ops.Register("alice", bytes(159)),
        ops.GetProofKey(bytes(15)),
        ops.GetProofKey(bytes(17)),
        ops.StoreMessage(bytes(16), False, bytes(16), 256, b""),
        ops.StoreMessage(bytes(16), False, bytes(16), 3, b"", bytes(15)),
        ops.Release(-1),
        ops.Release(2**63),
        ops.StoreMessage(bytes(16), 1, bytes(16), 3, b""),  # type: ignore[arg-type]
    ],
)
def test_sizes_and_types_are_checked(operation: ops.Operation) -> None:
    frame = encode_batch(Batch(3, 4, 5, [operation]))
    assert isinstance(decode_to_worker(frame), UndecodableBatch)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version(version: int) -> None:
    frame = bytes([version]) + encode_hello(Hello(0, bytes(16)))[1:]
    for decode in (decode_to_worker, decode_to_gateway):
        with pytest.raises(FrameUndecodable, match=f"version {version}"):
            decode(frame)


@given(st.sampled_from([1, 2, 129, 130, 131, 132, 133, 134, 77]), st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_undecodable(kind: int, body: bytes) -> None:
    frame = bytes([1, kind]) + bytes(18) + body
    for decode in (decode_to_worker, decode_to_gateway):
        with suppress(FrameUndecodable):
            decode(frame)
    with suppress(FrameUndecodable):
        decode_outcomes(body)


@given(to_worker, st.data())
def test_whatever_is_changed_on_the_way_to_the_worker(message: ToWorker, data: st.DataObject) -> None:
    frame = bytearray(encode_to_worker(message))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(2, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FrameUndecodable):
        decode_to_worker(bytes(frame))


def test_a_text_that_is_no_utf8() -> None:
    frame = encode_batch(Batch(0, 1, 1, [ops.Register("abc", bytes(160))]))
    assert isinstance(decode_to_worker(frame.replace(b"abc", b"a\xffc")), UndecodableBatch)
    # As deep as it may be.
    deep = encode_batch(Batch(0, 1, 1, []))[:HEADER_SIZE] + b"\x91" * 100_000
    assert isinstance(decode_to_worker(deep), UndecodableBatch)


def test_each_direction_has_its_own_types() -> None:
    with pytest.raises(FrameUndecodable, match="not for the storage worker"):
        decode_to_worker(encode_to_gateway(GreetAgain(0, 1, 1)))
    with pytest.raises(FrameUndecodable, match="not for a gateway"):
        decode_to_gateway(encode_batch(Batch(0, 1, 1, []))[:HEADER_SIZE])


def test_reads_are_what_is_computed_again() -> None:
    kept = set(ops.Operation.__args__) - set(ops.READ_AGAIN)
    assert {kind.__name__ for kind in kept} == {
        "Register", "StoreMessage", "StoreMessages", "StoreMessagesOnce", "BeginUpload", "Chunk", "CommitUpload",
        "AbortUpload", "Settle",
        "Release", "MarkAuthenticated", "DeleteAccount", "SetBlock", "PublishKeys",
        "ClaimKey", "Forget",
    }  # fmt: skip
