"""The power goes: a file layer of apsw that knows what was synced, and what is left when it was
not.

Files are real, so that SQLite's shared memory works; beside each of them the layer keeps what a
disk would have for sure, and what was written since the last sync. When the power goes, a new
folder is made: of the writes that were not synced any are there, any are missing, and any may be
torn at a sector's border.

`cut_power` runs one life and one cut, `run` many of them and adds up; from a shell:

    python -m tests.storage_worker.power_cut --cuts 5000 --seed 1 [--synchronous NORMAL]

The control is NORMAL, for which this must report losses.
"""

import argparse
import sys
import tempfile
import uuid
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import apsw

from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.sqlite.blobs import DiskBlobs
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from storage_worker.engine.sqlite.journal import DiskJournal
from storage_worker.engine.sqlite.maintenance import Maintenance
from storage_worker.engine.sqlite.store_identity import GenerationFile
from tests.storage_worker.worker_under_test import CheckpointAtOnce, SqliteWorker
from tests.storage_worker.workload import Workload

SECTOR = 512
JOURNAL_BYTES = 128 * 1024


class PowerCut(BaseException):
    """The machine is off. No program can catch this, so that no code of the worker may either."""


class Image:
    """What a disk has of a file: for sure, and perhaps."""

    def __init__(self) -> None:
        self.sure = bytearray()
        self.exists = False
        self.pending: list[tuple[int, bytes] | int] = []
        """Writes (offset, bytes) and truncations (size) since the last sync, in order."""

    def sync(self) -> None:
        """What was written is there for sure now."""
        for change in self.pending:
            _apply(self.sure, change)
        self.pending.clear()

    def sync_last(self) -> None:
        """The last write is there for sure now; of those before it, what it did not write
        over is as unsure as ever.
        """
        last = self.pending.pop()
        assert not isinstance(last, int)
        _apply(self.sure, last)
        start, end = last[0], last[0] + len(last[1])
        earlier, self.pending = self.pending, []
        for change in earlier:
            assert not isinstance(change, int)
            offset, data = change
            if offset < start:
                self.pending.append((offset, data[: start - offset]))
            if offset + len(data) > end:
                self.pending.append((max(offset, end), data[max(end - offset, 0) :]))

    def after_cut(self, chance: Random) -> bytes | None:
        """The content, or None where the file's name is not there; each pending change is
        there, missing or torn.
        """
        if not self.exists and chance.random() < 0.5:
            return None
        content = bytearray(self.sure)
        fate = chance.choice(["none", "all", "any"])
        for change in self.pending if fate != "none" else []:
            if isinstance(change, int):
                if fate == "all" or chance.random() < 0.5:
                    _apply(content, change)
            elif fate == "all":
                _apply(content, change)
            else:
                offset, data = change
                for start in range(0, len(data), SECTOR):
                    if chance.random() < 0.5:
                        _apply(content, (offset + start, data[start : start + SECTOR]))
        return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        return
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """A disk whose power goes at operation number `cut_at` (writes, truncations, syncs and
    deletions count).

    When it is off, what SQLite still does is nothing: a dead program's connection is cleared away
    at a moment of the interpreter's choice, and an error then would hit whoever runs at that
    moment.
    """

    def __init__(self, cut_at: int, chance: Random) -> None:
        self.name = f"power-{uuid.uuid4()}"
        self.operations = 0
        self.off = False
        self._cut_at = cut_at
        self._chance = chance
        self.images: dict[str, Image] = {}
        self.deleted: dict[str, Image] = {}
        """Files whose deletion may come undone."""
        self.facts: str | None = None
        super().__init__(self.name, base="")

    def count(self) -> None:
        """One more operation. Raises `PowerCut` when it was the last, and ever after."""
        self.operations += 1
        if self.off or self.operations >= self._cut_at:
            self.off = True
            raise PowerCut

    def image(self, name: str) -> Image:
        """Of the file with this name."""
        return self.images.setdefault(name, Image())

    def sync_folder(self) -> None:
        """Names and deletions are for sure now."""
        self.deleted.clear()
        for image in self.images.values():
            image.exists = True

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if self.off:
            return
        self.count()
        super().xDelete(filename, syncdir)
        name = filename.rpartition("/")[2]
        self.deleted[name] = self.images.pop(name)
        if syncdir:
            self.sync_folder()

    def save(self, folder: Path) -> None:
        """What is found in the folder after the power came back."""
        (folder / "bodies").mkdir()
        undone = {name: image for name, image in self.deleted.items() if self._chance.random() < 0.5}
        # What has a name now is not what had it before.
        for name, image in {**undone, **self.images}.items():
            content = image.after_cut(self._chance)
            if content is not None:
                (folder / name).write_bytes(content)
        if self.facts is not None:
            (folder / "store.generation").write_text(self.facts)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        path = str(name.filename() if hasattr(name, "filename") else name)
        self._image = disk.image(path.rpartition("/")[2])
        self._is_log = path.endswith(("-wal", "-journal"))
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.off:
            return
        # A write that the cut interrupts may have reached the disk, too.
        self._image.pending.append((offset, bytes(data)))
        self._disk.count()
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        if self._disk.off:
            return
        self._disk.count()
        self._image.pending.append(size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.off:
            return
        self._disk.count()
        super().xSync(flags)
        self._image.sync()
        # SQLite's own layer syncs the folder with the first sync of a log or journal.
        if self._is_log and not self._image.exists:
            self._disk.sync_folder()


class _IdentityFile:
    """The port of `store.generation`: a new file, synced, and renamed, so the old or the
    new content survives.
    """

    def __init__(self, disk: Disk, file: GenerationFile) -> None:
        self._disk = disk
        self._file = file

    def read(self) -> str | None:
        return self._file.read()

    def write(self, text: str) -> None:
        before = self._disk.operations
        try:
            # The new file's write and sync, the rename, the folder's sync.
            for _ in range(4):
                self._disk.count()
        except PowerCut:
            if self._disk.operations - before >= 3:
                self._disk.facts = text
            raise
        self._file.write(text)
        self._disk.facts = text


class _JournalFile:
    """The port of the journal: written in place, like a database file."""

    def __init__(self, disk: Disk, folder: Path, name: str) -> None:
        self._disk = disk
        self._file = DiskJournal(folder / name, JOURNAL_BYTES)
        self._image = disk.image(name)
        if not self._image.exists:
            # It is made whole, with its name, before anything is told to anybody.
            self._image.sure = bytearray(JOURNAL_BYTES)
            self._image.exists = True

    def read(self) -> bytes:
        return self._file.read()

    def write(self, offset: int, data: bytes) -> None:
        self._image.pending.append((offset, bytes(data)))
        self._disk.count()
        self._file.write(offset, data)

    def sync(self) -> None:
        self._disk.count()
        self._file.sync()
        self._image.sync()

    def write_synced(self, offset: int, data: bytes) -> None:
        self.write(offset, data)
        self._disk.count()
        self._file.sync()
        self._image.sync_last()

    def close(self) -> None:
        self._file.close()


class _BlobFolder:
    """The port of the blobs. A file that is deleted may be there again."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = DiskBlobs(folder / "bodies")

    def append(self, blob_id: int, at: int, data: bytes) -> None:
        image = self._disk.image(f"bodies/{blob_id}")
        image.pending.append((at, bytes(data)))
        self._disk.count()
        self._folder.append(blob_id, at, data)

    def sync(self, blob_id: int) -> None:
        self._disk.count()
        self._folder.sync(blob_id)
        image = self._disk.image(f"bodies/{blob_id}")
        image.sync()
        image.exists = True

    def read(self, blob_id: int, at: int, length: int) -> bytes:
        return self._folder.read(blob_id, at, length)

    def remove(self, blob_id: int) -> None:
        self._disk.count()
        self._folder.remove(blob_id)
        name = f"bodies/{blob_id}"
        if name in self._disk.images:
            self._disk.deleted[name] = self._disk.images.pop(name)

    def set_aside(self, blob_id: int) -> str:
        raise AssertionError(f"the power took bodies/{blob_id}, which was synced")

    def sizes(self) -> dict[int, int]:
        return self._folder.sizes()

    def close(self, blob_id: int) -> None:
        self._folder.close(blob_id)

    def close_all(self) -> None:
        self._folder.close_all()


class Tally(NamedTuple):
    """Over any number of cuts. `restored`: the store took itself for a restored one. Only
    the first two may grow.
    """

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    returned: int = 0
    unexpected: int = 0
    corrupt: int = 0
    restored: int = 0

    @property
    def clean(self) -> bool:
        """Nothing acknowledged is wrong, nothing is corrupt."""
        return not any(self[2:])

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*map(sum, zip(self, other, strict=True)))


def cut_power(folder: Path, chance: Random, synchronous: str = "FULL", operations: int = 900) -> Tally:
    """One life on `folder`, a cut at one of its first `operations` operations, and what
    the next worker finds.
    """
    before, after = folder / "before", folder / "after"
    before.mkdir()
    after.mkdir()
    disk = Disk(chance.randrange(1, operations), chance)
    workload = Workload(chance)
    worker: SqliteWorker | None = None
    file = _IdentityFile(disk, GenerationFile(before / "store.generation"))

    def opened() -> SqliteWorker:
        return SqliteWorker(
            before, vfs=disk.name, synchronous=synchronous, file=file,
            journal_files=[_JournalFile(disk, before, name) for name in JOURNAL_NAMES],
            journal_bytes=JOURNAL_BYTES, blob_folder=_BlobFolder(disk, before), seed=chance.randrange(2**60),
        )  # fmt: skip

    try:
        worker = opened()
        worker.database.checkpoint_bytes = 4096 * chance.choice([20, 100, 10**6])
        worker.engine.log.synced_bytes = chance.choice([0, 0, 3000, 10**9])
        worker.engine.log.most_in_step = chance.choice([1, 1, 10, 10**9])
        # A checkpoint that takes long is one that comes late.
        checkpoints_are_late = chance.random() < 0.5
        keeper = Maintenance(worker.database, file, CheckpointAtOnce(worker.database))
        workload.begin(worker)
        while True:
            workload.step()
            worker.now_ms += chance.choice([0, 0, 0, 30_000])
            if not checkpoints_are_late or chance.random() < 0.2:
                keeper.work(worker.now_ms)
            if chance.random() < 0.02:
                worker.close()
                worker = opened()
                worker.engine.log.synced_bytes = chance.choice([0, 0, 3000, 10**9])
                worker.engine.log.most_in_step = chance.choice([1, 1, 10, 10**9])
                keeper = Maintenance(worker.database, file, CheckpointAtOnce(worker.database))
                workload.resume(worker)
    except PowerCut:
        pass
    generation = None if worker is None else worker.facts.generation
    if worker is not None:
        worker.kill()
    disk.save(after)
    return _examine(after, workload, generation, chance)


def _examine(folder: Path, workload: Workload, generation: int | None, chance: Random) -> Tally:
    tally = Tally(cuts=1, acknowledged=workload.acknowledged)
    try:
        # The layer that made it wrote no checksums of pages. It is a day later: after a week tokens
        # are forgotten.
        worker = SqliteWorker(folder, vfs="unix", seed=chance.randrange(2**60), now_ms=10**8)
        if worker.database.row("PRAGMA integrity_check") != ("ok",):
            return tally._replace(corrupt=1)
    except Exception:
        return tally._replace(corrupt=1)
    try:
        if generation is not None and worker.facts.generation != generation:
            tally = tally._replace(restored=1)
        if not workload.users:
            return tally
        first = workload.check(worker)
        workload.resume(worker)
        second = workload.check(worker)
        return tally._replace(
            lost=max(first.lost, second.lost),
            returned=max(first.returned, second.returned),
            unexpected=max(first.unexpected, second.unexpected),
        )
    except StoreFailed:
        # A message whose content is not there is as good as lost.
        return tally._replace(lost=1)
    finally:
        worker.kill()


def run(cuts: int, seed: int, synchronous: str = "FULL") -> Tally:
    """Many lives, one cut each; the same seed gives the same cuts."""
    tally = Tally()
    for number in range(cuts):
        with tempfile.TemporaryDirectory() as folder:
            tally = tally.plus(cut_power(Path(folder), Random(f"{seed}/{number}"), synchronous))
    return tally


def main() -> int:
    """Print one line; 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(
        prog="power_cut", description="Cut the power over the worker's storage code.", allow_abbrev=False
    )
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synchronous", default="FULL", choices=["FULL", "NORMAL"])
    settings = parser.parse_args()
    tally = run(settings.cuts, settings.seed, settings.synchronous)
    print(*[f"{name} {value}" for name, value in tally._asdict().items()], sep="  ")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
