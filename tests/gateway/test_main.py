"""The gateway as a program: its port, and how it reports where it listens."""

from pathlib import Path

import pytest

from common.errors import SettingRejected
from gateway import __main__ as program
from gateway import listener
from gateway.addresses import Place


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

    def refuse(host: str, port: int, *, loopback_only: bool, handed_over: list[object]) -> None:
        assert loopback_only
        assert handed_over == []
        asked.append((host, port))
        raise SettingRejected("taken")

    monkeypatch.setattr(listener, "open_listener", refuse)
    monkeypatch.chdir(tmp_path)
    Path("myport.info").write_text("4321")
    for words, port in ((["--port", "27031"], 27031), ([], 4321), (["--port-file", "none"], 1357)):
        assert program.main([*words, "--data-folder", str(tmp_path / "data")]) == 78
        assert asked.pop() == ("127.0.0.1", port)
        assert ("using port 1357" in caplog.text) is (port == 1357)


def test_whoever_lets_others_reach_it_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        program.say_where(Place(False, "127.0.0.1", 1357), is_open=False)
        program.say_where(Place(False, "::1", 1359), is_open=False)
        program.say_where(Place(False, "0.0.0.0", 1358), is_open=True)
        program.say_where(Place(True, "0.0.0.0", 1360), is_open=True)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "INFO", "WARNING", "INFO"]
    assert caplog.messages[:3] == [
        "listening on 127.0.0.1:1357",
        "listening on [::1]:1359",
        "listening on 0.0.0.0:1358",
    ]
    assert caplog.messages[3].startswith("other machines can reach 0.0.0.0 without TLS: ")
    assert caplog.messages[4] == "listening on 0.0.0.0:1360, TLS"
