"""The data folder and the place where the two programs meet."""

import os
import stat
from pathlib import Path

import pytest

from common.data_folder import (
    LONGEST_SOCKET_PATH,
    become_owner,
    data_folder,
    exclusive,
    link_endpoint,
    refuse_foreign_files,
    user_name,
)
from common.errors import SettingRejected
from storage_worker.engine.errors import StoreInUse


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_makes_itself_for_its_owner_alone(tmp_path: Path) -> None:
    assert data_folder({}, tmp_path) == tmp_path / "data"
    assert mode(tmp_path / "data") == 0o700
    assert data_folder({"MESSAGEU_DATA": str(tmp_path / "a" / "b")}, tmp_path) == tmp_path / "a" / "b"
    assert data_folder({"MESSAGEU_DATA": "c"}, tmp_path) == tmp_path / "c"


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SettingRejected, match="data"):
        data_folder({}, tmp_path)


def test_a_path_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(SettingRejected, match=r"caf\\udce9' is not UTF-8. Rename the folder"):
        data_folder({"MESSAGEU_DATA": str(folder)}, tmp_path)
    assert not folder.exists()
    # A link with another name leads to the same place.
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(SettingRejected, match="is not UTF-8"):
        data_folder({"MESSAGEU_DATA": "link"}, tmp_path)
    assert data_folder({"MESSAGEU_DATA": "café"}, tmp_path) == tmp_path / "café"


def test_both_programs_come_to_the_same_private_place(tmp_path: Path) -> None:
    endpoint = link_endpoint(tmp_path)
    assert endpoint == link_endpoint(tmp_path)
    folder = Path(endpoint.removeprefix("ipc://")).parent
    assert mode(folder) == 0o700
    folder.chmod(0o755)
    link_endpoint(tmp_path)
    assert mode(folder) == 0o700


def test_a_long_path_meets_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    endpoint = link_endpoint(deep)
    assert endpoint == link_endpoint(deep)
    assert endpoint != link_endpoint(deep.parent)
    assert len(endpoint.removeprefix("ipc://")) <= max(LONGEST_SOCKET_PATH, len(str(tmp_path)) + 60)


def test_a_meeting_place_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("")
    with pytest.raises(SettingRejected, match="link"):
        link_endpoint(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(SettingRejected, match="link"):
        link_endpoint(tmp_path)


def test_a_lock_is_held_by_one_and_let_go_whatever_happens(tmp_path: Path) -> None:
    lock, other = tmp_path / "a.lock", tmp_path / "b.lock"
    with pytest.raises(ZeroDivisionError), exclusive(lock, StoreInUse("taken")):
        assert mode(lock) == 0o600
        with pytest.raises(StoreInUse, match="taken"), exclusive(lock, StoreInUse("taken")):
            pass
        # Who was refused took nothing from who holds it, nor do others have to do with it.
        with pytest.raises(StoreInUse), exclusive(lock, StoreInUse("taken")):
            pass
        with exclusive(other, StoreInUse("taken")):
            raise ZeroDivisionError
    with exclusive(lock, StoreInUse("taken")), exclusive(other, StoreInUse("taken")):
        pass


def test_a_lock_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingRejected, match=f"the lock {tmp_path} can't be used"), exclusive(tmp_path, StoreInUse()):
        pass


def test_users_without_a_name_have_a_number() -> None:
    assert user_name(0) == "root"
    assert user_name(987_654_321) == "987654321"


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that belongs to another user, as far as this process sees; real users are in
    test_owner.py.
    """
    path = tmp_path / "store.generation"
    path.write_text("")
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    real = os.access
    monkeypatch.setattr(os, "access", lambda asked, mode: asked != path and real(asked, mode))
    return path


def test_a_file_of_another_user_is_named_with_the_command_that_mends_it(denied: Path) -> None:
    folder = denied.parent
    refuse_foreign_files(folder, ["mail.db", "worker.lock"])
    with pytest.raises(SettingRejected) as refused:
        refuse_foreign_files(folder, ["mail.db", "store.generation"])
    me, owner = user_name(os.geteuid()), user_name(denied.stat().st_uid)
    assert str(refused.value) == (
        f"{denied} belongs to {owner}: Permission denied. "
        f"As root, `chown -R {me} {folder}` gives all that is in there to this user, {me}"
    )


def test_ones_own_file_that_can_not_be_written(denied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = denied.stat().st_uid
    denied.chmod(0o400)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(SettingRejected) as refused:
        refuse_foreign_files(denied.parent, ["store.generation"])
    assert f"with mode 0400: `chmod -R u+rwX {denied.parent}` permits it" in str(refused.value)


def test_a_lock_that_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(SettingRejected, match=r"Permission denied\. As root, `chown -R "),
        exclusive(tmp_path, StoreInUse()),
    ):
        pass


def test_a_meeting_place_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_endpoint(tmp_path)
    user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: user)
    with pytest.raises(SettingRejected, match=r"link is not a folder of this user\. As root, `chown -R "):
        link_endpoint(tmp_path)


def test_root_goes_on_as_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, object]] = []
    status = os.stat_result((0o40700, 0, 0, 0, 1001, 1002, 0, 0, 0, 0))
    user = [0]

    def set_user(number: int) -> None:
        done.append(("user", number))
        user[0] = number

    monkeypatch.setattr(Path, "stat", lambda _path: status)
    monkeypatch.setattr(os, "geteuid", lambda: user[0])
    monkeypatch.setattr(os, "setgroups", lambda groups: done.append(("groups", groups)))
    monkeypatch.setattr(os, "setgid", lambda number: done.append(("group", number)))
    monkeypatch.setattr(os, "setuid", set_user)
    become_owner(tmp_path)
    # In another order the system would not let it do the rest.
    assert done == [("groups", []), ("group", 1002), ("user", 1001)]


def test_others_go_on_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become_owner(tmp_path)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    become_owner(tmp_path)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(SettingRejected, match=f"belongs to {user_name(owner)}: run this command as {user_name(owner)}"):
        become_owner(tmp_path)
