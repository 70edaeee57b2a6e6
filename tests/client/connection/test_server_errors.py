from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.connection.server_errors import quoted, refused
from client.errors import ServerAnsweredError
from common.client_protocol import responses
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ErrorResponse, ResponseCode
from common.values import RefusalReason
from tests.client.fake_gateway import Answer, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger


@pytest.mark.parametrize("code", [600, 601, 602, 603, 604])
def test_9000_gets_the_likely_reason_and_a_next_step(code: int) -> None:
    error = refused(RequestCode(code), ErrorResponse())
    assert "likely" in str(error)
    assert error.advice
    assert error.reason is None


@pytest.mark.parametrize("reason", RefusalReason)
def test_9001_says_why(reason: RefusalReason) -> None:
    error = refused(RequestCode.SEND_ONCE, ErrorResponse(reason, 0))
    # As a sentence of its own, with nothing before it.
    assert str(error).startswith(("The ", "This "))
    assert error.advice
    assert error.reason == reason


def test_9001_with_a_reason_of_the_future() -> None:
    error = refused(RequestCode.SEND_ONCE, ErrorResponse(77, 30))
    assert "77" in str(error)
    assert "30 s" in error.advice
    assert error.retry_after == 30


def test_what_a_server_says_is_quoted_and_harmless(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.register("alice")
    text = 'no\r\nFrom: bob \x1b[2J \u202eevil\u2066 "quoted" \x9b'.encode()
    gateway.script.append(Answer(responses.encode_head(ResponseCode.ERROR, len(text)) + text))
    with pytest.raises(ServerAnsweredError) as caught:
        alice.users()
    assert str(caught.value) == (
        "Most likely the server does not know this account. "
        r'The server says: "no From: bob \x1b[2J \u202eevil\u2066 \"quoted\" \x9b"'
    )


def test_a_long_text_is_cut() -> None:
    sentence = str(refused(RequestCode.PULL, ErrorResponse(text="word \u202e" * 9000)))
    assert len(sentence) < 400
    assert sentence.endswith('…"')
    assert quoted(" \n") == ""
    assert quoted("x" * 300) == f' The server says: "{"x" * 300}"'
