"""The messages of one answer on their way into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import InvalidServerResponse, ServerAnsweredError
from client.mail.intake import INLINE_CONTENT, Intake, check_list
from client.store.home_store import Store
from common.client_protocol.client_connection import ContentPart, ListBegins, MessageEnd
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ErrorResponse, MessageHead, ResponseCode
from common.values import ClientId, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from client.store.inbox import NewMessage


SENDER = ClientId(b"s" * 16)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


def test_whole_messages_are_kept_and_large_ones_in_files(store: Store) -> None:
    kept: list[NewMessage] = []
    intake = Intake(store, 100, kept.extend, None)
    for number, size in ((1, 3), (2, INLINE_CONTENT + 1)):
        assert intake.takes(MessageHead(SENDER, number, 3, size))
        assert intake.takes(ContentPart(bytes(size)))
        assert intake.takes(MessageEnd())
    assert intake.takes(MessageHead(SENDER, 3, 3, 5))
    assert intake.takes(ContentPart(b"ab"))
    intake.close()
    assert [(one.server_number, one.size) for one in kept] == [(1, 3), (2, INLINE_CONTENT + 1)]
    assert kept[0].content == bytes(3)
    assert kept[1].spool is not None
    assert store.spools.size(kept[1].spool) == INLINE_CONTENT + 1


def test_numbers_that_do_not_grow_or_are_beyond_all_bounds_are_refused(store: Store) -> None:
    kept: list[NewMessage] = []
    growing = Intake(store, 100, kept.extend, None, after=7)
    with pytest.raises(InvalidServerResponse, match="behind"):
        growing.takes(MessageHead(SENDER, 7, 3, 1))
    with pytest.raises(InvalidServerResponse, match="bounds"):
        Intake(store, 100, kept.extend, None).takes(MessageHead(SENDER, 2**63, 3, 1))


def test_a_refusal_and_another_list_are_errors() -> None:
    with pytest.raises(ServerAnsweredError):
        check_list(ErrorResponse(RefusalReason.PROOF_NEEDED, 0), RequestCode.FETCH, ResponseCode.FETCHED)
    with pytest.raises(InvalidServerResponse):
        check_list(ListBegins(ResponseCode.USERS, 0), RequestCode.FETCH, ResponseCode.FETCHED)
    check_list(ListBegins(ResponseCode.FETCHED, 0), RequestCode.FETCH, ResponseCode.FETCHED)
