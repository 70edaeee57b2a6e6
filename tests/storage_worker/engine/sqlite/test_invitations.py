"""Invitations in the database: used, revoked, forgotten when their time is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_worker.engine.records import InvitationMade, InvitationRevoked, InvitationUsed
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.invitations import Invitations
from storage_worker.engine.values import Invitation

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "mail.db")
    yield opened
    opened.abandon()


def test_uses(database: Database) -> None:
    kept = Invitations(database)
    kept.apply(InvitationMade(ONE, 2, 500))
    assert kept.find(ONE) == Invitation(ONE, 2, 500)
    assert kept.find(OTHER) is None
    kept.apply(InvitationUsed(ONE))
    assert kept.find(ONE) == Invitation(ONE, 1, 500)
    kept.apply(InvitationUsed(ONE))
    assert kept.find(ONE) is None
    kept.apply(InvitationUsed(ONE))
    assert kept.all() == []


def test_revoked_and_over(database: Database) -> None:
    kept = Invitations(database)
    kept.apply(InvitationMade(ONE, 1, 500))
    kept.apply(InvitationMade(OTHER, 1, 400))
    assert kept.all() == [Invitation(OTHER, 1, 400), Invitation(ONE, 1, 500)]
    kept.forget_over(399)
    assert len(kept.all()) == 2
    kept.forget_over(400)
    assert kept.all() == [Invitation(ONE, 1, 500)]
    kept.apply(InvitationRevoked(ONE))
    assert kept.all() == []


def test_they_are_read_beside_who_makes_them(database: Database, tmp_path: Path) -> None:
    beside = Database(tmp_path / "mail.db", beside=True)
    with beside.transaction():
        Invitations(beside).apply(InvitationMade(ONE, 1, 500))
    beside.close()
    assert Invitations(database).find(ONE) == Invitation(ONE, 1, 500)
