"""Where a passphrase comes from, and which is too short."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import PassphraseNeeded
from client.identity.passphrase_source import PassphraseSource, chosen
from client.settings import Flags, Settings
from common.errors import InfoFileError, SettingRejected


def source(tmp_path: Path, environment: dict[str, str], **flags: object) -> PassphraseSource:
    given = {"MESSAGEU_CONFIG": str(tmp_path / "config.toml"), **environment}
    return PassphraseSource(Settings(Flags(home=tmp_path, **flags), given, tmp_path), given)  # type: ignore[arg-type]


def test_the_order_of_sources(tmp_path: Path) -> None:
    for name in ("flag", "variable", "configured"):
        (tmp_path / name).write_text(f"from {name}\nsecond line\n")
    (tmp_path / "config.toml").write_text(f'passphrase_file = "{tmp_path}/configured"\n')
    assert source(tmp_path, {})() == "from configured"
    assert source(tmp_path, {"MESSAGEU_PASSPHRASE": "itself"})() == "itself"
    file = {"MESSAGEU_PASSPHRASE_FILE": str(tmp_path / "variable")}
    assert source(tmp_path, file)() == "from variable"
    assert source(tmp_path, file, passphrase_command=f"cat {tmp_path}/flag")() == "from flag"
    assert source(tmp_path, file, passphrase_file=tmp_path / "flag")() == "from flag"
    command = {"MESSAGEU_PASSPHRASE_COMMAND": "printf 'from command\\n'"}
    assert source(tmp_path, command)() == "from command"


@pytest.mark.parametrize("command", ["false", "/nonexistent/program", "'", "true", ""])
def test_a_command_that_gives_none(tmp_path: Path, command: str) -> None:
    with pytest.raises(SettingRejected if command else PassphraseNeeded):
        source(tmp_path, {}, passphrase_command=command)()


def test_a_file_that_gives_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\nsecond line")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingRejected, match="empty passphrase"):
        source(tmp_path, {}, passphrase_file=tmp_path / "empty")()
    for name in ("bytes", "missing"):
        with pytest.raises(InfoFileError, match=name):
            source(tmp_path, {}, passphrase_file=tmp_path / name)()


def test_it_is_shown_nowhere(tmp_path: Path) -> None:
    given = {"MESSAGEU_PASSPHRASE": "very secret", "MESSAGEU_CONFIG": str(tmp_path / "none")}
    assert "very secret" not in str(Settings(Flags(), given, tmp_path).all())


def chooses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: list[str], answer: str) -> list[str]:
    """Have a person at the terminal, who types passphrases and an answer; what they are asked."""
    asked: list[str] = []
    answers = iter(typed)

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    (tmp_path / "tty").write_text(answer)
    monkeypatch.setattr("client.identity.passphrase_source.can_ask", lambda: True)
    monkeypatch.setattr("client.identity.passphrase_source.getpass.getpass", getpass)
    monkeypatch.setattr("client.identity.passphrase_source.TERMINAL", tmp_path / "tty")
    return asked


@pytest.mark.parametrize(
    ("typed", "answer", "asked"),
    [
        (["12345678"] * 2, "", False),
        (["1234567"] * 2, "y\n", True),
        # What composes to one letter is one.
        (["e\u0301" * 7] * 2, "yes\n", True),
    ],
)
def test_a_short_passphrase_is_asked_about(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    answer: str,
    asked: bool,
) -> None:
    chooses(monkeypatch, tmp_path, typed, answer)
    assert chosen(None, "New: ", "--new") == typed[0]
    assert ("Use it all the same?" in capsys.readouterr().err) is asked


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_short_passphrase_that_was_not_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str) -> None:
    asked = chooses(monkeypatch, tmp_path, ["x", "x"], answer)
    with pytest.raises(SettingRejected, match=r"^Nothing was changed\.$"):
        chosen(None, "New: ", "--new")
    assert asked == ["New: "]


def test_a_short_passphrase_of_a_script_needs_an_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingRejected, match=r"fewer than 8 characters.*--weak-passphrase"):
        chosen("1234567", "New: ", "--new")
    assert chosen("1234567", "New: ", "--new", may_be_weak=True) == "1234567"
    assert chosen("12345678", "New: ", "--new") == "12345678"
    chooses(monkeypatch, tmp_path, ["x", "x"], "")
    assert chosen(None, "New: ", "--new", may_be_weak=True) == "x"
