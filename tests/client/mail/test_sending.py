"""Sending of texts, keys and files, with a server that has the extension."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from client.errors import (
    FileUnreadable,
    ServerAnsweredError,
)
from client.messenger import KeyRequested, Messenger, SavedFile, Text
from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason
from tests.client.conftest import Told
from tests.client.exchange import receive, sends
from tests.client.fake_gateway import (
    CLOSE,
    Answer,
    ExtendedMailroom,
    FakeGateway,
    fetched_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def test_texts_keys_and_files(pair: tuple[Messenger, Messenger], tmp_path: Path, gateway: FakeGateway) -> None:
    alice, bob = pair
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"y" * 1_000_000)
    seen: list[tuple[int, int]] = []
    alice.request_key("bob")
    alice.home.sending.send_text("bob", "hi")
    alice.home.sending.send_file("bob", tmp_path / "small")
    alice.home.sending.send_file("bob", tmp_path / "large", lambda done, total: seen.append((done, total)))
    request, text, small, large = receive(bob)
    assert (request, text) == (KeyRequested(), Text("hi"))
    assert isinstance(small, SavedFile)
    assert isinstance(large, SavedFile)
    assert small.path.read_bytes() == b"x" * 100
    assert large.path.read_bytes() == b"y" * 1_000_000
    assert seen[-1] == (1_000_016, 1_000_016)
    assert not list((tmp_path / "alice" / "store.spool").iterdir())
    assert alice.home.store.outbox.waiting_count() == 0
    assert len({request.token for request in sends(gateway)}) == 4


def test_a_large_file_starts_over_where_the_connection_breaks(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom, tmp_path: Path, told: Told
) -> None:
    alice, bob = pair
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    gateway.script.extend([CLOSE, None, CLOSE])
    alice.home.sending.send_file("bob", tmp_path / "file")
    assert sum("Starting over" in line for line in told) == 2
    gateway.script.append(Answer(fetched_list(mailroom.boxes[mailroom.id_of("bob")])[:1_500_000], close=True))
    (content,) = receive(bob)
    assert sum("Starting over" in line for line in told) == 3
    assert isinstance(content, SavedFile)
    assert content.path.read_bytes() == bytes(2_000_000)
    assert len({request.token for request in sends(gateway)}) == 1


def test_a_key_and_a_file_that_are_refused(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, tmp_path: Path
) -> None:
    alice, _bob = pair
    before = alice.home.store.keys.of(mailroom.id_of("bob"))
    mailroom.reasons[mailroom.id_of("bob")] = ErrorResponse(RefusalReason.MALFORMED, 0)
    (tmp_path / "file").write_bytes(bytes(100_000))
    with pytest.raises(ServerAnsweredError):
        alice.send_key("bob")
    with pytest.raises(ServerAnsweredError):
        alice.home.sending.send_file("bob", tmp_path / "file")
    assert [row for row in alice.home.store.keys.of(mailroom.id_of("bob")) if row.usable] == before
    assert not list((tmp_path / "alice" / "store.spool").iterdir())
    assert [(failed.kind, failed.text) for failed in alice.failed()] == [(2, None), (4, None)]


def test_a_file_that_is_too_large_for_this_server(
    pair: tuple[Messenger, Messenger], mailroom: ExtendedMailroom, tmp_path: Path, gateway: FakeGateway
) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    mailroom.largest_content = 1007
    pair[0].home.link.close()
    with pytest.raises(FileUnreadable, match="too large"):
        pair[0].home.sending.send_file("bob", tmp_path / "file")
    mailroom.largest_content = 1008
    pair[0].home.link.close()
    pair[0].home.sending.send_file("bob", tmp_path / "file")
    assert len(sends(gateway)) == 1


def test_a_spooled_file_that_ends_too_soon_leaves_nothing(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))

    read, spool = os.read, tmp_path / "alice" / "store.spool"

    def fail_when_some_is_spooled(descriptor: int, size: int) -> bytes:
        if spool.is_dir() and any(spool.iterdir()):
            raise OSError(5, "Input/output error")
        return read(descriptor, size)

    monkeypatch.setattr("client.mail.outgoing_file.os.read", fail_when_some_is_spooled)
    with pytest.raises(FileUnreadable):
        pair[0].home.sending.send_file("bob", tmp_path / "file")
    assert not list(spool.iterdir())
    assert pair[0].home.store.outbox.waiting_count() == 0


def test_a_server_without_send_once(
    make: Callable[..., Messenger], mailroom: ExtendedMailroom, gateway: FakeGateway, alice: Messenger, bob: Messenger
) -> None:
    mailroom.features = 8
    alice.home.link.close()
    bob.home.link.close()
    alice.request_key("bob")
    assert receive(bob) == [KeyRequested()]
    assert sends(gateway)[0].token is None
    assert "Fetch" not in gateway.codes()
