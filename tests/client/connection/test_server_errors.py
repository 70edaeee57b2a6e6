from __future__ import annotations

import pytest

from client.connection.server_errors import refused
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason


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
