"""Which files show that a folder is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import StoreUnusable
from client.identity.home import what_is_there


def test_what_belongs_to_somebody(tmp_path: Path) -> None:
    assert what_is_there(tmp_path / "home") is None
    (tmp_path / "server.info").touch()
    (tmp_path / "store.lock").touch()
    assert what_is_there(tmp_path) is None
    for name in ("me.info", "my.info", "my.info.pending", "my.info.unfinished-3", "store.db"):
        (tmp_path / name).touch()
        assert what_is_there(tmp_path) == tmp_path / name
        (tmp_path / name).unlink()
    for name in ("store.spool", ".imported"):
        (tmp_path / name).mkdir()
        assert what_is_there(tmp_path) == tmp_path / name
        (tmp_path / name).rmdir()
    with pytest.raises(StoreUnusable, match="Not a directory"):
        what_is_there(tmp_path / "server.info")
