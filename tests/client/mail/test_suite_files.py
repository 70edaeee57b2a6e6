"""Files under cipher suite 1: names, and the streams behind payloads."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from client.errors import CipherError, FileUnreadable
from client.mail.outgoing_file import CHUNK, ToSend
from client.mail.received_files import Sealed, save
from client.mail.suite_files import name_of, read_parts, safe_name, seal_parts, stream_size, without_key
from client.store.spool import Spools
from client.suite1.file_stream import FileOpener
from client.suite1.payloads import About, File, Text, decoded, encoded
from client.suite1.values import Pair

if TYPE_CHECKING:
    from pathlib import Path

PAIR = Pair(b"a" * 16, b"b" * 16)


def file(name: str, size: int = 1) -> File:
    return File(About(bytes(16), 1), name, "", size, bytes(32), bytes(32), "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", ("report", ".pdf")),
        ("Grüße 2026 (1).tar.gz", ("Grüße 2026 (1).tar", ".gz")),
        ("../../etc/passwd", ("passwd", "")),
        ("C:\\Users\\x\\note.txt", ("note", ".txt")),
        (".bashrc", ("bashrc", "")),
        ("-rf", ("rf", "")),
        ("a\nb\x1b[31m.txt", ("a_b_[31m", ".txt")),
        ("evil\u202efdp.exe", ("evil_fdp", ".exe")),
        ("x" * 300 + ".txt", ("x" * 116, ".txt")),
        ("", ("messageu-bob-7", None)),
        ("...", ("messageu-bob-7", None)),
        ("/", ("messageu-bob-7", None)),
        ("\u202e", ("messageu-bob-7", None)),
    ],
)
def test_names_are_made_safe(given: str, kept: tuple[str, str | None]) -> None:
    assert safe_name(file(given), "bob", 7) == kept


def test_a_name_leaves_without_its_folder() -> None:
    assert name_of("/home/alice/secret folder/notes.txt") == "notes.txt"
    assert name_of(None) == ""
    assert len(name_of("ä" * 200).encode()) <= 255


def test_what_is_sealed_opens_and_has_the_size_that_its_payload_gives(tmp_path: Path) -> None:
    spools, checked = Spools(tmp_path), list[int]()
    content = b"content " * 50_000
    parts = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    sealed = seal_parts(spools, parts, PAIR, lambda count: b"k" * count, checked.append)
    assert sealed.size == len(content)
    assert spools.size(sealed.spool) == stream_size(file("x", len(content))) == checked[-1]
    opener = FileOpener(sealed.key, PAIR, sealed.size, sealed.digest)
    assert b"".join([*(map(opener.update, spools.read(sealed.spool, 4096))), opener.finish()]) == content
    with pytest.raises(CipherError):
        stream_size(file("x", 1 << 50))


def test_a_file_is_sealed_and_opened_in_less_memory_than_a_tenth_of_it(tmp_path: Path) -> None:
    spools, path, size = Spools(tmp_path / "spools"), tmp_path / "film.bin", 40_000_000
    with path.open("wb") as made:
        made.truncate(size)
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        with path.open("rb") as opened:
            parts = read_parts(ToSend(opened.fileno(), size), path, lambda done, total: seen.append((done, total)))
            sealed = seal_parts(spools, parts, PAIR, lambda count: b"k" * count, lambda _: None)
        opener = FileOpener(sealed.key, PAIR, sealed.size, sealed.digest)
        stream = Sealed(spools.read(sealed.spool, CHUNK), spools.size(sealed.spool), opener)
        saved = save(stream, tmp_path, "film", lambda done, total: seen.append((done, total)), ".mp4")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert saved.stat().st_size == size
    assert peak < size // 10
    # It goes in parts, both times.
    done = [0, *(at for at, _ in seen)]
    assert max(later - before for before, later in pairwise(done)) <= CHUNK


def test_a_file_that_is_too_large_or_shrinks_leaves_nothing(tmp_path: Path) -> None:
    spools = Spools(tmp_path / "spools")

    def refuse(size: int) -> None:
        raise FileUnreadable(f"{size} is too much")

    with pytest.raises(FileUnreadable):
        seal_parts(spools, iter([b"x"]), PAIR, bytes, refuse)
    assert not list((tmp_path / "spools").iterdir())
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with path.open("rb") as opened, pytest.raises(FileUnreadable, match="shorter"):
        list(read_parts(ToSend(opened.fileno(), 10), path, None))


def test_a_payload_without_its_key_says_the_rest() -> None:
    sent = file("report.pdf", 70)._replace(key=b"k" * 32, caption="read this")
    assert decoded(without_key(encoded(sent))) == sent._replace(key=bytes(32))
    text = encoded(Text(About(bytes(16), 1), "hello"))
    assert without_key(text) == text
