"""A journal that is damaged: the start refuses, and the recovery goes on with what is whole."""

from pathlib import Path

import pytest

from common.errors import JournalDamaged
from common.operations import FetchWaiting, Leased
from storage_worker import admin
from storage_worker.folder import JOURNAL_NAMES
from tests.storage_worker.office import Gateway, Office, pieces


def test_what_is_whole_is_recovered_and_the_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    office = Office(tmp_path)
    gateway = Gateway(office)
    alice, bob = gateway.register("alice", "bob")
    generation = office.facts.generation
    ends = []
    for number in range(6):
        gateway.store(alice, bob, b"message %d" % number)
        ends.append(office.journal.used)
    office.kill()
    [name] = [name for name in JOURNAL_NAMES if (tmp_path / name).read_bytes().strip(b"\0")]
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[(ends[1] + ends[2]) // 2] ^= 4
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="recover-journal"):
            Office(tmp_path)
        assert path.read_bytes() == bytes(content)
    assert admin.main(["--data-folder", str(tmp_path), "recover-journal"]) == 0
    said = capsys.readouterr().out
    assert "gaps: 1." in said
    assert [kept.read_bytes() for kept in tmp_path.glob(f"{name}.damaged-*")] == [bytes(content)]
    office = Office(tmp_path)
    assert office.facts.generation > generation
    leased = Gateway(office, incarnation=b"i" * 16).one(FetchWaiting(1, bob, False, 10**6, 0, 10**6))
    assert isinstance(leased, Leased)
    assert [piece.content for piece in pieces(leased.page)] == [b"message %d" % number for number in (0, 1, 3, 4, 5)]
    office.kill()
