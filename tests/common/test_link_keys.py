"""The files of the link's keys: modes, wholeness, and what a worker that runs sees of them."""

import stat
from pathlib import Path

import pytest

from common import link_keys
from common.errors import SettingRejected
from common.link_keys import FOLDER, GATEWAY, WORKER, AllowedKeys, KeyPair, keep, load, write_allowed

PAIR = KeyPair(b"p" * 32, b"s" * 32)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_kept_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    assert load(tmp_path, WORKER) is None
    keep(tmp_path, WORKER, PAIR)
    assert load(tmp_path, WORKER) == PAIR
    assert load(tmp_path, GATEWAY) is None
    assert (mode(tmp_path / FOLDER), mode(tmp_path / FOLDER / WORKER)) == (0o700, 0o600)
    with pytest.raises(SettingRejected, match="there is a key already"):
        keep(tmp_path, WORKER, KeyPair(b"o" * 32, b"t" * 32))
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [WORKER]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "no key of the link"), ("public x\nsecret y\n", "no key of the link"), ("\udcff", "can't be read")],
)
def test_a_pair_that_is_none(tmp_path: Path, text: str, sentence: str) -> None:
    keep(tmp_path, WORKER, PAIR)
    (tmp_path / FOLDER / WORKER).write_text(text, errors="surrogateescape")
    with pytest.raises(SettingRejected, match=sentence):
        load(tmp_path, WORKER)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, WORKER, PAIR)
    write_allowed(tmp_path, {PAIR.public: ""})
    for name, read in ((WORKER, lambda: load(tmp_path, WORKER)), ("allowed", lambda: link_keys.allowed(tmp_path))):
        (tmp_path / FOLDER / name).chmod(0o640)
        with pytest.raises(SettingRejected, match=r"others can read .*0640"):
            read()


def test_what_is_allowed(tmp_path: Path) -> None:
    assert link_keys.allowed(tmp_path) == {}
    keys = {b"1" * 32: "the one in Basel", b"2" * 32: ""}
    write_allowed(tmp_path, keys)
    assert link_keys.allowed(tmp_path) == keys
    assert mode(tmp_path / FOLDER / "allowed") == 0o600
    (tmp_path / FOLDER / "allowed").write_text("nonsense\n")
    with pytest.raises(SettingRejected, match="line 1"):
        link_keys.allowed(tmp_path)


def test_a_worker_sees_what_changes(tmp_path: Path) -> None:
    seen = AllowedKeys(tmp_path)
    assert seen() == frozenset()
    write_allowed(tmp_path, {b"1" * 32: ""})
    assert seen() == {b"1" * 32}
    assert seen() == {b"1" * 32}
    write_allowed(tmp_path, {b"2" * 32: "", b"3" * 32: ""})
    assert seen() == {b"2" * 32, b"3" * 32}
    (tmp_path / FOLDER / "allowed").write_text("nonsense\n")
    for _ in range(2):
        with pytest.raises(SettingRejected):
            seen()
    (tmp_path / FOLDER / "allowed").unlink()
    assert seen() == frozenset()


def test_a_name_is_one_line(tmp_path: Path) -> None:
    assert link_keys.name_for_people("gateway 2, Basel") == "gateway 2, Basel"
    for name in ("x" * 65, "a\nb", "a\x1b[2J"):
        with pytest.raises(SettingRejected, match="at most 64 characters"):
            link_keys.name_for_people(name)


def test_a_folder_that_can_not_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(SettingRejected, match="can't be written"):
        keep(tmp_path, WORKER, PAIR)
    with pytest.raises(SettingRejected, match="can't be read"):
        load(tmp_path, WORKER)
