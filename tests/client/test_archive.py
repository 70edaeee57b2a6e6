"""Exported homes: whole, private, authenticated, and nothing that does not belong there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from client import vault
from client.archive import export_home, import_home
from client.store import Store
from common.errors import InfoFileError, SettingRejected

if TYPE_CHECKING:
    from pathlib import Path

    from client.messenger import Messenger


def test_there_and_back(tmp_path: Path, alice: Messenger) -> None:
    home, again, file = tmp_path / "alice", tmp_path / "again", tmp_path / "file"
    spool = alice._store.new_spool_file()
    spool.write(b"large")
    name = spool.keep()
    export_home(home, file, "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"alice" not in file.read_bytes()
    import_home(again, file, "secret")
    for part in ("my.info", "me.info", f"store.spool/{name}"):
        assert (again / part).read_bytes() == (home / part).read_bytes()
        assert stat.S_IMODE((again / part).stat().st_mode) == 0o600
    Store.open(again).close()


@pytest.mark.parametrize("place", [0, 20, 40, -1])
def test_an_altered_file_is_refused_whole(tmp_path: Path, place: int) -> None:
    sealed = bytearray(vault.seal_archive(b"x" * 100, "secret", os.urandom))
    assert vault.open_archive(bytes(sealed), "secret") == b"x" * 100
    sealed[place] ^= 1
    (tmp_path / "file").write_bytes(sealed)
    with pytest.raises(SettingRejected):
        import_home(tmp_path / "home", tmp_path / "file", "secret")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "store.spool/../../outside", "other"])
def test_what_belongs_to_no_home_is_refused(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "file").write_bytes(vault.seal_archive(packed.getvalue(), "secret", os.urandom))
    with pytest.raises(InfoFileError, match="belongs to no home"):
        import_home(tmp_path / "home", tmp_path / "file", "secret")
    assert not (tmp_path / "home").exists()
