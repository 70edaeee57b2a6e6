"""Secrets of a store with a passphrase: sealed for their place, and rejected in another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import CipherError, PassphraseNeeded, PassphraseWrong, StoreUnusable
from client.store.home_store import Store
from client.store.sealing import INBOX_CONTENT, SECRETS, SENT_TEXT
from client.store.sent import Outgoing
from common.values import MessageKind
from tests.client.store.mail import NOW, A, message, pull

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("cheap")


@pytest.fixture
def sealed(store: Store) -> Store:
    """A store with a text that was sent and one that was received, sealed afterwards."""
    store.sent.add(A, MessageKind.TEXT, Outgoing("a secret", None), NOW)
    pull(store, message(1, b"came in"))
    store.sealing.seal_under("correct horse", {})
    return store


def held(store: Store) -> tuple[object, object]:
    """What the file holds."""
    [(text,)] = store.database.rows("SELECT text FROM sent")
    [(content,)] = store.database.rows("SELECT content FROM inbox")
    return text, content


def test_no_secret_is_in_the_clear_and_each_reads_as_before(sealed: Store) -> None:
    assert sealed.sealing.has_passphrase
    text, content = held(sealed)
    assert "a secret" not in str(text)
    assert b"came in" not in bytes(content)  # type: ignore[call-overload]
    assert [row.text for row in sealed.sent.all()] == ["a secret"]
    row = sealed.inbox.next_unread(0)
    assert row is not None
    assert row.content == b"came in"
    assert sealed.sealing.damaged_rows() == []


def test_without_the_passphrase_nothing_opens(sealed: Store, tmp_path: Path) -> None:
    sealed.close()
    store = Store.open(tmp_path)
    assert store.sealing.is_locked
    with pytest.raises(PassphraseNeeded):
        store.sent.all()
    with pytest.raises(PassphraseWrong):
        store.sealing.unlock("battery staple")
    assert store.sealing.is_locked
    store.sealing.unlock("correct horse")
    assert [row.text for row in store.sent.all()] == ["a secret"]
    store.close()


def test_it_is_taken_away_again(sealed: Store) -> None:
    sealed.sealing.seal_under(None, {})
    assert not sealed.sealing.has_passphrase
    assert held(sealed) == ("a secret", b"came in")


def test_another_passphrase_touches_no_row(sealed: Store) -> None:
    before = held(sealed)
    sealed.sealing.seal_under("battery staple", {})
    assert held(sealed) == before
    assert [row.text for row in sealed.sent.all()] == ["a secret"]


def test_one_that_was_moved_is_found_and_not_believed(sealed: Store) -> None:
    with sealed.database.transaction():
        sealed.database.run("UPDATE sent SET queued_at = queued_at + 1")
    assert sealed.sealing.damaged_rows() == ["sent 1"]
    [row] = sealed.sent.all()
    assert (row.text, row.damaged) == (None, True)
    with pytest.raises(StoreUnusable, match=r"Row 1 of sent .* was altered"):
        sealed.sealing.seal_under(None, {})
    assert sealed.sealing.has_passphrase


def test_a_secret_opens_in_its_own_place_alone(sealed: Store) -> None:
    value = sealed.sealing.seal(SENT_TEXT, "x", 1, A, NOW)
    assert sealed.sealing.open(SENT_TEXT, value, 1, A, NOW) == "x"
    for known in ((2, A, NOW), (1, b"b" * 16, NOW), (1, A, NOW + 1)):
        with pytest.raises(CipherError):
            sealed.sealing.open(SENT_TEXT, value, *known)
    with pytest.raises(CipherError):
        sealed.sealing.open(INBOX_CONTENT, b"\0" * 40, 1, A, 3, bytes(32))
    with pytest.raises(CipherError, match="altered"):
        sealed.sealing.open(SENT_TEXT, "no base64!", 1, A, NOW)


def test_places_of_all_secrets_differ() -> None:
    places = {secret.place(*range(len(secret.known_by))) for secret in SECRETS}
    assert len(places) == len(SECRETS)


def test_files_that_a_change_left_are_written_once(sealed: Store) -> None:
    sealed.sealing.seal_under("battery staple", {"me.info": "alice\n"})
    written: list[tuple[str, str]] = []
    for _ in range(2):
        sealed.sealing.settle(lambda name, text: written.append((name, text)))
    assert written == [("me.info", "alice\n")]
