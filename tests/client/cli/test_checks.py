"""What `doctor` reports about a home that another program made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.cli.checks import Doctor
from client.cli.output import Output
from client.identity import identity_files
from client.identity.identity_files import ME_INFO, MY_INFO, Identity
from client.settings import Flags, Settings
from common.values import ClientId, username
from tests.client.fake_gateway import SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey
    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway


def test_a_private_key_that_others_can_read_is_found_in_either_file(
    tmp_path: Path, private_key: PrivateKey, capsys: pytest.CaptureFixture[str]
) -> None:
    identity_files.save(tmp_path, Identity(username("olga"), ClientId(bytes(16)), private_key))
    # As other programs have it: all three parts in me.info.
    (tmp_path / MY_INFO).rename(tmp_path / ME_INFO)
    settings = Settings(Flags(home=tmp_path, server="127.0.0.1:1"), {"MESSAGEU_CONFIG": "none"}, tmp_path)

    def modes() -> str:
        Doctor(settings, Output(as_json=False, quiet=False), lambda: "").run()
        return next(line for line in capsys.readouterr().out.splitlines() if " file modes: " in line)

    assert modes() == "ok    file modes: private files are private"
    (tmp_path / ME_INFO).chmod(0o644)
    assert modes() == f"WRONG file modes: Others can open {tmp_path / ME_INFO}. Do: chmod 600 {tmp_path / ME_INFO}"
    # Name and id alone are no secret.
    (tmp_path / ME_INFO).rename(tmp_path / MY_INFO)
    (tmp_path / MY_INFO).chmod(0o600)
    (tmp_path / ME_INFO).write_text(f"olga\n{bytes(16).hex()}\n")
    assert modes() == "ok    file modes: private files are private"


def test_it_leaves_nothing_behind_where_nobody_lives_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(Flags(home=tmp_path, server="127.0.0.1:1"), {"MESSAGEU_CONFIG": "none"}, tmp_path)
    Doctor(settings, Output(as_json=False, quiet=False), lambda: "").run()
    assert "WRONG identity: This home has no identity yet." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_page_is_found_also_where_nothing_reads_it(
    tmp_path: Path, alice: Messenger, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    alice.close()
    path = tmp_path / "alice" / "store.db"
    content = bytearray(path.read_bytes())
    for start in range(4096 * 4, len(content), 4096):
        content[start : start + 100] = bytes(100)
    path.write_bytes(content)
    settings = Settings(
        Flags(home=tmp_path / "alice", server=str(gateway.address)), {"MESSAGEU_CONFIG": "none"}, tmp_path
    )
    assert Doctor(settings, Output(as_json=False, quiet=False), lambda: "").run() == 1
    assert f"WRONG store: {path} is damaged (" in capsys.readouterr().out


def test_an_identity_that_can_not_be_used_is_not_the_servers_fault(
    tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MY_INFO).write_text("alice\nno id\n")
    (tmp_path / MY_INFO).chmod(0o600)
    settings = Settings(Flags(home=tmp_path, server=str(gateway.address)), {"MESSAGEU_CONFIG": "none"}, tmp_path)
    assert Doctor(settings, Output(as_json=False, quiet=False), lambda: "").run() == 2
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"WRONG identity: {tmp_path / MY_INFO}, line 2: expected the id as 32 hex digits, found 'no id'. Correct the "
        in "".join(lines)
    )
    assert "ok    server: answers, and speaks only the published protocol" in lines


@pytest.mark.mailroom(kind=SuiteMailroom)
def test_it_says_which_suite_conversations_have(
    tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    def suite() -> str:
        settings = Settings(
            Flags(home=tmp_path / "alice", server=str(gateway.address)), {"MESSAGEU_CONFIG": "none"}, tmp_path
        )
        alice.close()
        Doctor(settings, Output(as_json=False, quiet=False), lambda: "").run()
        lines = capsys.readouterr().out.splitlines()
        at = next(at for at, line in enumerate(lines) if " suite: " in line)
        return " ".join([lines[at], *(line.strip() for line in lines[at + 1 : at + 3] if line.startswith(" "))])

    alice = make("alice")
    alice.register("alice")
    known = "ok    suite: the modern one, suite 1: our keys are published"
    assert suite() == known
    make("bob").register("bob")
    (alice := make("alice")).send("bob", "hello")
    assert suite() == f"{known}; 1 conversation is under it"
    for name in ("carl", "dora", "emil", "fred", "gina", "hans"):
        make(name, suite_1=False).register(name)
        (alice := make("alice")).send(name, "hello")
        alice.close()
    assert suite() == (
        f"{known}; 1 conversation is under it; under the published one: carl, dora, emil, fred, gina and 1 more"
    )
