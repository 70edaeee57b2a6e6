"""The command of `watch --exec`: which it is, how it fails, and how it ends."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from client.__main__ import main
from client.cli import hook
from client.cli.hook import Failure, Hook
from client.cli.shell_words import words_of
from client.identity.passphrase_source import from_command
from client.terminal import sigint
from common.errors import SettingRejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from client.messenger import Messenger


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("~/hook", ["/home/of/one/hook"]),
        ("  ~ a~b ~/x", ["/home/of/one", "a~b", "/home/of/one/x"]),
        ("'~/a' \\~/b \"~\"", ["~/a", "~/b", "~"]),
        ("~/'a b'/c", ["/home/of/one/a b/c"]),
        ("x\n~/y", ["x", "/home/of/one/y"]),
        ("'x '~", ["x ~"]),
        ("~nobody.known/x $HOME *", ["~nobody.known/x", "$HOME", "*"]),
        ("", []),
    ],
)
def test_words_as_in_a_shell(command: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/one")
    assert words_of(command) == words


def test_the_passphrase_command_understands_the_home_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "give").write_text("#!/bin/sh\necho secret\n")
    (tmp_path / "give").chmod(0o755)
    assert from_command("~/give") == "secret"


@pytest.mark.parametrize(
    "command", ["/no/such/command", "no-such-command-here x", "'", "", " ", "{here}", "{here}/file"]
)
def test_a_command_that_is_not_there(
    command: str, tmp_path: Path, bob: Messenger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch(mode=0o644)
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "none.toml"))
    bob.close()
    command = command.format(here=tmp_path)
    words = ["--home", str(tmp_path / "bob"), "--server", "127.0.0.1:1", "watch", "--exec", command]
    assert main(words) == 2
    assert "--exec" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--timeout", "5"], ["--tries", "2"], ["--exec", "true", "--timeout", "0"]])
def test_options_that_mean_nothing(words: list[str], tmp_path: Path, bob: Messenger) -> None:
    bob.close()
    try:
        code = main(["--home", str(tmp_path / "bob"), "--server", "127.0.0.1:1", "watch", *words])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2


def test_what_comes_of_it(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    take = python(f"import sys; open({str(taken)!r}, 'w').write(sys.stdin.read())")
    assert Hook(take, None).run(b"given") is None
    assert taken.read_text() == "given"
    assert Hook(python("raise SystemExit(3)"), 1000.0).run(b"") == Failure("the command ended with code 3")
    # It need not read what it is given.
    assert Hook("true", None).run(b"x" * 1_000_000) is None
    killed = Hook(python("import os; os.kill(os.getpid(), 9)"), None).run(b"")
    assert killed == Failure("the command was ended by SIGKILL")


def test_a_command_that_takes_too_long() -> None:
    assert Hook("sleep 100000", 0.01).run(b"") == Failure("the command took longer than 0.01 s")


def test_a_command_that_will_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "GRACE", 0.01)
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen.communicate

    def communicate(process: subprocess.Popen[bytes], given: bytes, timeout: float | None) -> object:
        started.append(process)
        # Until it ignores what asks it to end.
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return real(process, given, timeout)

    def start(words: list[str], **named: object) -> subprocess.Popen[bytes]:
        return opened(words, stdout=subprocess.PIPE, **named)  # type: ignore[call-overload, no-any-return]

    opened = subprocess.Popen
    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    monkeypatch.setattr("client.cli.hook.subprocess.Popen", start)
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    assert Hook(python(stubborn), 0.01).run(b"") == Failure("the command took longer than 0.01 s")
    (process,) = started
    monkeypatch.undo()
    assert process.wait() == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize(("number", "its_own"), [(errno.EAGAIN, False), (errno.ETXTBSY, False), (errno.ENOEXEC, None)])
def test_a_command_that_can_not_be_started(number: int, its_own: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Hook("true", None)

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("client.cli.hook.subprocess.Popen", refused)
    if its_own is None:
        with pytest.raises(SettingRejected, match="can't be started"):
            found.run(b"")
    else:
        failure = found.run(b"")
        assert failure is not None
        assert failure.its_own is its_own


@pytest.fixture
def our_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    sigint.install()
    sigint.install_end()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_held_until_the_command_can_be_ended(
    number: signal.Signals, our_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def start(words: list[str], **named: object) -> subprocess.Popen[bytes]:
        process = real(words, **named)  # type: ignore[call-overload]
        started.append(process)
        # Before anybody but us knows of it.
        signal.raise_signal(number)
        signal.raise_signal(number)
        return process  # type: ignore[no-any-return]

    monkeypatch.setattr("client.cli.hook.subprocess.Popen", start)
    with pytest.raises((KeyboardInterrupt, sigint.Ended)):
        Hook("sleep 100000", None).run(b"")
    (process,) = started
    assert process.returncode == -signal.SIGTERM


def test_what_is_not_ours_is_not_held() -> None:
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with sigint.held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
