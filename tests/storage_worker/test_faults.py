"""Every write and every sync of a life fails once: no answer without its effect, and a clean restart."""

import uuid
from pathlib import Path
from random import Random

import pytest

from common.errors import StorageError
from storage_worker.__main__ import Housekeeper
from storage_worker.bodies import DiskBodies
from storage_worker.journal import DiskJournal
from storage_worker.store_facts import GenerationFile
from tests.storage_worker.faulty_disk import Fault, FaultyBodies, FaultyDisk, FaultyFactsFile, FaultyJournalFile
from tests.storage_worker.office import Office
from tests.storage_worker.workload import Workload

STEPS = 30
JOURNAL_BYTES = 64 * 1024
NEVER = 10**9


class Life:
    """A worker's whole life on a disk that fails at `fail_at`: opened, worked, checkpointed, closed."""

    def __init__(self, folder: Path, fail_at: int, fault: Fault) -> None:
        self.disk = FaultyDisk(f"faulty-{uuid.uuid4()}", fail_at, fault)
        self.workload = Workload(Random(5))
        self.ended_by: StorageError | None = None
        office: Office | None = None
        file = FaultyFactsFile(self.disk, GenerationFile(folder / "store.generation"))
        try:
            office = Office(
                folder, vfs=self.disk.name, file=file,
                journal_file=FaultyJournalFile(self.disk, DiskJournal(folder / "mail.journal", JOURNAL_BYTES)),
                journal_bytes=JOURNAL_BYTES, bodies_folder=FaultyBodies(self.disk, DiskBodies(folder / "bodies")),
            )  # fmt: skip
            office.database._checkpoint_pages = 60
            keeper = Housekeeper(office.database, file)
            self.workload.begin(office)
            for _ in range(STEPS):
                self.workload.step()
                office.now_ms += 700
                keeper.work(office.now_ms)
            office.now_ms += 60_000
            keeper.work(office.now_ms)
            office.close()
        except StorageError as error:
            self.ended_by = error
            if office is not None:
                office.kill()


def operations_of_a_life(folder: Path) -> int:
    folder.mkdir()
    life = Life(folder, NEVER, Fault.EIO)
    assert life.ended_by is None
    return life.disk.operations


@pytest.mark.parametrize("fault", Fault)
def test_every_operation_fails_once(tmp_path: Path, fault: Fault) -> None:
    total = operations_of_a_life(tmp_path / "whole")
    assert total > 300
    # Most are writes of one and the same kind; every tenth of them and the last ones stand for all.
    places = sorted({*range(1, total, 10), *range(total - 12, total + 1)})
    ended = 0
    for fail_at in places:
        folder = tmp_path / str(fail_at)
        folder.mkdir()
        life = Life(folder, fail_at, fault)
        assert life.disk.failed
        if fault is Fault.EIO:
            assert life.ended_by is not None, f"{life.disk.failed} was ignored"
        ended += life.ended_by is not None
        office = Office(folder, seed=10**6)
        assert office.database.row("PRAGMA integrity_check") == ("ok",), life.disk.failed
        if life.workload.gateway is not None and life.workload.users:
            assert life.workload.check(office).clean, life.disk.failed
            life.workload.go_on(office)
            assert life.workload.check(office).clean, f"{life.disk.failed}, after the resend"
            if life.workload.pending is None:
                life.workload.step()
                assert life.workload.check(office).clean
        office.kill()
    if fault is not Fault.EIO:
        assert ended < len(places), "where there is no room the worker goes on where it can"
