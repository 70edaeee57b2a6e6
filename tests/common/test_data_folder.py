"""The data folder and the place where the two programs meet."""

import stat
from pathlib import Path

import pytest

from common.data_folder import LONGEST_SOCKET_PATH, data_folder, exclusive, gateway_lock, link_endpoint
from common.errors import SettingRejected, SlotInUse, StoreInUse


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
    with pytest.raises(SettingRejected, match=f"the lock {tmp_path} can't be used"), exclusive(tmp_path, SlotInUse()):
        pass


def test_a_slot_is_held_by_one_gateway_and_every_gateway_has_its_own(tmp_path: Path) -> None:
    with gateway_lock(tmp_path, 0), gateway_lock(tmp_path, 1):
        for slot in (0, 1):
            with (
                pytest.raises(SlotInUse, match=f"another gateway runs on {tmp_path}, slot {slot}"),
                gateway_lock(tmp_path, slot),
            ):
                pass
    with gateway_lock(tmp_path, 0):
        pass
