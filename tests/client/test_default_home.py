"""Where the home is if none is named, and the server that it remembers."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from client.__main__ import main
from client.settings import Flags, Settings
from common.errors import SettingRejected
from tests.client.fake_gateway import Answer, ExtendedMailroom, FakeGateway
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, of a user with a data folder and nothing else."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "config.toml"))
    for name in ("MESSAGEU_HOME", "MESSAGEU_SERVER", "MESSAGEU_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("client.connection.server_link.CLOSING_GRACE", 0.001)
    return folder


@pytest.fixture
def data(here: Path) -> Path:
    """The home of who names none."""
    return here.parent / "share" / "messageu"


@pytest.fixture
def other() -> Iterator[FakeGateway]:
    mailroom = ExtendedMailroom()
    mailroom.server_id = bytes(range(16))
    with FakeGateway(mailroom) as fake:
        yield fake


def settings(here: Path, *, published: bool = False) -> Settings:
    return Settings(Flags(), os.environ, here, published=published)


# --- the home
# --------------------------------------------------------------------------------------------------


def test_a_home_that_nobody_names_is_in_the_data_folder(here: Path, data: Path, tmp_path: Path) -> None:
    assert settings(here).home_setting() == ("home", str(data), "default: your data folder")
    assert not data.parent.exists()
    # Whatever names one comes first.
    (tmp_path / "config.toml").write_text('home = "/configured"\n')
    assert settings(here).home_setting().value == "/configured"
    (here / "my.info").touch()
    assert settings(here).home_setting().value == "/configured"


@pytest.mark.parametrize(
    "names", [["me.info"], ["my.info"], ["my.info.pending"], [".imported"], ["store.db", "store.use"]]
)
def test_a_home_in_the_present_folder_is_still_found(here: Path, names: list[str]) -> None:
    """Published clients keep theirs there, and so did earlier versions of this one."""
    for name in names:
        (here / name).touch()
    for published in (False, True):
        assert settings(here, published=published).home == here


@pytest.mark.parametrize("name", ["server.info", "store.db", "notes.txt"])
def test_what_makes_no_home_of_the_present_folder(here: Path, data: Path, name: str) -> None:
    (here / name).write_text("localhost:1\n")
    assert settings(here).home == data


def test_the_console_lives_beside_server_info_as_published(here: Path, data: Path) -> None:
    assert settings(here, published=True).home == data
    (here / "server.info").write_text("localhost:1\n")
    assert settings(here, published=True).home == here
    assert settings(here, published=True).passed_over() is None
    data.mkdir(parents=True)
    (data / "my.info").touch()
    assert settings(here, published=True).passed_over() == data
    assert settings(here).passed_over() is None


def test_a_user_without_a_data_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_data_path", unknown)
    with pytest.raises(SettingRejected, match="--home DIR or MESSAGEU_HOME"):
        settings(here)
    (here / "server.info").write_text("localhost:1\n")
    assert settings(here, published=True).passed_over() is None
    (here / "me.info").touch()
    assert settings(here).home == here


def test_who_names_no_home_is_shown_where_it_is(
    here: Path, data: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["register", "alice", "--server", str(gateway.address)]) == 0
    assert f"Your identity, keys and messages are kept in {data}; --home names another folder.\n" in (
        capsys.readouterr().err
    )
    assert (data / "my.info").exists()
    assert not list(here.iterdir())
    assert main(["register", "bob", "--server", str(gateway.address), "--home", str(tmp_path / "bob")]) == 0
    assert "are kept in" not in capsys.readouterr().err


def test_the_console_shows_where_a_home_is(
    here: Path, data: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("110\nalice\n0\n"))
    assert main(["--server", str(gateway.address)]) == 0
    assert f"Registered as alice.\nYour identity, keys and messages are kept in {data};" in capsys.readouterr().out
    assert (data / "server.info").read_text() == f"{gateway.address}\n"
    # As published: beside server.info, and no word about it.
    (here / "server.info").write_text(f"{gateway.address}\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("110\nbob\n0\n"))
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "are kept in" not in out
    assert err == ""
    assert (here / "me.info").read_text().startswith("bob\n")


# --- the server
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["--server", "MESSAGEU_SERVER", "server.info"])
def test_the_server_of_the_registration_is_remembered(
    named: str, here: Path, data: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["register", "alice"]
    match named:
        case "--server":
            words += ["--server", str(gateway.address)]
        case "MESSAGEU_SERVER":
            monkeypatch.setenv("MESSAGEU_SERVER", str(gateway.address))
        case _:
            (here / "server.info").write_text(f"{gateway.address}\n")
    assert main(words) == 0
    monkeypatch.delenv("MESSAGEU_SERVER", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["users"]) == 0
    assert settings(tmp_path).server_setting() == ("server", str(gateway.address), str(data / "server.info"))
    assert (data / "server.info").stat().st_mode & 0o777 == 0o600


def test_a_home_that_was_named_follows_the_present_folders_server(here: Path, gateway: FakeGateway) -> None:
    """A checkout's server.info is what several homes have in common: it is not copied into each."""
    (here / "server.info").write_text(f"{gateway.address}\n")
    assert main(["--home", "alice", "register", "alice"]) == 0
    assert not (here / "alice" / "server.info").exists()
    assert main(["--home", "alice", "users"]) == 0


def test_what_names_the_server_first(
    here: Path, data: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The order of docs/client.md, from the last to the first."""
    monkeypatch.setenv("MESSAGEU_ROOT", str(tmp_path))
    (tmp_path / "server.info").write_text("root:1\n")
    assert settings(here).server().host == "root"
    (here / "server.info").write_text("here:1\n")
    assert settings(here).server().host == "here"
    (tmp_path / "config.toml").write_text('server = "configured:1"\n')
    assert settings(here).server().host == "configured"
    assert main(["register", "alice", "--server", str(gateway.address)]) == 0
    assert settings(here).server() == gateway.address
    monkeypatch.setenv("MESSAGEU_SERVER", "environment:1")
    assert settings(here).server().host == "environment"
    assert Settings(Flags(server="flag:1"), os.environ, here).server().host == "flag"


def test_another_server_is_not_remembered_later(
    here: Path, data: Path, gateway: FakeGateway, other: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["register", "alice", "--server", str(gateway.address)]) == 0
    assert main(["register", "alice", "--server", str(other.address)]) == 2
    # Which server the account belongs to is no matter of addresses.
    assert main(["users", "--server", str(other.address)]) == 4
    assert "nothing was sent" in capsys.readouterr().err
    assert settings(here).server() == gateway.address
    (data / "server.info").write_text(f"{other.address}\n")
    assert main(["users"]) == 4


@pytest.mark.parametrize("before", ["localhost:1", "nonsense", ""])
def test_an_address_that_is_replaced_is_named(
    before: str, here: Path, data: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    data.mkdir(parents=True)
    (data / "server.info").write_text(before)
    assert main(["register", "alice", "--server", str(gateway.address)]) == 0
    told = f"named {before}" if before == "localhost:1" else "could not be used"
    assert f"{data / 'server.info'} {told}; it names {gateway.address} now.\n" in capsys.readouterr().err


def test_a_server_that_never_answered_is_not_remembered(here: Path, data: Path) -> None:
    assert main(["register", "alice", "--server", "127.0.0.1:1"]) == 3
    assert not (data / "server.info").exists()


def test_the_server_is_remembered_where_the_answer_was_lost(here: Path, data: Path, gateway: FakeGateway) -> None:
    """The server may know the name under this key by now: who completes the registration
    is to ask that one.
    """
    # The registration comes behind the hello, which the mailroom answers.
    gateway.script.extend([None, Answer(b"", close=True)])
    assert main(["register", "alice", "--server", str(gateway.address)]) != 0
    assert gateway.codes() == ["Hello", "Register"]
    assert (data / "my.info.pending").exists()
    assert settings(here).server() == gateway.address
    assert main(["register", "alice"]) == 0


def test_an_import_remembers_the_server_too(
    here: Path, data: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["register", "alice", "--server", str(gateway.address)]) == 0
    (tmp_path / "other").mkdir()
    (data / "my.info").rename(tmp_path / "other" / "my.info")
    (tmp_path / "other" / "server.info").write_text("localhost:1\n")
    shutil.rmtree(data)
    assert main(["import", str(tmp_path / "other" / "my.info"), "--server", "nonsense"]) == 2
    assert not data.exists()
    # The file's own server comes before that of the folder one happens to be in, and what is named
    # before both.
    (here / "server.info").write_text("here:1\n")
    assert main(["import", str(tmp_path / "other" / "my.info")]) == 0
    assert settings(here).server().host == "localhost"
    shutil.rmtree(data)
    capsys.readouterr()
    assert main(["import", str(tmp_path / "other" / "my.info"), "--server", str(gateway.address)]) == 0
    assert f"named localhost:1; it names {gateway.address} now." in capsys.readouterr().err
    assert settings(here).server() == gateway.address
    (tmp_path / "other" / "server.info").unlink()
    shutil.rmtree(data)
    assert main(["import", str(tmp_path / "other" / "my.info")]) == 0
    assert settings(here).server_setting().source == str(data / "server.info")


def test_a_home_that_the_console_passes_over_is_named_at_a_terminal(here: Path, data: Path) -> None:
    (here / "server.info").write_text("127.0.0.1:1\n")
    data.mkdir(parents=True)
    (data / "my.info").touch()
    command = [sys.executable, "-m", "client"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "200"}
    piped = subprocess.run(
        command, input=b"0\n", capture_output=True, env=environment, timeout=HANG_SECONDS, check=False
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    child = pexpect.spawn(
        command[0], command[1:], env=environment, timeout=HANG_SECONDS, encoding="utf-8", dimensions=(50, 500)
    )
    child.delaybeforesend = None
    child.expect_exact(f"for the one in your data folder use --home {data}")
    child.expect_exact("0) Exit client")
    child.sendline("0")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
