"""Mail that can't be parsed is kept as it came."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from client.errors import InvalidServerResponse
from common.client_protocol import responses
from common.client_protocol.responses import ResponseCode
from common.values import ClientId
from tests.client.fake_gateway import Answer, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger


BOB = ClientId(b"\x02" * 16)


def test_mail_that_can_not_be_parsed_is_kept_as_it_came(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    alice = make("alice")
    alice.register("alice")
    whole = responses.encode_pulled_head(BOB, 1, 1, 0)
    # As a server writes it that leaves the ids out.
    odd = BOB + b"\x03" + (16).to_bytes(4, "little") + b"\xfe" * 16
    for data in (odd, odd * 20_000):
        payload = whole + data
        gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, len(payload)) + payload, close=True))
        with pytest.raises(InvalidServerResponse, match=r"kept as it came in .*unparsed-2104-\d\.bin"):
            list(alice.receive())
    for number, data in ((1, odd), (2, odd * 20_000)):
        kept = tmp_path / "alice" / f"unparsed-2104-{number}.bin"
        assert kept.read_bytes() == data
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_mail_that_ends_in_its_midst_is_kept_as_far_as_it_came(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    alice = make("alice")
    alice.register("alice")
    gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 1000) + b"\xfe" * 100, close=True))
    with pytest.raises(InvalidServerResponse, match="100 bytes"):
        list(alice.receive())
    assert (tmp_path / "alice" / "unparsed-2104-1.bin").read_bytes() == b"\xfe" * 100


def test_what_can_not_be_kept_is_said_so(
    make: Callable[..., Messenger], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = make("alice")
    alice.register("alice")
    gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 100) + b"\xfe" * 100))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("client.connection.unparsed_response.os.fdopen", full)
    with pytest.raises(InvalidServerResponse, match="could not be kept: There is no room"):
        list(alice.receive())
