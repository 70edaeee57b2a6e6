"""Every write and every sync of a worker's life fails once: no answer without its effect, and a
clean restart.

`fail_once` runs one life whose operation number `fail_at` fails, and looks at what the next worker
finds; `run` does that for many numbers and adds up; from a shell, every `--every`-th, beginning at
`--first`:

    python -m tests.storage_worker.failing_disk --fault EIO [--first 1] [--every 10]
"""

import argparse
import sys
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple

from storage_worker.engine.errors import StorageError
from storage_worker.engine.sqlite.blobs import DiskBlobs
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from storage_worker.engine.sqlite.journal import DiskJournal
from storage_worker.engine.sqlite.maintenance import Maintenance
from storage_worker.engine.sqlite.store_identity import GenerationFile
from tests.storage_worker.faulty_disk import Fault, FaultyBlobs, FaultyDisk, FaultyIdentityFile, FaultyJournalFile
from tests.storage_worker.worker_under_test import CheckpointAtOnce, SqliteWorker
from tests.storage_worker.workload import Findings, Workload

STEPS = 30
JOURNAL_BYTES = 64 * 1024
NEVER = 10**9


class Life:
    """A worker's whole life on a disk that fails at `fail_at`: opened, worked,
    checkpointed, closed.
    """

    def __init__(self, folder: Path, fail_at: int, fault: Fault) -> None:
        self.disk = FaultyDisk(f"faulty-{uuid.uuid4()}", fail_at, fault)
        self.workload = Workload(Random(5))
        self.ended_by: StorageError | None = None
        worker: SqliteWorker | None = None
        file = FaultyIdentityFile(self.disk, GenerationFile(folder / "store.generation"))
        try:
            worker = SqliteWorker(
                folder, vfs=self.disk.name, file=file,
                journal_files=[
                    FaultyJournalFile(self.disk, DiskJournal(folder / name, JOURNAL_BYTES), name)
                    for name in JOURNAL_NAMES
                ],
                journal_bytes=JOURNAL_BYTES, blob_folder=FaultyBlobs(self.disk, DiskBlobs(folder / "bodies")),
            )  # fmt: skip
            worker.database.checkpoint_bytes = 60 * 4096
            worker.engine.log.synced_bytes = 0
            worker.engine.log.most_in_step = 1
            keeper = Maintenance(worker.database, file, CheckpointAtOnce(worker.database))
            self.workload.begin(worker)
            for _ in range(STEPS):
                self.workload.step()
                worker.now_ms += 700
                keeper.work(worker.now_ms)
            worker.now_ms += 60_000
            keeper.work(worker.now_ms)
            worker.close()
        except StorageError as error:
            self.ended_by = error
            if worker is not None:
                worker.kill()


class Tally(NamedTuple):
    """Over any number of failures. `ignored`: an input or output error that did not end
    the worker.
    """

    failures: int = 0
    ended: int = 0
    acknowledged: int = 0
    lost: int = 0
    returned: int = 0
    unexpected: int = 0
    corrupt: int = 0
    ignored: int = 0

    @property
    def clean(self) -> bool:
        """Nothing acknowledged is wrong, nothing is corrupt, no error was ignored."""
        return not any(self[3:])

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*map(sum, zip(self, other, strict=True)))

    def found(self, findings: Findings) -> "Tally":
        """With what a look at the store has shown."""
        return self._replace(
            lost=self.lost + findings.lost,
            returned=self.returned + findings.returned,
            unexpected=self.unexpected + findings.unexpected,
        )


def operations_of_a_life() -> int:
    """How many writes, truncations and syncs there are to fail."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), NEVER, Fault.EIO)
        assert life.ended_by is None
        return life.disk.operations


def fail_once(folder: Path, fail_at: int, fault: Fault) -> Tally:
    """One life in the empty `folder`, and what the next worker finds, before and after
    the resend.
    """
    life = Life(folder, fail_at, fault)
    assert life.disk.failed, f"a life has no operation {fail_at}"
    ended = life.ended_by is not None
    workload = life.workload
    tally = Tally(1, ended, workload.acknowledged, ignored=fault is Fault.EIO and not ended)
    # The layer that made it wrote no checksums of pages.
    worker = SqliteWorker(folder, vfs="unix", seed=10**6)
    try:
        if worker.database.row("PRAGMA integrity_check") != ("ok",):
            tally = tally._replace(corrupt=1)
        if workload.gateway is not None and workload.users:
            tally = tally.found(workload.check(worker))
            workload.resume(worker)
            tally = tally.found(workload.check(worker))
            if not workload.pending:
                workload.step()
                tally = tally.found(workload.check(worker))
    finally:
        worker.kill()
    if not tally.clean:
        sys.stderr.write(f"{fault.name} at {fail_at}, {life.disk.failed}: {tally}\n")
    return tally


def run(fault: Fault, places: Iterable[int]) -> Tally:
    """One life for each place at which it fails."""
    tally = Tally()
    for fail_at in places:
        with tempfile.TemporaryDirectory() as folder:
            tally = tally.plus(fail_once(Path(folder), fail_at, fault))
    return tally


def main() -> int:
    """Print one line; 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(
        prog="failing_disk", description="Fail the worker's writes and syncs, once each.", allow_abbrev=False
    )
    parser.add_argument("--fault", choices=[fault.name for fault in Fault], required=True)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    settings = parser.parse_args()
    places = range(settings.first, operations_of_a_life() + 1, settings.every)
    tally = run(Fault[settings.fault], places)
    print(*[f"{name} {value}" for name, value in tally._asdict().items()], sep="  ")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
