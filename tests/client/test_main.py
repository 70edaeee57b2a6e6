"""The client as a process: through pipes, and in a pseudo-terminal."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from client.__main__ import main
from client.settings import Flags, Settings
from client.terminal.menu import MENU
from common.errors import InfoFileError, SettingRejected
from common.server_address import ServerAddress
from tests.client.fake_gateway import SILENCE, FakeGateway
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.messenger import Messenger

ROOT = Path(__file__).parent.parent.parent
SERVER = ServerAddress("localhost", 1357)


def run(home: Path, gateway: FakeGateway, typed: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "client", "--home", str(home), "--server", str(gateway.address), *options]
    return subprocess.run(command, input=typed, capture_output=True, cwd=ROOT, timeout=HANG_SECONDS, check=False)


def between_menus(output: bytes) -> list[str]:
    return output.decode().split(f"{MENU}\n")[1:]


# --- where the server is
# ----------------------------------------------------------------------------------------


def server_address(option: str | None, home: Path, environment: dict[str, str], here: Path) -> ServerAddress:
    return Settings(Flags(home=home, server=option), environment, here).server()


def save_folder(option: Path | None, environment: dict[str, str]) -> Path:
    return Settings(Flags(save_dir=option), environment, Path()).save_dir()


def test_the_option_comes_first(tmp_path: Path) -> None:
    (tmp_path / "server.info").write_text("elsewhere:1")
    assert server_address("localhost:1357", tmp_path, {}, tmp_path) == SERVER
    with pytest.raises(SettingRejected, match="--server"):
        server_address("nonsense", tmp_path, {}, tmp_path)


def test_server_info_in_the_home_then_here_then_in_the_project(tmp_path: Path) -> None:
    home, here, root = (tmp_path / name for name in ("home", "here", "root"))
    for folder in (home, here, root):
        folder.mkdir()
    environment = {"MESSAGEU_ROOT": str(root)}
    with pytest.raises(SettingRejected, match=r"server\.info"):
        server_address(None, home, environment, here)
    (root / "server.info").write_text("root:1357\n")
    assert server_address(None, home, environment, here).host == "root"
    with pytest.raises(SettingRejected):
        server_address(None, home, {}, here)
    (here / "server.info").write_text("here:1357\n")
    assert server_address(None, home, environment, here).host == "here"
    (home / "server.info").write_text("home:1357\n")
    assert server_address(None, home, environment, here).host == "home"
    (home / "server.info").write_text("damaged\n")
    with pytest.raises(InfoFileError, match=r"home/server\.info, line 1"):
        server_address(None, home, environment, here)


def test_where_files_go(tmp_path: Path) -> None:
    assert save_folder(None, {}) == Path(tempfile.gettempdir())
    assert save_folder(None, {"MESSAGEU_SAVE_DIR": "/x"}) == Path("/x")
    assert save_folder(tmp_path, {"MESSAGEU_SAVE_DIR": "/x"}) == tmp_path


@pytest.mark.parametrize("options", [["--server", "nonsense"], []])
def test_a_start_that_can_not_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESSAGEU_ROOT", raising=False)
    assert main(["--home", str(tmp_path / "home"), *options]) == 2
    told = capsys.readouterr().err
    assert told.startswith("messageu: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_a_store_that_can_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store.db").write_bytes(b"damaged" * 1000)
    assert main(["--home", str(tmp_path), "--server", "localhost:1"]) == 2
    assert "store.db is damaged" in capsys.readouterr().err


# --- pipes
# --------------------------------------------------------------------------------------------------


def test_two_consoles_through_pipes(tmp_path: Path, gateway: FakeGateway) -> None:
    (tmp_path / "file.bin").write_bytes(os.urandom(100_000))
    alice, bob, saved = tmp_path / "a", tmp_path / "b", tmp_path / "saved"
    assert run(alice, gateway, b"110\nalice\n").returncode == 0
    assert stat.S_IMODE(alice.stat().st_mode) == 0o700
    assert run(bob, gateway, b"110\nbob\n120\n151\nalice\n0\n").returncode == 0
    done = run(
        alice, gateway, b"140\n130\nbob\n152\nbob\n150\nbob\nhello\n153\nbob\n%s\n" % bytes(tmp_path / "file.bin")
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert between_menus(done.stdout)[0] == "From: bob\nContent:\nRequest for symmetric key\n-----<EOM>-----\n\n"
    shown = between_menus(run(bob, gateway, b"140\n", "--save-dir", str(saved)).stdout)[0].split("\n\n")
    assert shown[0] == "From: alice\nContent:\nsymmetric key received\n-----<EOM>-----"
    assert shown[1] == "From: alice\nContent:\nhello\n-----<EOM>-----"
    path = Path(shown[2].splitlines()[2])
    assert path.parent == saved
    assert path.read_bytes() == (tmp_path / "file.bin").read_bytes()


def test_bytes_that_are_no_text(tmp_path: Path, gateway: FakeGateway) -> None:
    done = run(tmp_path / "a", gateway, b"110\nalice\n150\n\xff\xfe\n\xff\n\xff\n")
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_terminal_without_the_letters(tmp_path: Path, gateway: FakeGateway) -> None:
    gateway.mailroom.register("bob")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "client", "--home", str(tmp_path / "a"), "--server", str(gateway.address)]
    done = subprocess.run(
        command,
        input="żółw 🐢\n".encode(),
        capture_output=True,
        cwd=ROOT,
        env=environment,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert b"There is no choice" in done.stdout


def test_a_reader_that_goes_away(tmp_path: Path, gateway: FakeGateway) -> None:
    command = [sys.executable, "-m", "client", "--home", str(tmp_path / "a"), "--server", str(gateway.address)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        client.stdout.readline()
        client.stdout.close()
        client.stdin.write(b"1\n" * 10_000)
        client.stdin.close()
        assert client.stderr.read() == b""
        assert client.wait(timeout=HANG_SECONDS) == 1


@pytest.mark.parametrize(
    ("closed", "command", "code", "out", "err"),
    [
        ("<&-", "users", 0, "bob\n", ""),
        ("<&-", "send bob -", 2, "", "the input was empty"),
        ("<&-", "verify bob", 0, "verified: no\n", ""),
        ("<&-", "console", 0, "\n?\n", ""),
        (">&-", "users", 1, "", "Standard output is closed. Open it"),
        ("2>&-", "users", 0, "bob\n", ""),
        ("2>&-", "key bbo", 7, "", ""),
        ("<&- >&- 2>&-", "users", 1, "", ""),
        (">&-", "--help", 0, "", "usage: messageu"),
    ],
)
def test_streams_that_are_closed(
    tmp_path: Path, alice: Messenger, gateway: FakeGateway, closed: str, command: str, code: int, out: str, err: str
) -> None:
    """As some schedulers start programs: no file of ours gets their numbers, and nothing
    is asked.
    """
    gateway.mailroom.register("bob", alice.identity().private_key.public_key())
    start = shlex.join([sys.executable, "-m", "client", "--home", str(tmp_path / "alice")])
    line = f"{start} --server {gateway.address} {command} {closed}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == code, done
    assert done.stdout.endswith(out)
    assert bool(done.stdout) == bool(out)
    assert (err in done.stderr) if err else not done.stderr


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    line = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {sys.executable} -m client"
    for command in ("whoami", "console"):
        done = subprocess.run(
            ["bash", "-c", f"{line} {command}"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=HANG_SECONDS,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("messageu: The folder that you are in can't be used (No such file or directory)")


# --- a terminal
# -----------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path, gateway: FakeGateway) -> Iterator[pexpect.spawn[str]]:
    options = ["-m", "client", "--home", str(tmp_path / "alice"), "--server", str(gateway.address)]
    child = pexpect.spawn(sys.executable, options, cwd=str(ROOT), encoding="utf-8", timeout=HANG_SECONDS)
    yield child
    child.close(force=True)


def end_of_menu(child: pexpect.spawn[str]) -> str:
    child.expect_exact("?\r\n")
    before = child.before
    assert isinstance(before, str)
    return before


def test_a_person_is_offered_a_key_and_sees_a_bar(
    tmp_path: Path, gateway: FakeGateway, terminal: pexpect.spawn[str]
) -> None:
    run(tmp_path / "bob", gateway, b"110\nbob\n")
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    end_of_menu(terminal)
    terminal.sendline("110")
    terminal.expect_exact("User name: ")
    terminal.sendline("alice")
    terminal.expect_exact("Registered as alice.")
    end_of_menu(terminal)
    terminal.sendline("153")
    terminal.expect_exact("User name: ")
    terminal.sendline("bob")
    terminal.expect_exact("Path of the file: ")
    terminal.sendline(str(tmp_path / "large"))
    terminal.expect_exact("Make one and send it first? [Y/n]")
    terminal.sendline("")
    terminal.expect_exact("A new symmetric key is made and sent to bob.")
    terminal.expect("Sending .*MB")
    terminal.expect_exact("Sent to bob.")
    end_of_menu(terminal)
    terminal.sendline("0")
    terminal.expect(pexpect.EOF)
    assert gateway.mailroom.boxes[gateway.mailroom.id_of("bob")][-1].kind == 4


def test_ctrl_c(gateway: FakeGateway, terminal: pexpect.spawn[str]) -> None:
    gateway.script.append(SILENCE)
    end_of_menu(terminal)
    terminal.sendline("110")
    terminal.expect_exact("User name: ")
    terminal.sendintr()
    terminal.expect_exact("Interrupted.")
    end_of_menu(terminal)
    terminal.sendline("110")
    terminal.sendline("alice")
    terminal.expect_exact("User name: ")
    while not gateway.requests:
        terminal.expect([pexpect.TIMEOUT], timeout=0.05)
    terminal.sendintr()
    terminal.expect_exact("Interrupted.")
    end_of_menu(terminal)
    terminal.sendintr()
    terminal.expect_exact("Interrupted.")
    terminal.expect(pexpect.EOF)
    assert "Traceback" not in (terminal.before or "")
    terminal.close()
    assert terminal.exitstatus == 130


@pytest.mark.parametrize(("module", "command"), [("client.terminal.console", []), ("client.cli.run", ["whoami"])])
def test_ctrl_c_while_modules_are_read(tmp_path: Path, module: str, command: list[str]) -> None:
    script = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from client.__main__ import main\n"
        f"sys.exit(main(['--home', {str(tmp_path)!r}, *{command!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, timeout=HANG_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_d(terminal: pexpect.spawn[str]) -> None:
    end_of_menu(terminal)
    # The prompt is there. What ends the input of a terminal that is not prepared yet is lost.
    terminal.expect_exact("\x1b[?2004h")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_sigterm_leaves_no_traceback(terminal: pexpect.spawn[str]) -> None:
    end_of_menu(terminal)
    terminal.kill(signal.SIGTERM)
    terminal.expect(pexpect.EOF)
    assert "Traceback" not in (terminal.before or "")
