"""Options that the gateway can't serve with are refused with a sentence; the others pass as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import SettingRejected
from common.wire.fields import LARGEST_CONTENT
from gateway import __main__ as program
from gateway.options import OWN_FILES, checked, connections_that_fit, parse
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]

REFUSED = [
    ("--largest-message", "-1", "--largest-message is 1 to "),
    ("--largest-message", "0", "--largest-message is 1 to "),
    ("--largest-message", "99999999999", "--largest-message is 1 to 4294967241, not 99999999999"),
    ("--connections", "-4", "--connections is 1 to "),
    ("--connections", "0", "--connections is 1 to 1000000, not 0"),
    ("--connections", "9" * 30, "--connections is 1 to "),
    ("--slot", "-1", "--slot is 0 to 65535, not -1"),
    ("--slot", "65536", "--slot is 0 to 65535, not 65536"),
    ("--port", "0", "--port is 1 to 65535, not 0"),
    ("--port", "65536", "--port is 1 to 65535, not 65536"),
    ("--host", "", "--host '' is neither"),
    ("--host", "a b", "--host 'a b' is neither"),
    ("--host", "a\nb", "--host 'a\\nb' is neither"),
    ("--host", "a..b", "--host 'a..b' is neither"),
    ("--host", "a" * 64, "--host 'aaaa"),
    ("--host", "ab." * 85, "--host 'ab.ab."),
]


@pytest.mark.parametrize(("option", "value", "sentence"), REFUSED)
def test_what_can_not_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, option: str, value: str, sentence: str
) -> None:
    folder = tmp_path / "data"
    assert program.main([f"{option}={value}", "--data-folder", str(folder)]) == 78
    assert caplog.records[-1].getMessage().startswith(f"the gateway ends: {sentence}")
    assert not folder.exists()


@pytest.mark.parametrize(("option", "value"), [("--largest-message", "x"), ("--slot", ""), ("--log-level", "loud")])
def test_what_is_no_value_at_all(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err


def test_the_port_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--port", "1", "--port-file", "p"], ["--port-file=p", "--port=1"], ["--port", "x"], ["--port"]):
        with pytest.raises(SystemExit) as ended:
            program.main([*words, "--data-folder", str(tmp_path / "data")])
        assert ended.value.code == 2
        assert "--port" in capsys.readouterr().err


def test_a_given_port_is_listened_on_and_no_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(host: str, port: int) -> None:
        asked.append((host, port))
        raise SettingRejected("taken")

    monkeypatch.setattr(program, "open_listener", refuse)
    monkeypatch.chdir(tmp_path)
    Path("myport.info").write_text("4321")
    for words, port in ((["--port", "27031"], 27031), ([], 4321), (["--port-file", "none"], 1357)):
        assert program.main([*words, "--data-folder", str(tmp_path / "data")]) == 78
        assert asked.pop() == ("127.0.0.1", port)
        assert ("using port 1357" in caplog.text) is (port == 1357)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "chat.example.org"])
def test_hosts_that_may_be(host: str) -> None:
    checked(parse(["--host", host]))


def test_the_edges_pass() -> None:
    checked(parse([]))
    checked(parse(["--connections", "1", "--largest-message", "1", "--slot", "65535"]))
    checked(parse(["--connections", "1000000", "--largest-message", str(LARGEST_CONTENT)]))


def test_connections_fit_under_the_limit_of_open_files(caplog: pytest.LogCaptureFixture) -> None:
    assert connections_that_fit(100, OWN_FILES + 100) == 100
    assert not caplog.records
    assert connections_that_fit(100, OWN_FILES + 99) == 99
    assert caplog.records[-1].getMessage() == "the system allows 163 open files: at most 99 connections"
    with pytest.raises(SettingRejected, match="allows 64 open files, and the gateway needs at least 65"):
        connections_that_fit(100, OWN_FILES)


def test_too_few_open_files_end_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", sys.executable, "-m", "gateway", "--data-folder", tmp_path],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "the gateway ends: the system allows 60 open files, and the gateway needs at least 65: "
        "raise the limit (ulimit -n)"
    )
