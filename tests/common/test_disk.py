from pathlib import Path

import pytest

from common.disk import sync_folder


def test_a_folder_can_be_synced_and_nothing_else(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    (tmp_path / "file").touch()
    for path, error in ((tmp_path / "missing", FileNotFoundError), (tmp_path / "file", NotADirectoryError)):
        with pytest.raises(error):
            sync_folder(path)
