"""Names and extensions of received files, which are written whole or not at all."""

from __future__ import annotations

import fcntl
import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.crypto.ciphers import Decryptor, symmetric_key
from client.errors import CipherError, FileUnsaved
from client.mail import received_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = symmetric_key(bytes(16))


def sealed(plain: bytes, chunk: int = 1000) -> received_files.Sealed:
    content = ciphers.encrypt(KEY, plain)
    return received_files.Sealed(
        (content[at : at + chunk] for at in range(0, len(content), chunk)), len(content), Decryptor(KEY)
    )


def archive(name: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr(name, "words")
    return memory.getvalue()


@pytest.mark.parametrize(
    ("beginning", "ending"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), ".png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(40), ".jpg"),
        (b"%PDF-1.7\n" + bytes(40), ".pdf"),
        (archive("a"), ".zip"),
        (b"plain words\r\n\tand more", ".txt"),
        ("grüße".encode(), ".txt"),
        (b"<!DOCTYPE html><html><body>", ".txt"),
        (("x" + "ü" * 5000).encode()[:8192], ".txt"),
        (b"", ""),
        (b"\0\1\2\3", ""),
        (b"\xff\xfe\xfa", ""),
    ],
)
def test_an_ending_by_the_content(beginning: bytes, ending: str) -> None:
    assert received_files.ending(beginning) == ending


def test_a_name_has_nothing_of_a_path() -> None:
    assert received_files.base_name("../é/\x1b" + "a" * 99, 7) == "messageu-______" + "a" * 34 + "-7"
    assert received_files.base_name("", 7) == "messageu-_-7"


def test_a_file_is_saved_whole_and_private(tmp_path: Path) -> None:
    moved: list[tuple[int, int]] = []
    path = received_files.save(
        sealed(b"words " * 1000), tmp_path / "new" / "folder", "name", lambda *at: moved.append(at)
    )
    assert path == tmp_path / "new" / "folder" / "name.txt"
    assert path.read_bytes() == b"words " * 1000
    assert path.stat().st_mode & 0o777 == 0o600
    assert moved[0] == (1000, 6016)
    assert moved[-1] == (6016, 6016)
    assert received_files.save(sealed(b"others"), path.parent, "name").name == "name-1.txt"
    assert path.read_bytes() == b"words " * 1000


def broken() -> Iterator[bytes]:
    yield bytes(1000)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "failure"),
    [(iter([bytes(100)]), CipherError), (iter([bytes(160)]), CipherError), (broken(), KeyboardInterrupt)],
    ids=["half a block", "another key", "an interrupt"],
)
def test_nothing_is_left_of_what_was_not_saved(
    tmp_path: Path, content: Iterator[bytes], failure: type[BaseException]
) -> None:
    with pytest.raises(failure):
        received_files.save(received_files.Sealed(content, 160, Decryptor(KEY)), tmp_path, "name")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileUnsaved, match="it is kept") as caught:
        received_files.save(sealed(b"words"), tmp_path / "file", "name")
    assert "--save-dir" in caught.value.advice


def test_a_link_that_lies_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "name.txt").symlink_to(tmp_path / "elsewhere")
    path = received_files.save(sealed(b"words"), tmp_path, "name")
    assert not (tmp_path / "elsewhere").exists()
    assert path.name == "name-1.txt"


def left_over(folder: Path, name: str = ".messageu-abcdefg_") -> Path:
    path = folder / name
    path.write_bytes(b"plain words")
    path.chmod(0o600)
    return path


def test_what_a_kill_left_is_swept_away(tmp_path: Path) -> None:
    left_over(tmp_path)
    others = [left_over(tmp_path, name) for name in (".messageu-abc", ".messageu-ABCDEFGH", "x.messageu-abcdefgh")]
    shared = left_over(tmp_path, ".messageu-shared_1")
    shared.chmod(0o644)
    link = tmp_path / ".messageu-link1234"
    link.symlink_to(others[0])
    (tmp_path / ".messageu-folder12").mkdir()
    os.mkfifo(tmp_path / ".messageu-pipe1234", 0o600)
    received_files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(path.name for path in others), shared.name, link.name, ".messageu-folder12", ".messageu-pipe1234"]
    )
    received_files.sweep(tmp_path / "none")


def test_what_another_process_writes_just_now_stays(tmp_path: Path) -> None:
    def swept(content: bytes) -> Iterator[bytes]:
        yield content[:1000]
        assert len(list(tmp_path.iterdir())) == 1
        received_files.sweep(tmp_path)
        yield content[1000:]

    content = ciphers.encrypt(KEY, b"words " * 1000)
    path = received_files.save(received_files.Sealed(swept(content), len(content), Decryptor(KEY)), tmp_path, "name")
    assert path.read_bytes() == b"words " * 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_swept_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    swept: list[Path] = []

    def flock(descriptor: int, how: int) -> None:
        if not swept:
            # Another process was faster.
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        real(descriptor, how)

    monkeypatch.setattr("client.mail.received_files.fcntl.flock", flock)
    assert received_files.save(sealed(b"words"), tmp_path, "name").read_bytes() == b"words"
    assert len(swept) == 1
    assert len(list(tmp_path.iterdir())) == 1
