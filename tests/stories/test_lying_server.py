"""A lying server, made of the real programs and a middleman: what it gets of somebody whose key was
compared.

A hundred tries each, through the client's library, then a few through the command.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.crypto.ciphers import PrivateKey
from client.errors import KeyChanged
from client.messenger import KeyReceived, Messenger, SavedFile, Text
from common.server_address import ServerAddress
from common.values import MessageKind
from tests.stories.lying_server import Middleman
from tests.stories.runner import check_json, messageu
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common.values import ClientId, PublicKey

TRIES = 100
SECRET = "we meet at noon, behind the old mill, and nobody else may know"


@pytest.fixture(scope="module")
def mallorys() -> list[PrivateKey]:
    return [PrivateKey.generate(os.urandom) for _ in range(2)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


@pytest.fixture
def liar(server: Server, mallorys: list[PrivateKey]) -> Iterator[Middleman]:
    with Middleman(server.port, mallorys) as middleman:
        yield middleman


@pytest.fixture(params=[False, True], ids=["extension", "published"])
def alice(tmp_path: Path, liar: Middleman, bob: Messenger, request: pytest.FixtureRequest) -> Iterator[Messenger]:
    """Behind the middleman, who lets her register and compare bob's key before he begins."""
    assert bob.is_registered()
    address = ServerAddress("127.0.0.1", liar.port)
    with Messenger.open(tmp_path / "alice", address, tmp_path, published_only=request.param) as messenger:
        messenger.register("alice")
        assert messenger.verification("bob").number == bob.verification("alice").number
        messenger.mark_verified("bob")
        yield messenger


@pytest.fixture
def bob(tmp_path: Path, server: Server) -> Iterator[Messenger]:
    """He talks to the server itself."""
    with Messenger.open(tmp_path / "bob", ServerAddress("127.0.0.1", server.port), tmp_path) as messenger:
        messenger.register("bob")
        yield messenger


def public_key(messenger: Messenger) -> PublicKey:
    return messenger.identity().private_key.public_key()


def my_id(messenger: Messenger) -> ClientId:
    return messenger.identity().client_id


def texts(messenger: Messenger) -> list[str]:
    return [message.content.text for message in messenger.receive() if isinstance(message.content, Text)]


def test_a_swapped_public_key_gets_nothing(
    alice: Messenger, bob: Messenger, liar: Middleman, mallorys: list[PrivateKey], tmp_path: Path
) -> None:
    for number in range(TRIES):
        liar.names = mallorys[number % len(mallorys)].public_key()
        with pytest.raises(KeyChanged) as caught:
            alice.agree_on_key("bob")
        assert caught.value.old_number != caught.value.new_number
        # Nor does she go on once she was told.
        for goes_on in (alice.send_key, alice.request_key, lambda name: alice.home.sending.send_text(name, SECRET)):
            with pytest.raises(KeyChanged):
                goes_on("bob")
        if number % 2:
            # He tells the truth for a while.
            liar.names = None
            assert not alice.fetch_public_key("bob").changed
            assert alice.home.directory.is_verified_name("bob")
    assert liar.overheard == []

    # The same through the command: whoever asks is told so, in words and in JSON.
    alice.close()
    (tmp_path / "config.toml").write_text('answer_key_requests = "always"')
    liar.names = mallorys[0].public_key()
    told = messageu(tmp_path, liar.port, "alice", ["send", "bob", SECRET])
    assert (told.returncode, told.stdout) == (4, "")
    assert told.stderr.startswith(
        "messageu: The key of bob [was verified] has changed; nothing was sent. Either bob registered again"
    )
    assert "`messageu verify bob --accept-new`" in told.stderr
    told = messageu(tmp_path, liar.port, "alice", ["send", "bob", "-", "--json"], typed=SECRET)
    assert (told.returncode, told.stdout) == (4, "")
    error = json.loads(told.stderr)
    check_json(error)
    assert (error["code"], error["error"], error["name"]) == (4, "key-changed", "bob")
    assert error["safety_number"] != error["new_safety_number"]
    liar.inject(my_id(bob), MessageKind.KEY_REQUEST, b"")
    told = messageu(tmp_path, liar.port, "alice", ["recv"])
    assert " was not sent: The key of bob [was verified] has changed" in told.stderr
    assert liar.overheard == []

    # And nothing of it is in the way when he stops.
    liar.names = None
    told = messageu(tmp_path, liar.port, "alice", ["key", "bob", "--json"])
    assert json.loads(told.stdout)["verified"] is True
    assert messageu(tmp_path, liar.port, "alice", ["send", "bob", SECRET]).returncode == 0
    assert texts(bob) == [SECRET]
    assert len(liar.overheard) == 2
    assert not liar.reads(SECRET)


def test_an_injected_symmetric_key_gets_nothing(
    alice: Messenger, bob: Messenger, liar: Middleman, tmp_path: Path
) -> None:
    sent = [f"{SECRET}, {number}" for number in range(TRIES)]
    for number, text in enumerate(sent):
        liar.inject_key(my_id(bob), public_key(alice))
        # Even the first one, with nothing of her own in use yet.
        assert [message.content for message in alice.receive()] == [KeyReceived(number > 0, number > 0)]
        assert alice.agree_on_key("bob") == (number == 0)
        alice.home.sending.send_text("bob", text)
    alice.close()

    # The same through the command.
    liar.inject_key(my_id(bob), public_key(alice))
    told = messageu(tmp_path, liar.port, "alice", ["recv"])
    # Whoever wrote it, it was under the published suite: no mark says that it was bob.
    assert " bob" in told.stdout
    assert "[verified" not in told.stdout
    assert told.stdout.endswith(" sent a symmetric key that was not asked for; it only decrypts\n")
    sent.append(f"{SECRET}, at last")
    told = messageu(tmp_path, liar.port, "alice", ["send", "bob", sent[-1]])
    assert (told.returncode, told.stderr) == (0, "Sent to bob [verified].\n")

    # All of it went under the one key that she made and sealed to bob's.
    first, *others = liar.overheard
    assert first.kind == MessageKind.KEY
    key = bob.identity().private_key.open_key(first.content)
    assert [ciphers.decrypt_text(key, message.content) for message in others] == sent
    assert texts(bob) == sent
    assert not liar.reads(SECRET)


def test_what_waited_when_he_was_verified_gets_nothing(bob: Messenger, liar: Middleman, tmp_path: Path) -> None:
    """Written offline under the liar's key, then bob is verified: it leaves under another one."""
    address = ServerAddress("127.0.0.1", liar.port)
    (tmp_path / "large").write_bytes(SECRET.encode() * 5000)
    with Messenger.open(tmp_path / "carol", address, tmp_path) as carol:
        carol.register("carol")
        carol.home.directory.meet("bob")
        liar.inject_key(my_id(bob), public_key(carol))
        assert [message.content for message in carol.receive()] == [KeyReceived(unasked=False)]
        carol.keep_text("bob", SECRET)
        carol.keep_file("bob", tmp_path / "large")
        assert carol.verification("bob").number == bob.verification("carol").number
        carol.mark_verified("bob")
        carol.send_waiting()
    assert [message.kind for message in liar.overheard] == [MessageKind.KEY, MessageKind.TEXT, MessageKind.FILE]
    assert not liar.reads(SECRET)
    key, text, file = (message.content for message in bob.receive())
    assert (key, text) == (KeyReceived(unasked=False), Text(SECRET))
    assert isinstance(file, SavedFile)
    assert file.path.read_bytes() == (tmp_path / "large").read_bytes()


def test_who_was_never_compared_is_at_his_mercy(
    bob: Messenger, liar: Middleman, mallorys: list[PrivateKey], tmp_path: Path
) -> None:
    """That these lies are good ones: docs/security.md says what they do where nobody
    compared anything.
    """
    address = ServerAddress("127.0.0.1", liar.port)
    with Messenger.open(tmp_path / "carol", address, tmp_path) as carol:
        carol.register("carol")
        liar.inject_key(my_id(bob), public_key(carol))
        assert [message.content for message in carol.receive()] == [KeyReceived(unasked=False)]
        assert not carol.agree_on_key("bob")
        carol.home.sending.send_text("bob", SECRET)
        assert liar.reads(SECRET)
    liar.overheard.clear()
    with Messenger.open(tmp_path / "dave", address, tmp_path) as dave:
        dave.register("dave")
        liar.names = mallorys[1].public_key()
        assert dave.agree_on_key("bob")
        dave.home.sending.send_text("bob", SECRET)
        assert liar.reads(SECRET)
