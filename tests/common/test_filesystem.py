from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from common.errors import FileUnwritten, InfoFileError
from common.filesystem import NO_ROOM, birth_of, sync_folder, told, writing


def test_a_folder_can_be_synced_and_nothing_else(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    (tmp_path / "file").touch()
    for path, error in ((tmp_path / "missing", FileNotFoundError), (tmp_path / "file", NotADirectoryError)):
        with pytest.raises(error):
            sync_folder(path)


@pytest.mark.parametrize("code", sorted(NO_ROOM))
def test_a_full_disk_is_told_as_one(code: int) -> None:
    assert told(OSError(code, os.strerror(code)), Path("my.info"), "used") == (
        f"There is no room to write my.info ({os.strerror(code)})",
        "Free some space and try again.",
    )


def test_other_failures_are_told_with_their_reason() -> None:
    for error, reason in ((OSError(errno.EACCES, "Permission denied"), "Permission denied"), (OSError("odd"), "odd")):
        assert told(error, Path("my.info"), "used") == (
            f"my.info can't be used ({reason})",
            "Check the folder, its permissions and the disk.",
        )


def test_what_can_not_be_written_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(FileUnwritten) as caught, writing(tmp_path / "me.info"):
        raise OSError(errno.EROFS, "Read-only file system")
    failure = caught.value
    assert isinstance(failure, InfoFileError)
    assert str(failure) == f"{tmp_path / 'me.info'} can't be written (Read-only file system)."
    assert (failure.path, failure.line) == (tmp_path / "me.info", None)
    assert failure.advice == "Check the folder, its permissions and the disk."


def test_a_copy_has_another_birth_also_in_the_place_of_the_file(tmp_path: Path) -> None:
    """Its inode often has the number of the one that is gone."""
    path, copy = tmp_path / "file", tmp_path / "copy"
    path.write_text("x")
    births = [birth_of(path)]
    path.write_text("longer than before")
    path.touch()
    assert birth_of(path) == births[0]
    path.rename(tmp_path / "moved")
    assert birth_of(tmp_path / "moved") == births[0]
    (tmp_path / "moved").rename(path)
    for _ in range(3):
        shutil.copy2(path, copy)
        path.unlink()
        shutil.copy2(copy, path)
        copy.unlink()
        births.append(birth_of(path))
    assert len(set(births)) == len(births)
    with pytest.raises(OSError, match="No such file"):
        birth_of(copy)
