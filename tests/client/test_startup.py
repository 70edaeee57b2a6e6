"""What a start costs before the network: the list of imports, and how often a passphrase
is derived from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.identity.passphrase import set_passphrase
from tests.client.certificates import new_certificate
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


ROOT = Path(__file__).parent.parent.parent

LIGHT = {
    "client",
    "client.__main__",
    "client.cli",
    "client.terminal",
    "client.cli.parser",
    "client.cli.command_line",
    "client.cli.table",
    "client.terminal.sigint",
    "common",
    "common.process_limits",
    "common.version",
}
OF_A_COMMAND = {"client.cli.command", "client.cli.commands"}
NOT_TO_SEND = {
    "client.chat",
    "client.cli.checks",
    "client.cli.export_import",
    "client.identity.archive",
    "client.identity.passphrase",
    "client.terminal.console",
    "client.terminal.menu",
}
OUR_LIBRARIES = {
    "Crypto",
    "apsw",
    "cbor2",
    "cryptography",
    "filetype",
    "msgspec",
    "platformdirs",
    "prompt_toolkit",
    "rich",
    "segno",
    "vodozemac",
    "zmq",
}
HEAVY = {"asyncio", "multiprocessing", "ssl", "tomllib", "fastjsonschema"}

PROGRAM = """\
import json, sys
derived = 0
if sys.argv[1] == "count":
    import Crypto.Protocol.KDF as KDF
    def scrypt(*given, real=KDF.scrypt, **named):
        global derived
        derived += 1
        return real(*given, **named)
    KDF.scrypt = scrypt
from client.__main__ import main
try:
    code = main(sys.argv[2:])
except SystemExit as ended:
    code = ended.code
print(json.dumps([code, derived, sorted(sys.modules)]))
"""


def started(*arguments: str, count: bool = False) -> tuple[int, int, set[str]]:
    """Of a command with these arguments: the exit code, how often it derived a key, the
    modules in its memory.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, "count" if count else "", *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": "/nonexistent/config.toml"},
        check=True,
        timeout=HANG_SECONDS,
    )
    code, derived, modules = json.loads(done.stdout.splitlines()[-1])
    return code, derived, set(modules)


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--version"], set()),
        (["nonsense"], set()),
        (["send", "--help"], {*OF_A_COMMAND, "client.cli.commands.send", "client.cli.values"}),
        (["send"], {*OF_A_COMMAND, "client.cli.commands.send", "client.cli.values"}),
        (["whoami", "--help"], {*OF_A_COMMAND, "client.cli.commands.whoami"}),
        (
            ["--help"],
            {
                *OF_A_COMMAND,
                "client.cli.values",
                "client.cli.silencing_command",
                *(f"client.cli.commands.{path.stem}" for path in (ROOT / "client/cli/commands").glob("[!_]*.py")),
            },
        ),
    ],
)
def test_what_is_imported_to_understand_the_command_line(arguments: list[str], more: set[str]) -> None:
    _, _, modules = started(*arguments)
    assert {name for name in modules if name.partition(".")[0] in {"client", "common"}} == LIGHT | more
    assert not {"socket", *OUR_LIBRARIES, *HEAVY} & packages(modules)


def test_what_a_send_to_somebody_known_takes(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path
) -> None:
    assert bob.is_registered()
    alice.agree_on_key("bob")
    alice.close()
    send = ("--home", str(tmp_path / "alice"), "--server", str(gateway.address), "send", "bob", "hello")
    code, _, modules = started(*send)
    assert code == 0
    assert "client.open_home" in modules
    assert "client.messenger" not in modules
    assert packages(modules) & OUR_LIBRARIES == {"Crypto", "apsw"}
    assert not HEAVY & packages(modules)
    assert not NOT_TO_SEND & modules
    # pycryptodome reads the module with its own reader of keys, in about a millisecond; deriving
    # takes 200 of them.
    assert started(*send, count=True)[:2] == (0, 0)


def test_tls_is_imported_where_there_is_a_pin(tmp_path: Path) -> None:
    with FakeGateway(ExtendedMailroom(), certificate=new_certificate()) as gateway:
        home = ("--home", str(tmp_path), "--server", str(gateway.address))
        assert started(*home, "register", "alice")[0] == 0
        code, _, modules = started(*home, "users")
    assert code == 0
    assert "ssl" in modules
    assert not (HEAVY - {"ssl"}) & packages(modules)
    assert "cryptography" not in packages(modules)


def test_what_the_names_for_completion_take(tmp_path: Path) -> None:
    code, derived, modules = started("--home", str(tmp_path), "completion", "contacts")
    assert (code, derived) == (0, 0)
    assert packages(modules) & OUR_LIBRARIES <= {"Crypto", "apsw", "platformdirs"}
    assert not HEAVY & packages(modules)
    assert not {"client.messenger", *NOT_TO_SEND} & modules


@pytest.mark.usefixtures("cheap")
def test_a_passphrase_is_derived_from_twice(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the store and for the private key: 0.4 s of the half second that a passphrase
    may cost.
    """
    assert bob.is_registered()
    alice.agree_on_key("bob")
    alice.close()
    set_passphrase(tmp_path / "alice", "correct horse")
    (tmp_path / "pass").write_text("correct horse")
    options = ("--home", str(tmp_path / "alice"), "--passphrase-file", str(tmp_path / "pass"))
    send = (*options, "--server", str(gateway.address), "send", "bob", "hello")
    assert started(*send, count=True)[:2] == (0, 2)
    # What needs no private key derives once.
    assert started(*options, "history", count=True)[:2] == (0, 1)
