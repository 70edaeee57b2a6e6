"""The data folder: its lock, and durable file names."""

from pathlib import Path

import pytest

from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.sqlite.folder import sync_folder


def test_sync_folder(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(StoreFailed, match="can't be synced"):
        sync_folder(tmp_path / "missing")
