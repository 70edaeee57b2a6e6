"""The names that completion offers: read from the store, which stays unchanged, and none under a
passphrase.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import apsw
import pytest

from client.__main__ import main
from client.identity.passphrase import set_passphrase
from client.store.glance import MOST, names_beginning
from client.store.home_store import Store
from client.store.schema import STORE_FILE
from common.values import ClientId

if TYPE_CHECKING:
    from pathlib import Path


def knows(store: Store, *names: str) -> None:
    store.contacts.replace_list((ClientId(number.to_bytes(16, "big")), name) for number, name in enumerate(names))


def test_names_that_begin_so(tmp_path: Path) -> None:
    with contextlib.closing(Store.open(tmp_path)) as store:
        knows(store, "bob", "alice", "bobby", "Bob", "two words", "\x1b[2J", "b\nb", "bäb", "")
        # While somebody works in the home, and has written what is not in the file itself yet.
        assert names_beginning(tmp_path / STORE_FILE, "bo") == ["bob", "bobby"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert names_beginning(tmp_path / STORE_FILE, "bo") == ["bob", "bobby"]
    assert names_beginning(tmp_path / STORE_FILE, "") == ["Bob", "alice", "bob", "bobby", "bäb", "two words"]
    assert names_beginning(tmp_path / STORE_FILE, "bobby!") == []
    assert names_beginning(tmp_path / STORE_FILE, "\udcff") == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_no_more_than_can_be_looked_at(tmp_path: Path) -> None:
    with contextlib.closing(Store.open(tmp_path)) as store:
        knows(store, *(f"user{number:05}" for number in range(3 * MOST)))
    assert names_beginning(tmp_path / STORE_FILE, "") == [f"user{number:05}" for number in range(MOST)]
    assert names_beginning(tmp_path / STORE_FILE, "user00299") == ["user00299"]


def test_where_there_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    assert names_beginning(path, "") == []
    path.write_bytes(b"no database")
    assert names_beginning(path, "") == []
    path.unlink()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE contact (name TEXT, listed INTEGER); INSERT INTO contact VALUES ('x', 1)")
    other.close()
    assert names_beginning(path, "") == []
    assert [one.name for one in tmp_path.iterdir()] == [STORE_FILE]


@pytest.mark.usefixtures("cheap")
def test_a_home_with_a_passphrase_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(Store.open(tmp_path)) as store:
        knows(store, "bob")
    home = ["--home", str(tmp_path), "--server", "127.0.0.1:1"]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main([*home, "completion", "contacts", "bo"]) == 0
    assert capsys.readouterr() == ("bob\n", "")
    assert main([*home, "completion", "contacts", "--json"]) == 0
    assert capsys.readouterr() == ('{"v": 1, "type": "contact", "name": "bob"}\n', "")
    set_passphrase(tmp_path, "correct horse")
    assert main([*home, "completion", "contacts"]) == 0
    assert capsys.readouterr() == ("", "")
