"""Where settings come from, in which order, and which values can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.settings import Flags, Settings
from common.errors import InfoFileError, SettingRejected

if TYPE_CHECKING:
    from collections.abc import Mapping


NO_CONFIG = {"MESSAGEU_CONFIG": "/nonexistent/config.toml"}


def test_the_precedence_of_settings(tmp_path: Path) -> None:
    home, config = tmp_path / "home", tmp_path / "config.toml"
    home.mkdir()

    def server(environment: Mapping[str, str], flag: str | None = None) -> tuple[str | None, str]:
        settings = Settings(Flags(home=home, server=flag), {"MESSAGEU_CONFIG": str(config), **environment}, tmp_path)
        return settings.server_setting()[1:]

    assert server({}) == (None, "nowhere")
    (tmp_path / "server.info").write_text("here:1")
    assert server({}) == ("here:1", str(tmp_path / "server.info"))
    config.write_text('server = "configured:1"\npublished_only = true\n')
    assert server({}) == ("configured:1", str(config))
    (home / "server.info").write_text("home:1")
    assert server({}) == ("home:1", str(home / "server.info"))
    variable = {"MESSAGEU_SERVER": "environment:1"}
    assert server(variable) == ("environment:1", "MESSAGEU_SERVER")
    assert server(variable, "flag:1") == ("flag:1", "--server")
    settings = Settings(Flags(published_only=False), {"MESSAGEU_CONFIG": str(config)}, tmp_path)
    assert settings.published_only() is False
    assert Settings(Flags(), {"MESSAGEU_CONFIG": str(config)}, tmp_path).published_only() is True
    assert Settings(Flags(), {**NO_CONFIG, "MESSAGEU_HOME": "/x"}, tmp_path).home == Path("/x")
    assert Settings(Flags(), {**NO_CONFIG, "MESSAGEU_PUBLISHED_ONLY": "no"}, tmp_path).published_only() is False


@pytest.mark.parametrize("text", ["= 1", 'colour = "red"', "server = 1", b"\xff"])
def test_a_configuration_that_can_not_be_used(tmp_path: Path, text: str | bytes) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InfoFileError, match=r"config\.toml"):
        Settings(Flags(), {"MESSAGEU_CONFIG": str(config)}, tmp_path)


@pytest.mark.parametrize("name", ["MESSAGEU_PUBLISHED_ONLY", "MESSAGEU_ANSWER_KEY_REQUESTS", "MESSAGEU_SERVER"])
def test_a_variable_that_can_not_be_used(tmp_path: Path, name: str) -> None:
    settings = Settings(Flags(home=tmp_path), {**NO_CONFIG, name: "perhaps"}, tmp_path)
    with pytest.raises(SettingRejected, match=name):
        _ = (settings.server() if name.endswith("SERVER") else None, settings.published_only())
        settings.answer_key_requests()


def test_a_folder_that_may_not_be_entered_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InfoFileError, match=r"config\.toml: can't be read \(Permission denied\)"):
        Settings(Flags(), {"MESSAGEU_CONFIG": str(tmp_path / "config.toml")}, tmp_path)
    monkeypatch.setattr("client.settings.read_config", lambda _: (None, {}))
    with pytest.raises(InfoFileError, match=r"home/server\.info: can't be read \(Permission denied\)"):
        Settings(Flags(home=tmp_path / "home"), {}, tmp_path).server()


def test_a_user_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_config_path", unknown)
    settings = Settings(Flags(home=tmp_path), {}, tmp_path)
    assert settings.all()[-1] == ("config_file", None, "this user has no home folder")
    for flags in (Flags(home=Path("~nobody who is known/x")), Flags(home=tmp_path, save_dir=Path("~nobody else/y"))):
        with pytest.raises(SettingRejected, match=r"--(home|save-dir): no user has the home folder ~nobody"):
            Settings(flags, {}, tmp_path).save_dir()


def test_the_configuration_lies_in_the_users_folder() -> None:
    setting = next(one for one in Settings(Flags(), {}, Path()).all() if one.name == "config_file")
    assert (setting.value or "").endswith("messageu/config.toml")
