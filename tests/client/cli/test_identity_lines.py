"""What whoami and users print of identities and cipher suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.cli.identity_lines import show_identity, users
from client.cli.output import Output
from tests.client.fake_gateway import SuiteMailroom

if TYPE_CHECKING:
    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)


def test_a_link_is_shown_where_there_is_one(alice: Messenger, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False, quiet=False)
    link = alice.home.directory.own_link()
    show_identity(output, alice.identity(), proven=True)
    assert "link" not in capsys.readouterr().out
    show_identity(output, alice.identity(), proven=True, link=str(link))
    assert capsys.readouterr().out.endswith(f"link:\n    {link}\n")


def test_users_who_have_shown_keys_are_told_apart(
    alice: Messenger, bob: Messenger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bob.is_registered()
    output = Output(as_json=False, quiet=False)
    users(alice.home, output)
    assert capsys.readouterr().out == "bob\n"
    alice.send("bob", "hello")
    users(alice.home, output)
    assert capsys.readouterr().out == "bob (suite 1)\n"
