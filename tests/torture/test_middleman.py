"""The middleman passes on what he does not lie about, and keeps what he adds from the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from common.client_protocol.responses import ResponseCode
from common.client_protocol.versions import SERVER_FEATURES, Feature
from common.values import MessageKind, RefusalReason
from torture.caller import Account, Caller, Refused, new_account, token_of
from torture.middleman import Claimed, Letter, Middleman
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

BUNDLE, OTHER = b"\1" * 1389, b"\2" * 1389


class Scene(NamedTuple):
    """Alice and Bob at a server, and who is between."""

    way: Middleman
    alice: Account
    bob: Account

    def caller(self, account: Account) -> Caller:
        """A connection of somebody through him, signed in."""
        caller = Caller(self.way.port)
        caller.prove(account)
        return caller

    def send(self, *texts: bytes) -> None:
        """Alice writes to Bob, past him."""
        with Caller(self.way.port) as caller:
            caller.prove(self.alice)
            for text in texts:
                caller.send(self.alice.client_id, self.bob.client_id, text, token=token_of(text.decode()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running.start()


@pytest.fixture
def scene(server: Server, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Middleman(server.port) as way:
        alice, bob = (new_account(server.port, f"{name} {request.node.name}"[:80]) for name in ("alice", "bob"))
        yield Scene(way, alice, bob)


def test_what_he_does_not_lie_about_passes_unchanged_and_is_kept(scene: Scene) -> None:
    scene.send(b"one", b"two")
    with scene.caller(scene.bob) as bob:
        assert bob.hello(SERVER_FEATURES).features == SERVER_FEATURES
        mail = bob.fetch(scene.bob.client_id, 0)
        assert [one.content for one in mail] == [b"one", b"two"]
        assert bob.fetch(scene.bob.client_id, mail[0].number)[0].content == b"two"
        assert bob.fetch(scene.bob.client_id, mail[-1].number) == []
    assert [message.content for message in scene.way.overheard] == [b"one", b"two"]
    assert {(one.sender, one.recipient) for one in scene.way.overheard} == {
        (scene.alice.client_id, scene.bob.client_id)
    }
    assert scene.way.told == 0


def test_what_he_adds_is_acknowledged_to_him_alone(scene: Scene) -> None:
    scene.send(b"one")
    scene.way.inject(scene.alice.client_id, MessageKind.TEXT, b"added")
    with scene.caller(scene.bob) as bob:
        mail = bob.fetch(scene.bob.client_id, 0)
        assert [one.content for one in mail] == [b"added", b"one"]
        scene.send(b"two")
        # The true one is not acknowledged yet.
        assert [one.content for one in bob.fetch(scene.bob.client_id, mail[0].number)] == [b"one", b"two"]
        (two,) = bob.fetch(scene.bob.client_id, mail[-1].number)
        scene.way.inject(scene.alice.client_id, MessageKind.TEXT, b"alone")
        (alone,) = bob.fetch(scene.bob.client_id, two.number)
        assert (alone.content, alone.number > two.number) == (b"alone", True)
        assert bob.fetch(scene.bob.client_id, alone.number) == []
        scene.way.inject(scene.alice.client_id, MessageKind.TEXT, b"by 604")
        assert [one.content for one in bob.pull(scene.bob.client_id)] == [b"by 604"]
    assert scene.way.told == 3


def test_mail_is_rewritten_once(scene: Scene) -> None:
    def rewrite(letters: list[Letter]) -> list[Letter]:
        return [letters[1]._replace(content=b"changed"), letters[0]]

    scene.send(b"one", b"two", b"three")
    scene.way.rewrite = rewrite
    with scene.caller(scene.bob) as bob:
        mail = bob.fetch(scene.bob.client_id, 0)
        assert [one.content for one in mail] == [b"changed", b"one"]
        # The last number stands for all that the server gave.
        assert bob.fetch(scene.bob.client_id, mail[-1].number) == []
        scene.send(b"four")
        assert [one.content for one in bob.fetch(scene.bob.client_id, mail[-1].number)] == [b"four"]


def test_he_withholds_all_of_an_answer_for_now(scene: Scene) -> None:
    scene.send(b"one")
    scene.way.rewrite = lambda _letters: []
    with scene.caller(scene.bob) as bob:
        assert bob.fetch(scene.bob.client_id, 0) == []
        assert [one.content for one in bob.fetch(scene.bob.client_id, 0)] == [b"one"]


def test_claims_are_answered_as_he_likes(scene: Scene) -> None:
    with scene.caller(scene.bob) as bob:
        bob.publish(scene.bob.client_id, BUNDLE, b"\3" * 96)
    asked: list[tuple[bytes, Claimed]] = []

    def lie(subject: bytes, said: Claimed) -> Claimed | None:
        asked.append((subject, said))
        return said if len(asked) == 1 else Claimed(OTHER) if len(asked) == 2 else None

    scene.way.claim = lie
    with scene.caller(scene.alice) as alice:
        assert alice.claim(scene.alice.client_id, scene.bob.client_id).bundle == BUNDLE
        assert alice.claim(scene.alice.client_id, scene.bob.client_id) == (OTHER, b"")
        with pytest.raises(Refused):
            alice.claim(scene.alice.client_id, scene.bob.client_id)
        scene.way.be_honest()
        assert alice.claim(scene.alice.client_id, scene.bob.client_id) == (BUNDLE, b"")
    assert asked == [
        (scene.bob.client_id, Claimed(BUNDLE, b"\3" * 96)),
        (scene.bob.client_id, Claimed(BUNDLE)),
        (scene.bob.client_id, Claimed(BUNDLE)),
    ]
    assert scene.way.told == 2


def test_he_hides_refuses_and_cuts(scene: Scene) -> None:
    scene.way.hides = Feature.KEYS
    with scene.caller(scene.alice) as alice:
        assert alice.hello(SERVER_FEATURES).features == SERVER_FEATURES & ~Feature.KEYS
        scene.way.refuses = {ResponseCode.STORED: RefusalReason.NO_KEYS}
        with pytest.raises(Refused) as caught:
            alice.send(scene.alice.client_id, scene.bob.client_id, b"x", token=token_of("x"))
        assert caught.value.reason == RefusalReason.NO_KEYS
        scene.way.be_honest()
        # The server has it all the same.
        sent = alice.send(scene.alice.client_id, scene.bob.client_id, b"x", token=token_of("x"))
        assert sent
        scene.way.cuts = {ResponseCode.STORED}
        with pytest.raises(OSError, match="ended"):
            alice.send(scene.alice.client_id, scene.bob.client_id, b"y", token=token_of("y"))
    scene.way.be_honest()
    with scene.caller(scene.bob) as bob:
        assert [one.content for one in bob.fetch(scene.bob.client_id, 0)] == [b"x", b"y"]
