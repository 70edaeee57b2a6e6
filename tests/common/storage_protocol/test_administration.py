"""Frames of administration: there and back, and nothing else accepted."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FrameUndecodable
from common.storage_protocol.administration import (
    Account,
    Accounts,
    AdminAnswer,
    AdminRequest,
    Backup,
    BeginBackup,
    DrainServer,
    Expire,
    Expiry,
    GetBackup,
    GetExpiry,
    GetTotals,
    ListAccounts,
    NotDone,
    Obeyed,
    SetDisabled,
    SetLogLevel,
    Totals,
    UsersChanged,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    is_admin,
    is_admin_answer,
    number_of,
)
from common.storage_protocol.frames import Hello, decode_to_gateway, decode_to_worker, encode_hello

REQUESTS: list[AdminRequest] = [
    ListAccounts(),
    ListAccounts(2**63 - 1),
    GetTotals(),
    BeginBackup("/backups/today"),
    GetBackup(),
    SetLogLevel("debug"),
    DrainServer(),
    Expire(21),
    GetExpiry(),
    SetDisabled("alice", True),
    UsersChanged(),
]
ANSWERS: list[AdminAnswer] = [
    Accounts(
        7, [Account(7, bytes(16), "alice", True, 3, 2**40), Account(8, bytes(16), "b", False, 0, 0, 5, None, True)]
    ),
    Accounts(0, []),
    Totals(1, 2, 3, 4, 5, 6, 7, 8, True, 9, 10, 11),
    NotDone("it can't be done"),
    Backup(False, "/backups/today", "", 5, 6, 7, 8, 9),
    Obeyed(),
    Expiry(True, 3, 2**40),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_there(request_: AdminRequest) -> None:
    frame = encode_request(2**64 - 1, request_)
    assert is_admin(frame)
    assert not is_admin_answer(frame)
    assert (number_of(frame), decode_request(frame)) == (2**64 - 1, request_)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_back(answer: AdminAnswer) -> None:
    frame = encode_answer(5, answer)
    assert is_admin_answer(frame)
    assert not is_admin(frame)
    assert (number_of(frame), decode_answer(frame)) == (5, answer)


def test_neither_is_a_message_of_a_gateway() -> None:
    assert not is_admin(encode_hello(Hello(0, bytes(16))))
    with pytest.raises(FrameUndecodable, match="type 3"):
        decode_to_worker(encode_request(1, GetTotals()))
    with pytest.raises(FrameUndecodable, match="type 135"):
        decode_to_gateway(encode_answer(1, ANSWERS[-1]))
    for decode, frame in (
        (decode_request, encode_answer(1, ANSWERS[0])),
        (decode_answer, encode_request(1, GetTotals())),
    ):
        for wrong in (frame, b"", frame[:19]):
            with pytest.raises(FrameUndecodable):
                decode(wrong)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    head = encode_request(1, GetTotals())[:20]
    for frame in (data, head + data, b"\x01\x87" + head[2:] + data):
        for decode in (decode_request, decode_answer):
            with suppress(FrameUndecodable):
                decode(frame)
        is_admin(frame)


def test_a_body_is_used_up() -> None:
    with pytest.raises(FrameUndecodable):
        decode_request(encode_request(1, GetTotals()) + b"\xc0")
    with pytest.raises(FrameUndecodable):
        decode_request(encode_request(1, GetTotals())[:-1])
