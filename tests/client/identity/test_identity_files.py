from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

import pytest

from client.errors import AlreadyRegistered, NotRegistered
from client.identity import identity_files
from client.identity.identity_files import Identity, PendingRegistration
from common.errors import FileUnwritten, InfoFileError
from common.values import ClientId, Username

if TYPE_CHECKING:
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey

ID = ClientId(bytes.fromhex("00112233445566778899aabbccddeeff"))
HEAD = f"alice\n{ID.hex()}\n"


@pytest.fixture
def identity(private_key: PrivateKey) -> Identity:
    return Identity(Username("alice"), ID, private_key)


def same(one: Identity, other: Identity) -> bool:
    return one[:2] == other[:2] and one.private_key.der() == other.private_key.der()


def test_what_is_saved_is_loaded(tmp_path: Path, identity: Identity) -> None:
    assert not identity_files.exists(tmp_path)
    identity_files.save(tmp_path, identity)
    assert identity_files.exists(tmp_path)
    assert same(identity_files.load(tmp_path), identity)


def test_the_files_as_published(tmp_path: Path, identity: Identity) -> None:
    identity_files.save(tmp_path, identity)
    assert (tmp_path / "me.info").read_text() == HEAD
    lines = (tmp_path / "my.info").read_text().splitlines()
    assert lines[:2] == ["alice", ID.hex()]
    assert base64.b64decode("".join(lines[2:])) == identity.private_key.der()
    assert stat.S_IMODE((tmp_path / "my.info").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.info", "my.info"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered) as caught:
        identity_files.load(tmp_path)
    assert caught.value.advice


@pytest.mark.parametrize("file", ["me.info", "my.info"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [40, 64, 5000])
@pytest.mark.parametrize("upper", [True, False])
def test_files_of_other_programs(
    tmp_path: Path, identity: Identity, file: str, newline: str, width: int, upper: bool
) -> None:
    text = base64.b64encode(identity.private_key.der()).decode()
    lines = ["alice", ID.hex().upper() if upper else ID.hex()]
    lines += [text[start : start + width] for start in range(0, len(text), width)]
    (tmp_path / file).write_bytes((newline.join(lines) + newline).encode())
    assert same(identity_files.load(tmp_path), identity)


def test_the_key_may_be_in_the_other_file(tmp_path: Path, identity: Identity) -> None:
    text = base64.b64encode(identity.private_key.der()).decode()
    (tmp_path / "my.info").write_text(HEAD)
    (tmp_path / "me.info").write_text(HEAD + text)
    assert same(identity_files.load(tmp_path), identity)


def test_two_files_of_two_users(tmp_path: Path, identity: Identity) -> None:
    identity_files.save(tmp_path, identity)
    (tmp_path / "me.info").write_text(f"bob\n{ID.hex()}\n")
    with pytest.raises(InfoFileError, match=r"me\.info, line 1: names another user"):
        identity_files.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "user name"),
        (b" \n" + ID.hex().encode(), 1, "user name"),
        (b"al\x07ice\n", 1, "no control"),
        (b"alice\n", 2, "32 hex digits"),
        (b"alice\nxyz\n", 2, "32 hex digits"),
        (b"alice\n\xff\xfe\n", 2, "plain text"),
        (HEAD.encode(), 3, "private key"),
        (HEAD.encode() + b"AAAA\n!!!!\n", 4, "other characters"),
        (HEAD.encode() + b"AAAAA\n", 3, "no whole base64"),
        (HEAD.encode() + b"AAAA\n", 3, "can't be used"),
    ],
)
def test_a_corrupt_file_is_told_with_its_line(tmp_path: Path, content: bytes, line: int, problem: str) -> None:
    (tmp_path / "my.info").write_bytes(content)
    with pytest.raises(InfoFileError, match=problem) as caught:
        identity_files.load(tmp_path)
    assert caught.value.line == line
    assert str(tmp_path / "my.info") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "my.info").mkdir()
    with pytest.raises(InfoFileError, match="can't be read"):
        identity_files.load(tmp_path)


def test_a_file_that_is_far_too_long(tmp_path: Path) -> None:
    (tmp_path / "my.info").write_bytes(b"x" * 100_000)
    with pytest.raises(InfoFileError, match="too long"):
        identity_files.load(tmp_path)


def test_a_pending_registration(tmp_path: Path, private_key: PrivateKey) -> None:
    assert identity_files.load_pending(tmp_path) is None
    identity_files.save_pending(tmp_path, PendingRegistration(Username("alice"), private_key))
    assert stat.S_IMODE((tmp_path / "my.info.pending").stat().st_mode) == 0o600
    assert not identity_files.exists(tmp_path)
    loaded = identity_files.load_pending(tmp_path)
    assert loaded is not None
    assert loaded.name == "alice"
    assert loaded.private_key.der() == private_key.der()
    identity_files.drop_pending(tmp_path)
    assert identity_files.load_pending(tmp_path) is None


def test_a_pending_registration_without_its_key(tmp_path: Path) -> None:
    (tmp_path / "my.info.pending").write_text("alice\n")
    with pytest.raises(InfoFileError, match="line 2"):
        identity_files.load_pending(tmp_path)


def test_death_between_the_two_files(tmp_path: Path, identity: Identity) -> None:
    identity_files.save(tmp_path, identity)
    (tmp_path / "me.info").unlink()
    identity_files.save_pending(tmp_path, PendingRegistration(identity.name, identity.private_key))
    identity_files.complete(tmp_path, identity_files.load(tmp_path))
    assert (tmp_path / "me.info").read_text() == HEAD
    assert identity_files.load_pending(tmp_path) is None


def test_a_lonely_my_info_stays_alone(tmp_path: Path, identity: Identity) -> None:
    identity_files.save(tmp_path, identity)
    (tmp_path / "me.info").unlink()
    identity_files.complete(tmp_path, identity)
    assert not (tmp_path / "me.info").exists()


def test_unfinished_registrations_are_kept_apart(tmp_path: Path, private_key: PrivateKey) -> None:
    for number in (1, 2):
        identity_files.save_pending(tmp_path, PendingRegistration(Username("alice"), private_key))
        assert identity_files.set_pending_aside(tmp_path).name == f"my.info.unfinished-{number}"
    assert identity_files.load_pending(tmp_path) is None


def test_too_many_unfinished_registrations(tmp_path: Path, private_key: PrivateKey) -> None:
    for number in range(1, 1000):
        (tmp_path / f"my.info.unfinished-{number}").touch()
    identity_files.save_pending(tmp_path, PendingRegistration(Username("alice"), private_key))
    with pytest.raises(AlreadyRegistered):
        identity_files.set_pending_aside(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity_files.write_whole(tmp_path / "file", "old")

    def no_sync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client.identity.identity_files.os.fsync", no_sync)
    with pytest.raises(
        FileUnwritten, match=r"There is no room to write .*/file \(No space left on device\)\.$"
    ) as full:
        identity_files.write_whole(tmp_path / "file", "new")
    assert full.value.advice == "Free some space and try again."
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
