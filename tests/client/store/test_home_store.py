from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from client.errors import HomeInUse
from client.store.home_store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_the_files_are_private(tmp_path: Path, store: Store) -> None:
    store.settings.put("a", "b")
    spool = store.spools.new()
    spool.keep()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("store.spool") == 0o700
    assert set(modes.values()) == {0o600}
    assert "store.db-wal" in modes


def test_an_open_mode_is_closed(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "store.db").chmod(0o644)
    Store.open(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600


def test_one_receives(tmp_path: Path, store: Store) -> None:
    other = Store.open(tmp_path)
    with store.receiver(), pytest.raises(HomeInUse), other.receiver():
        pass
    with other.receiver():
        pass
    other.close()


def test_a_dead_process_receives_no_more(tmp_path: Path, store: Store) -> None:
    program = (
        "import os, pathlib, sys; from client.store.home_store import Store\n"
        "with Store.open(pathlib.Path(sys.argv[1])).receiver(): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    with store.receiver():
        pass
