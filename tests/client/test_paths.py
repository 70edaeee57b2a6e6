"""Paths of any bytes: in the store, in SQLite, and in every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from client import paths
from client.errors import StoreUnusable
from client.identity.passphrase import remove_passphrase, set_passphrase
from client.messenger import SavedFile, SentMessage
from client.store.home_store import Store
from client.store.sent import Outgoing
from common.values import ClientId, MessageKind
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway

ROOT = Path(__file__).parent.parent.parent
BOB = ClientId(b"b" * 16)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"/tmp/a b%20.txt", "/tmp/a b%20.txt"),
        ("/tmp/caf\u00e9".encode(), "/tmp/caf\u00e9"),
        (b"/tmp/caf\xe9 %.txt", "file:///tmp/caf%E9%20%25.txt"),
        (b"relative", "relative"),
        (b"file:/odd", "file:/odd"),
    ],
)
def test_a_path_comes_back_as_it_was(raw: bytes, text: str) -> None:
    path = Path(os.fsdecode(raw))
    assert paths.kept(path) == text
    assert os.fsencode(paths.from_kept(text)) == raw


def test_a_store_in_such_a_folder_is_the_one_that_lies_there(odd: Path) -> None:
    Store.open(odd).close()
    assert sorted(path.name for path in odd.iterdir()) == ["store.db", "store.use"]
    store, other = Store.open(odd), Store.open(odd)
    store.settings.put("key", "value")
    assert other.settings.get("key") == "value"
    assert {path.name for path in odd.iterdir()} == {"store.db", "store.db-shm", "store.db-wal", "store.use"}
    store.close()
    other.close()
    with pytest.raises(StoreUnusable):
        Store.open(odd / "none")


def test_a_path_under_a_passphrase_and_without(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.crypto.sealed_storage.SCRYPT_COST", 16)
    path = odd / "in"
    store = Store.open(odd)
    store.sent.add(BOB, MessageKind.FILE, Outgoing(None, paths.kept(path)), 1)
    store.sent.failed(1, f"{path} became shorter")
    store.close()
    set_passphrase(odd, "secret")
    remove_passphrase(odd, lambda: "secret")
    store = Store.open(odd)
    (row,) = store.sent.all()
    store.close()
    assert row.path is not None
    assert paths.from_kept(row.path) == path
    assert row.problem == f"{odd.parent}/caf\\udce9/in became shorter"


def test_a_path_that_an_earlier_version_sealed_as_it_was(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.crypto.sealed_storage.SCRYPT_COST", 16)
    Store.open(odd).close()
    set_passphrase(odd, "secret")
    store = Store.open(odd)
    store.sealing.unlock("secret")
    store.sent.add(BOB, MessageKind.FILE, Outgoing(None, str(odd)), 1)
    assert paths.from_kept(store.sent.all()[0].path or "") == odd
    store.close()
    remove_passphrase(odd, lambda: "secret")
    store = Store.open(odd)
    assert paths.from_kept(store.sent.all()[0].path or "") == odd
    store.close()


def test_a_file_goes_and_comes_once(
    alice: Messenger, make: Callable[..., Messenger], odd: Path, gateway: FakeGateway, tmp_path: Path
) -> None:
    make("bob").register("bob")
    path = odd / os.fsdecode(b"\xff.txt")
    path.write_text("words")
    alice.agree_on_key("bob")
    alice.home.sending.send_file("bob", path)
    (sent,) = [message for message in alice.history() if isinstance(message, SentMessage)]
    assert sent.path == path
    with make("bob", save_dir=odd / "in") as bob:
        saved = [message.content.path for message in bob.receive() if isinstance(message.content, SavedFile)]
        assert saved == [odd / "in" / "messageu-alice-2.txt"]
        assert list(bob.receive()) == []
        assert list((odd / "in").iterdir()) == saved
        assert [one.content.path for one in bob.seen(0) if isinstance(one.content, SavedFile)] == saved


def test_a_file_that_can_not_be_noted_is_not_left_to_be_saved_again(
    alice: Messenger, bob: Messenger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("words")
    alice.agree_on_key("bob")
    alice.home.sending.send_file("bob", tmp_path / "file")
    list(bob.receive(most=1))

    def full(*_: object) -> None:
        raise StoreUnusable("There is no room.", "Free some.")

    with monkeypatch.context() as broken:
        broken.setattr(bob.home.store.inbox, "begin_showing", full)
        for _ in range(3):
            with pytest.raises(StoreUnusable):
                list(bob.receive())
            assert list((tmp_path / "saved").iterdir()) == []
    assert [type(message.content) for message in bob.receive()] == [SavedFile]
    assert len(list((tmp_path / "saved").iterdir())) == 1


COMMANDS: list[tuple[list[bytes], int]] = [
    ([b"send", b"bob", b"--file", b"{odd}/\xff.txt"], 0),
    ([b"send", b"bob", b"--file", b"{odd}/\xff.txt", b"--json"], 0),
    ([b"send", b"bob", b"--file", b"{odd}/missing\xff"], 2),
    ([b"send", b"bob", b"\xff"], 2),
    ([b"send", b"\xff", b"text"], 7),
    ([b"key", b"\xff"], 7),
    ([b"verify", b"\xff"], 7),
    ([b"verify", b"bob", b"--safety-number", b"\xff"], 4),
    ([b"register", b"\xff"], 2),
    ([b"history", b"\xff"], 0),
    ([b"history", b"--search", b"\xff"], 0),
    ([b"users", b"--server", b"\xff:1357"], 2),
    ([b"doctor", b"--json"], 0),
    ([b"config", b"show", b"--json"], 0),
    ([b"whoami", b"--passphrase-file", b"{odd}/missing\xff"], 0),
    ([b"passphrase", b"set", b"--new-passphrase-file", b"{odd}/missing\xff"], 2),
    ([b"passphrase", b"set", b"--new-passphrase-command", b"printf \xff"], 2),
    ([b"passphrase", b"set", b"--new-passphrase-command", b"printf '\\377'"], 2),
    ([b"watch", b"--exec", b"'\xff"], 2),
    ([b"export", b"{odd}/export\xff", b"--passphrase-file", b"{odd}/\xff.txt"], 0),
    ([b"import", b"{odd}/missing\xff", b"--passphrase-file", b"{odd}/\xff.txt"], 2),
    ([b"completion", b"\xff"], 2),
    ([b"\xff"], 2),
    ([b"--\xff", b"--json"], 2),
    ([], 0),
]


@pytest.mark.parametrize(("words", "code"), COMMANDS, ids=[repr(b" ".join(words)) for words, _ in COMMANDS])
def test_no_command_breaks_over_bytes_that_are_no_utf8(
    odd: Path, gateway: FakeGateway, make: Callable[..., Messenger], words: list[bytes], code: int
) -> None:
    (odd / os.fsdecode(b"\xff.txt")).write_text("many words\n")
    with make("bob") as bob:
        bob.register("bob")
    with make(str(odd / "alice")) as alice:
        alice.register("alice")
    where = ["--home", str(odd / "alice"), "--save-dir", str(odd / "in"), "--server", str(gateway.address)]
    raw = os.fsencode(odd)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "client", *where, *[word.replace(b"{odd}", raw) for word in words]],
        # What the console is asked for.
        input=b"130\nbob\n152\nbob\n153\nbob\n"
        + raw
        + b"/\xff.txt\n153\nbob\n/none\xff\n120\n130\n\xff\n150\nbob\n\xff\n0\n",
        env={**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(odd / "none.toml")},
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    said = done.stderr.decode("utf-8")
    assert "Traceback" not in said
    assert done.returncode == code, said
    if b"--json" in words:
        for line in [*said.splitlines(), *done.stdout.decode("utf-8").splitlines()]:
            json.loads(line)
    if not words:
        assert b"Traceback" not in done.stdout
        assert done.stdout.count(b"MessageU client at your service.") == 8
        assert b"Sent to bob." in done.stdout
        assert b"/none\\udcff" in done.stdout


def test_no_text_of_the_store_is_anything_but_utf8(odd: Path) -> None:
    # What SQLite would be given otherwise: the reason for all of this.
    with pytest.raises(UnicodeEncodeError):
        apsw.Connection(":memory:").execute("SELECT ?", (str(odd),))
