from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.crypto.ciphers import SymmetricKey
from client.terminal.console import Console
from client.terminal.menu import MENU, Menu
from common.client_protocol import responses
from common.server_address import ServerAddress
from common.values import ClientId, Username
from tests.client.fake_gateway import CLOSE, ERROR, Answer, FakeGateway, user_list

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger

KEY = SymmetricKey(b"0123456789abcdef")


def play(messenger: Messenger, *lines: str, terminal: bool = False) -> list[str]:
    """What is printed between the menus, on a pipe that ends behind these lines."""
    sink = io.StringIO()
    console = Console(io.StringIO("".join(f"{line}\n" for line in lines)), sink, terminal=False)
    console.terminal = terminal
    assert Menu(messenger.home, lambda: messenger.home, console).run() == 0
    parts = sink.getvalue().split(f"{MENU}\n")
    assert parts[0] == ""
    return parts[1:]


def test_the_menu_as_published() -> None:
    assert MENU.splitlines() == [
        "MessageU client at your service.",
        "110) Register",
        "120) Request for clients list",
        "130) Request for public key",
        "140) Request for waiting messages",
        "150) Send a text message",
        "151) Send a request for symmetric key",
        "152) Send your symmetric key",
        "153) Send a file",
        " 0) Exit client",
        "?",
    ]


def test_the_end(make: Callable[..., Messenger]) -> None:
    assert play(make("a"), "0", "120") == [""]
    assert play(make("a")) == [""]
    assert play(make("a"), "110") == ["User name:\n"]


def test_no_such_choice(make: Callable[..., Messenger]) -> None:
    assert play(make("a"), "999\x1b", "", " 0 ") == ["There is no choice 999\\x1b.\n", "", ""]


def test_registering(make: Callable[..., Messenger]) -> None:
    assert play(make("a"), "110", "alice", "110", "alice") == [
        "User name:\nRegistered as alice.\n",
        "User name:\nThis home has an identity already, and it is not replaced.\nUse --home for another user.\n",
        "",
    ]


def test_a_bad_name(make: Callable[..., Messenger]) -> None:
    assert play(make("a"), "110", "") == ["User name:\nNot registered: a name needs at least one character.\n", ""]


def test_completing_a_registration(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(CLOSE)
    first, second, _ = play(make("a"), "110", "alice", "110", "alice")
    assert "gave no whole answer" in first
    assert second == (
        "The registration of alice is not complete yet; enter alice to complete it.\nUser name:\nRegistered as alice.\n"
    )


def test_the_list(alice: Messenger, gateway: FakeGateway) -> None:
    assert play(alice, "120")[0] == "Nobody else is registered.\n"
    gateway.mailroom.register("bob")
    gateway.mailroom.register("Michael Jackson")
    assert play(alice, "120")[0] == "bob\nMichael Jackson\n"


def test_a_name_with_control_characters(alice: Messenger, gateway: FakeGateway) -> None:
    gateway.script.append(Answer(user_list([(ClientId(b"x" * 16), Username("eve\x1b[31m"))])))
    assert play(alice, "120")[0] == "eve\\x1b[31m\n"


def test_a_public_key(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    assert play(alice, "130", "bob")[0] == "User name:\nThe public key of bob is here.\n"
    gateway.mailroom.keys[gateway.mailroom.id_of("bob")] = alice.identity().private_key.public_key()
    assert "not the one that was here before" in play(alice, "130", "bob")[0]


def test_nothing_waits(alice: Messenger) -> None:
    assert play(alice, "140")[0] == "No messages wait.\n"


def test_the_flow_of_keys_and_a_text(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    assert play(alice, "151", "bob")[0] == "User name:\nbob is asked for a symmetric key.\n"
    assert play(bob, "140")[0] == "From: alice\nContent:\nRequest for symmetric key\n-----<EOM>-----\n\n"
    needs, _, sent, _ = play(bob, "152", "alice", "130", "alice", "152", "alice")
    assert needs == "User name:\nThe public key of alice is not here yet.\nAsk the server for it, with 130.\n"
    assert sent == "User name:\nA new symmetric key is made and sent to alice.\n"
    assert play(alice, "140")[0] == "From: bob\nContent:\nsymmetric key received\n-----<EOM>-----\n\n"
    assert play(alice, "150", "bob", " hello ")[0] == "User name:\nText:\nSent to bob.\n"
    assert play(bob, "140")[0] == "From: alice\nContent:\n hello \n-----<EOM>-----\n\n"


def test_without_a_shared_key_a_pipe_gets_the_plain_error(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    text, file, _ = play(alice, "150", "bob", "0", "153", "bob", "0")
    told = "No symmetric key is shared with bob.\nAsk for one with 151, or make and send one with 152.\n"
    assert text == f"User name:\nText:\n{told}"
    assert file == f"User name:\nPath of the file:\n{told}"


def test_without_a_shared_key_a_person_is_offered_one(
    alice: Messenger, bob: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["150", "bob", "hello", "n", "150", "bob", "hello", "y", "152", "bob", "0"])
    monkeypatch.setattr("builtins.input", lambda _="": next(typed))
    refused, sent, again, _ = play(alice, terminal=True)
    assert refused.startswith("No symmetric key is shared with bob.")
    assert sent == "A new symmetric key is made and sent to bob.\nSent to bob.\n"
    assert again == "A new symmetric key is made and sent to bob.\n"
    assert [type(message.content).__name__ for message in bob.receive()] == ["KeyReceived", "Text", "KeyReceived"]


def test_an_unknown_name(alice: Messenger, bob: Messenger) -> None:
    for choice in (["130", "bbo"], ["150", "bbo", "text"], ["151", "bbo"], ["152", "bbo"], ["153", "bbo", "path"]):
        assert play(alice, *choice)[0].endswith("The server knows nobody of that name.\nDid you mean bob?\n")


def test_an_empty_text_is_not_sent(alice: Messenger, bob: Messenger) -> None:
    play(alice, "130", "bob", "152", "bob")
    assert play(alice, "150", "bob", "", "0") == ["User name:\nText:\nThe text is empty; nothing is sent.\n", ""]
    assert [type(message.content).__name__ for message in bob.receive()] == ["KeyReceived"]


class Person:
    """Types answers, where `input` asks; None is Ctrl-D."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = iter(answers)
        self.asked: list[str] = []

    def __call__(self, prompt: str = "") -> str:
        answer = next(self._answers)
        if prompt:
            self.asked.append(prompt)
        if answer is None:
            raise EOFError
        return answer


def test_a_person_hears_that_a_name_is_unknown_before_anything_else_is_asked(
    alice: Messenger, bob: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person("150", "bbo", "153", "bbo", "0")
    monkeypatch.setattr("builtins.input", person)
    unknown = "The server knows nobody of that name.\nDid you mean bob?\n"
    assert play(alice, terminal=True) == [unknown, unknown, ""]
    assert person.asked == ["User name: "] * 2


def test_a_person_writes_a_note_to_himself(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person("150", "alice", "buy milk", "y", "140", "0")
    monkeypatch.setattr("builtins.input", person)
    *_, shown, goodbye = play(alice, terminal=True)
    assert shown == "From: alice\nContent:\nbuy milk\n-----<EOM>-----\n\n"
    assert goodbye == ""


def test_the_end_of_input_at_a_question_is_the_menu_again_for_a_person(
    alice: Messenger, bob: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person("150", None, "150", "bob", None, "150", "bob", "hello", None, "130", None, None)
    monkeypatch.setattr("builtins.input", person)
    assert play(alice, terminal=True) == ["\n"] * 4 + [""]
    question = "No symmetric key is shared with bob. Make one and send it first? [Y/n] "
    assert person.asked == ["User name: ", *["User name: ", "Text: "] * 2, question, "User name: "]
    assert not list(bob.receive())


def test_what_is_pasted_in_the_menu_is_one_choice(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", Person("120\n130", "0"))
    assert play(alice, terminal=True) == ["There is no choice 120\\x0a130.\n", ""]


def test_a_file(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    alice.fetch_public_key("bob")
    alice.send_key("bob")
    assert play(alice, "153", "bob", f"{tmp_path}/file")[0] == "User name:\nPath of the file:\nSent to bob.\n"
    missing = play(alice, "153", "bob", f"{tmp_path}/none")[0].splitlines()
    assert missing[-2:] == ["file not found", f"{tmp_path}/none: No such file or directory. Check the path."]
    path = play(bob, "140")[0].splitlines()[-3]
    assert path == f"{tmp_path}/saved/messageu-alice-2.txt"


def test_what_can_not_be_decrypted(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    gateway.mailroom.put(
        gateway.mailroom.id_of("bob"), gateway.mailroom.id_of("alice"), 3, ciphers.encrypt(KEY, b"secret")
    )
    assert play(alice, "140")[0] == "From: bob\nContent:\ncan't decrypt message\n-----<EOM>-----\n\n"
    assert play(alice, "140")[0] == "No messages wait.\n"


@pytest.mark.parametrize("answer", [ERROR, Answer(b"garbage"), Answer(responses.encode_registered(b"x" * 16))])
def test_an_error_of_the_server(alice: Messenger, gateway: FakeGateway, answer: Answer) -> None:
    gateway.script.append(answer)
    first, reason = play(alice, "120")[0].splitlines()
    assert first == "Server responded with an error"
    assert reason.endswith(".")
    assert play(alice, "120")[0] == "Nobody else is registered.\n"


def test_no_server(alice: Messenger, make: Callable[..., Messenger]) -> None:
    offline = make("alice", server=ServerAddress("127.0.0.1", 1))
    sentence, advice = play(offline, "120")[0].splitlines()
    assert sentence == "There is no server at 127.0.0.1:1 (Connection refused)."
    assert "server.info" in advice


def test_a_corrupt_identity(make: Callable[..., Messenger], tmp_path: Path) -> None:
    messenger = make("a")
    (tmp_path / "a" / "my.info").write_text("alice\nnot hex\n")
    assert play(messenger, "120")[0].startswith(f"{tmp_path}/a/my.info, line 2: expected the id as 32 hex digits")


def test_an_interrupt_in_the_middle_goes_back_to_the_menu(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(alice.home.directory, "users", interrupt)
    assert play(alice, "120", "0") == ["Interrupted.\n", ""]


def test_an_interrupt_at_the_menu_ends(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    console = Console(io.StringIO(), sink, terminal=False)

    def interrupt(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "choose", interrupt)
    assert Menu(alice.home, lambda: alice.home, console).run() == 130
    assert sink.getvalue().endswith("?\nInterrupted.\n")


def test_what_the_system_refuses(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(alice.home.directory, "users", refuse)
    assert play(alice, "120", "0") == ["The system refused: [Errno 24] Too many open files.\n", ""]


def test_a_reader_that_has_gone_ends_it(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(alice.home.directory, "users", gone)
    with pytest.raises(BrokenPipeError):
        play(alice, "120")
