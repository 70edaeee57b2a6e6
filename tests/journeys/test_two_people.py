"""Two consoles, in terminals and through pipes, share a key as the published flow has it,
and talk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journeys.consoles import Console, one_message, share_a_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import OpenConsole
    from torture.programs import Server

SMALL = bytes(range(256)) * 5
LARGE = bytes(reversed(range(256))) * 5000


def saved_file(printed: str, sender: str, console: Console) -> bytes:
    """The bytes of the file that 140 says it saved, after a look at the form of what it printed."""
    assert one_message(sender, "PATH").split("PATH")[0] in printed
    (path,) = [line for line in printed.split("\n") if line.startswith(str(console.received))]
    assert printed.endswith(one_message(sender, path))
    return (console.received / path).read_bytes()


@pytest.mark.parametrize("terminal", [True, False], ids=["terminals", "pipes"])
def test_two_people_share_a_key_and_exchange_texts_and_files(
    server: Server, open_console: OpenConsole, tmp_path: Path, *, terminal: bool
) -> None:
    alice, bob = (open_console(server, name, terminal=terminal) for name in ("alice", "bob"))
    assert alice.greeting == ""
    for console, name in ((alice, "alice"), (bob, "bob")):
        assert f"Registered as {name}." in console.choose("110", name)
    assert "not replaced" in alice.choose("110", "someone else")
    assert alice.choose("120").split("\n")[-2] == "bob"
    assert alice.choose("140") == "No messages wait.\n"

    share_a_key(alice, bob)

    assert alice.choose("150", "bob", "hello bob").endswith("Sent to bob.\n")
    assert bob.choose("140") == one_message("alice", "hello bob")
    assert bob.choose("150", "alice", "grüß dich, alice").endswith("Sent to alice.\n")
    assert alice.choose("140") == one_message("bob", "grüß dich, alice")

    for name, content in (("small.bin", SMALL), ("large.bin", LARGE)):
        path = tmp_path / name
        path.write_bytes(content)
        assert alice.choose("153", "bob", str(path)).endswith("Sent to bob.\n")
        assert saved_file(bob.choose("140"), "alice", bob) == content
        assert bob.choose("153", "alice", str(path)).endswith("Sent to alice.\n")
        assert saved_file(alice.choose("140"), "bob", alice) == content
    assert "file not found" in alice.choose("153", "bob", str(tmp_path / "missing"))

    # In order, and nothing twice.
    bob.choose("150", "alice", "one")
    bob.choose("150", "alice", "two")
    bob.choose("151", "alice")
    assert alice.choose("140") == (
        one_message("bob", "one") + one_message("bob", "two") + one_message("bob", "Request for symmetric key")
    )
    assert alice.choose("140") == "No messages wait.\n"
    assert (alice.leave(), bob.leave()) == (0, 0)
