"""Where each setting comes from.

Owns: the order of precedence: the flag, the environment (MESSAGEU_*), the files in the home, the
user's configuration file, the default; and naming the source of each value.
Promises: reads a few small files and nothing else; an unusable value is a `SettingRejected` or
`InfoFileError`.

Source: docs/client.md, "Settings".
"""

import argparse
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final, NamedTuple, Self

from client import paths
from common.errors import InfoFileError, SettingRejected, ValueRejected
from common.info_files import SERVER_INFO, read_server_address
from common.server_address import SCHEME, ServerAddress, parse_addresses, shown

_IDENTITY: Final = ("my.info", "me.info", "my.info.pending", ".imported")
_STORE: Final = ("store.db", "store.use")
"""Both together show a store of ours; the first name alone may belong to any program."""
MOVING: Final = ".moving"
"""A folder in the home that exists while its account moves to another server."""
ROOT_VARIABLE: Final = "MESSAGEU_ROOT"
CONFIG_FILE: Final = "config.toml"
CONFIG_VARIABLE: Final = "MESSAGEU_CONFIG"
ANSWERS: Final = ("ask", "always", "never")
"""What is done with a received key request: ask the user (in a script: nothing), answer it, or
ignore it.
"""
KNOWN: Final = (
    "server", "home", "save_dir", "published_only", "answer_key_requests", "passphrase_file", "passphrase_command",
    "bell", "title",
)  # fmt: skip
UNLOCKED_BY: Final = "MESSAGEU_PASSPHRASE"
_YES: Final = frozenset({"1", "yes", "true", "on"})
_NO: Final = frozenset({"0", "no", "false", "off"})


_DATA_FOLDER: Final = "default: your data folder"
_PUBLISHED_HERE: Final = "default: this folder has a server.info"


class Setting(NamedTuple):
    """A setting's value and where it came from."""

    name: str
    value: str | None
    source: str


class Flags(NamedTuple):
    """The command line's values; None if it has none."""

    home: Path | None = None
    server: str | None = None
    save_dir: Path | None = None
    published_only: bool | None = None
    passphrase_file: Path | None = None
    passphrase_command: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Read them from a parsed command line."""
        return cls(*[getattr(options, name) for name in cls._fields])


class Settings:
    """All settings of one run."""

    def __init__(self, flags: Flags, environment: Mapping[str, str], here: Path, *, published: bool = False) -> None:
        """`here`: the current folder. `published`: these are the settings of the numbered
        console.
        """
        self._flags = flags
        self._environment = environment
        self._here = here
        self._published = published
        self._config_path, self._config = read_config(environment)
        self.home = expanded(self.home_setting())

    def home_setting(self) -> Setting:
        """The folder of the identity. Raises `SettingRejected` if nothing names one and this user
        has none.
        """
        flag = self._flags.home
        named = self._early("home", None if flag is None else str(flag), "--home")
        if named is not None:
            return named
        reason = self._why_here()
        return Setting("home", str(self._here), reason) if reason is not None else _data_folder()

    def home_by_default(self) -> bool:
        """Whether nothing named the home, and it is in the user's data folder."""
        return self.home_setting().source == _DATA_FOLDER

    def passed_over(self) -> Path | None:
        """The home in the user's data folder, if the published console does not use it but the
        commands do.
        """
        setting = self.home_setting()
        if setting.source != _PUBLISHED_HERE:
            return None
        try:
            folder = expanded(_data_folder())
        except SettingRejected:
            return None
        return folder if _lives_in(folder) else None

    def _why_here(self) -> str | None:
        if _lives_in(self._here):
            return "default: this folder has an identity"
        if self._published and _is_there(self._here / SERVER_INFO):
            return _PUBLISHED_HERE
        return None

    def remembers_server(self) -> bool:
        """Whether a registration now makes this server the one of all later commands: it was named
        for this one.

        The current folder's server.info counts as named if the home is elsewhere, because such a
        home is used from any folder.
        """
        source = self.server_setting().source
        return source in {"--server", "MESSAGEU_SERVER"} or (
            self.home_by_default() and source == str(self._here / SERVER_INFO)
        )

    def server_setting(self) -> Setting:
        """The server's address, not checked."""
        found = self._flag_or_environment("server", self._flags.server, "--server")
        if found is not None:
            return found
        if _is_there(self.home / MOVING):
            # A process that was killed before it wrote server.info may have decided a move.
            from client.moving import settle_move  # noqa: PLC0415 - hardly ever

            settle_move(self.home)
        if _is_there(self.home / SERVER_INFO):
            return self._server_file(self.home)
        found = self._configured("server")
        if found is not None:
            return found
        for folder in self._further_folders():
            if _is_there(folder / SERVER_INFO):
                return self._server_file(folder)
        return Setting("server", None, "nowhere")

    def server(self) -> ServerAddress:
        """The server's address. Raises `SettingRejected`, `InfoFileError`."""
        setting = self.server_setting()
        if setting.value is None:
            places = ", ".join(dict.fromkeys(str(folder) for folder in (self.home, *self._further_folders())))
            raise SettingRejected(
                f"There is no {SERVER_INFO} in {places}. "
                "Write the server's address:port into one, or use --server HOST:PORT."
            )
        return address_of(setting.source, setting.value)

    def save_dir_setting(self) -> Setting:
        """Where received files go."""
        flag = self._flags.save_dir
        return self._early("save_dir", None if flag is None else str(flag), "--save-dir") or Setting(
            "save_dir", str(paths.temporary_folder()), "default: the temporary folder"
        )

    def save_dir(self) -> Path:
        """Where received files go."""
        return expanded(self.save_dir_setting())

    def published_only_setting(self) -> Setting:
        """Whether the account keeps to the published protocol; None leaves it as the
        home's store has it.
        """
        flag = self._flags.published_only
        text = None if flag is None else str(flag).lower()
        return self._early("published_only", text, "--published-only") or Setting(
            "published_only", None, "as remembered in the home"
        )

    def published_only(self) -> bool | None:
        """The same as a value. Raises `SettingRejected`."""
        return _yes_or_no(self.published_only_setting())

    def answer_setting(self) -> Setting:
        """What becomes of a received key request."""
        return self._early("answer_key_requests", None, "") or Setting("answer_key_requests", "ask", "default")

    def answer_key_requests(self) -> str:
        """The same, checked. Raises `SettingRejected`."""
        name, value, source = self.answer_setting()
        if value not in ANSWERS:
            raise SettingRejected(f"{name} ({source}) is one of {', '.join(ANSWERS)}, not {value!r}.")
        return value

    def bell_setting(self) -> Setting:
        """Whether a chat rings the terminal's bell for new mail."""
        return self._early("bell", None, "") or Setting("bell", "yes", "default")

    def bell(self) -> bool:
        """The same as a value. Raises `SettingRejected`."""
        return bool(_yes_or_no(self.bell_setting()))

    def title_setting(self) -> Setting:
        """Whether a chat shows new mail in the terminal's title."""
        return self._early("title", None, "") or Setting("title", "yes", "default")

    def title(self) -> bool:
        """The same as a value. Raises `SettingRejected`."""
        return bool(_yes_or_no(self.title_setting()))

    def passphrase_setting(self) -> Setting:
        """Where the passphrase comes from; never the passphrase itself."""
        flags, environment, config = self._flags, self._environment, self._config
        file = None if flags.passphrase_file is None else str(flags.passphrase_file)
        places = (
            ("passphrase_file", file, "--passphrase-file"),
            ("passphrase_command", flags.passphrase_command, "--passphrase-command"),
            ("passphrase_file", environment.get("MESSAGEU_PASSPHRASE_FILE"), "MESSAGEU_PASSPHRASE_FILE"),
            ("passphrase_command", environment.get("MESSAGEU_PASSPHRASE_COMMAND"), "MESSAGEU_PASSPHRASE_COMMAND"),
            ("passphrase", "(given)" if environment.get(UNLOCKED_BY) else None, UNLOCKED_BY),
            ("passphrase_file", config.get("passphrase_file"), str(self._config_path)),
            ("passphrase_command", config.get("passphrase_command"), str(self._config_path)),
        )
        for name, value, source in places:
            if value:
                return Setting(name, value, source)
        return Setting("passphrase", None, "asked at a terminal, where the home has one")

    def all(self) -> list[Setting]:
        """Every setting."""
        return [
            self.home_setting(),
            self.server_setting(),
            self.save_dir_setting(),
            self.published_only_setting(),
            self.answer_setting(),
            self.bell_setting(),
            self.title_setting(),
            self.passphrase_setting(),
            self._config_setting(),
        ]

    def _config_setting(self) -> Setting:
        if self._config_path is None:
            return Setting("config_file", None, "this user has no home folder")
        return Setting(
            "config_file", str(self._config_path), "found" if _is_there(self._config_path) else "does not exist"
        )

    def _early(self, name: str, flag: str | None, option: str) -> Setting | None:
        return self._flag_or_environment(name, flag, option) or self._configured(name)

    def _flag_or_environment(self, name: str, flag: str | None, option: str) -> Setting | None:
        if flag is not None:
            return Setting(name, flag, option)
        variable = f"MESSAGEU_{name.upper()}"
        named = self._environment.get(variable)
        return Setting(name, named, variable) if named else None

    def _configured(self, name: str) -> Setting | None:
        value = self._config.get(name)
        return None if value is None else Setting(name, value, str(self._config_path))

    def _further_folders(self) -> list[Path]:
        root = self._environment.get(ROOT_VARIABLE)
        return [self._here, *([Path(root)] if root else [])]

    def _server_file(self, folder: Path) -> Setting:
        path = folder / SERVER_INFO
        return Setting("server", read_server_address(path).link, str(path))


def address_of(source: str, text: str) -> ServerAddress:
    """Read a server's address. Raises `SettingRejected` that names where it came from."""
    try:
        return parse_addresses(text)
    except ValueRejected as error:
        raise SettingRejected(
            f"{source} takes HOST:PORT, or a link that begins with {SCHEME}, not {shown(text)}: {error}."
        ) from error


def taken_over(environment: MutableMapping[str, str]) -> Mapping[str, str]:
    """Return a copy of the process's environment, and take the passphrase out of it.

    Programs that this process starts (the command of `watch --exec`, a passphrase command) inherit
    the rest.
    """
    taken = dict(environment)
    environment.pop(UNLOCKED_BY, None)
    return taken


def this_folder() -> Path:
    """Return the folder that the program was started in. Raises `SettingRejected` if it is gone."""
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingRejected(
            f"The folder that you are in can't be used ({error.strerror}); change to another."
        ) from error


def _data_folder() -> Setting:
    """The home if none is named. Raises `SettingRejected`."""
    from platformdirs import user_data_path  # noqa: PLC0415 - as below

    try:
        folder = user_data_path("messageu", appauthor=False)
    except RuntimeError as error:
        raise SettingRejected(
            "This user has no home folder, so there is no place for an identity. Use --home DIR or MESSAGEU_HOME."
        ) from error
    return Setting("home", str(folder), _DATA_FOLDER)


def _lives_in(folder: Path) -> bool:
    """Whether a folder holds an identity, complete or left unfinished by an earlier version."""
    return any(_is_there(folder / name) for name in _IDENTITY) or all(_is_there(folder / name) for name in _STORE)


def expanded(setting: Setting) -> Path:
    """Expand a folder that may begin with a tilde. Raises `SettingRejected` if that names
    no user.
    """
    try:
        return Path(setting.value or ".").expanduser()
    except RuntimeError as error:
        raise SettingRejected(f"{setting.source}: no user has the home folder {setting.value}.") from error


def _yes_or_no(setting: Setting) -> bool | None:
    """A setting as a value, None if it is not set. Raises `SettingRejected`."""
    name, value, source = setting
    if value is None:
        return None
    if value.casefold() in _YES | _NO:
        return value.casefold() in _YES
    raise SettingRejected(f"{name} ({source}) is yes or no, not {value!r}.")


def _is_there(path: Path) -> bool:
    """Whether there is such a file, or this user may not see it: then reading it reports that."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _config_path(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE)
    if named:
        return expanded(Setting(CONFIG_FILE, named, CONFIG_VARIABLE))
    from platformdirs import user_config_path  # noqa: PLC0415 - only used here, if nothing is named

    try:
        return user_config_path("messageu", appauthor=False) / CONFIG_FILE
    except RuntimeError:
        # No HOME, and the system does not know the user either.
        return None


def read_config(environment: Mapping[str, str]) -> tuple[Path | None, dict[str, str]]:
    """Return the configuration that was read, and what it says. Raises `InfoFileError`."""
    path = _config_path(environment)
    if path is None or not _is_there(path):
        return path, {}
    import tomllib  # noqa: PLC0415 - most people have no configuration file

    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise InfoFileError(path, None, f"can't be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InfoFileError(path, None, f"is no TOML: {error}") from error
    unknown = sorted(set(raw) - set(KNOWN))
    if unknown:
        raise InfoFileError(path, None, f"has no setting {unknown[0]!r}; there are {', '.join(KNOWN)}")
    values: dict[str, str] = {}
    for name, value in raw.items():
        if not isinstance(value, str | bool):
            raise InfoFileError(path, None, f"{name} must be a text in quotes, or true or false")
        values[name] = str(value).lower() if isinstance(value, bool) else value
    return path, values
