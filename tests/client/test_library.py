"""The library as a script uses it: from the environment, one send, and a loop over what comes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.errors import AlreadyRegistered, FileUnreadable, OutcomeUnknown
from client.messenger import KeyReceived, Messages, Messenger, Received, SavedFile, Text
from common.client_protocol.requests import RegisterRequest
from common.errors import SettingRejected, ValueRejected
from tests.client.fake_gateway import Answer, ExtendedMailroom, FakeGateway, Mailroom
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "library.md")


@pytest.fixture(params=[ExtendedMailroom, Mailroom], ids=["extension", "published"])
def mailroom(request: pytest.FixtureRequest) -> Mailroom:
    made: Mailroom = request.param()
    return made


def texts(messenger: Messenger) -> list[str]:
    return [message.content.text for message in messenger.messages() if isinstance(message.content, Text)]


# --- opening
# --------------------------------------------------------------------------------------------------


def test_strings_where_paths_and_addresses_are_meant(
    tmp_path: Path, gateway: FakeGateway, bob: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_bytes(b"data")
    with Messenger.open("~/alice", str(gateway.address), str(tmp_path / "in")) as alice:
        alice.ensure_registered("alice")
        alice.send("bob", tmp_path / "file")
    assert (tmp_path / "alice" / "my.info").exists()
    *_, received = bob.messages()
    assert isinstance(received.content, SavedFile)
    assert received.content.path.read_bytes() == b"data"
    for server in ("localhost", "", "localhost:0"):
        with pytest.raises(SettingRejected, match="HOST:PORT"):
            Messenger.open(tmp_path / "none", server)
    with pytest.raises(SettingRejected, match="no user has the home folder"):
        Messenger.open("~nobody who is known/x", gateway.address)
    assert not (tmp_path / "none").exists()


def test_what_the_environment_names(tmp_path: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESSAGEU_ROOT", raising=False)
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MESSAGEU_HOME", str(tmp_path / "robot"))
    monkeypatch.setenv("MESSAGEU_SERVER", str(gateway.address))
    monkeypatch.setenv("MESSAGEU_PASSPHRASE", "is not taken away")
    with Messenger.from_environment() as robot:
        assert robot.ensure_registered("robot").name == "robot"
    assert os.environ["MESSAGEU_PASSPHRASE"] == "is not taken away"
    monkeypatch.delenv("MESSAGEU_SERVER")
    # Remembered, as by the command.
    with Messenger.from_environment() as robot:
        assert robot.identity().name == "robot"
        assert robot.users() == []
    with pytest.raises(SettingRejected, match=r"There is no server\.info"):
        Messenger.from_environment(home=tmp_path / "other")
    with Messenger.from_environment(home=str(tmp_path / "other"), server=gateway.address) as other:
        assert other.ensure_registered("other").name == "other"


def test_registered_once(alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    before = len(gateway.requests)
    assert alice.ensure_registered("alice") == alice.identity()
    assert len(gateway.requests) == before
    with pytest.raises(AlreadyRegistered, match="user is alice, not bob"):
        alice.ensure_registered("bob")
    new = make("carol")

    def lose(request: object) -> None:
        if isinstance(request, RegisterRequest):
            gateway.script.append(Answer(b"", close=True))

    gateway.on_request = lose
    with pytest.raises(OutcomeUnknown):
        new.ensure_registered("carol")
    assert new.home.account.pending_name() == "carol"


# --- sending
# --------------------------------------------------------------------------------------------------


def test_one_send_for_all(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of a file")
    alice.send("bob", "a text")
    alice.send("bob", tmp_path / "file")
    alice.send("bob", b"of nothing but memory")
    alice.send("bob", b"")
    alice.send("bob", os.urandom(200_000))
    received = [message.content for message in bob.messages()]
    assert received[:2] == [KeyReceived(), Text("a text")]
    files = [content.path.read_bytes() for content in received[2:] if isinstance(content, SavedFile)]
    assert files[:3] == [b"of a file", b"of nothing but memory", b""]
    assert [len(data) for data in files[3:]] == [200_000]
    sent = [(message.text, message.path) for message in alice.history() if not hasattr(message, "sender")]
    assert sent == [("a text", None), (None, tmp_path / "file"), (None, None), (None, None), (None, None)]


def test_what_can_not_be_sent_costs_no_key(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    for content in ("", "\udcff"):
        with pytest.raises(ValueRejected):
            alice.send("bob", content)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileUnreadable):
            alice.send("bob", path)
    assert list(bob.messages()) == []


# --- receiving
# --------------------------------------------------------------------------------------------------


def test_a_message_is_received_when_the_next_one_is_asked_for(alice: Messenger, bob: Messenger) -> None:
    for text in ("one", "two", "three"):
        alice.send("bob", text)

    def read(until: str) -> None:
        for message in bob.messages():
            if message.content == Text(until):
                break

    read("one")
    messages = bob.messages()
    first = next(messages)
    assert (first.content, first.repeated) == (Text("one"), True)
    assert next(messages).content == Text("two")
    messages.acknowledge()
    # Nothing is left to acknowledge, and the loop can go on.
    messages.acknowledge()
    # Nobody was given it while the one before was acknowledged.
    assert [(message.content, message.repeated) for message in messages] == [(Text("three"), False)]
    assert list(bob.messages()) == []


def test_a_with_acknowledges_unless_something_breaks(alice: Messenger, bob: Messenger) -> None:
    alice.send("bob", "one")
    alice.send("bob", "two")
    with pytest.raises(RuntimeError, match="broke"), bob.messages() as messages:
        for message in messages:
            if message.content == Text("one"):
                raise RuntimeError("broke")
    with bob.messages() as messages:
        assert next(messages).content == Text("one")
    with bob.messages() as messages:
        assert next(messages).content == Text("two")
        messages.close()
    assert texts(bob) == ["two"]
    with bob.messages() as messages:
        assert list(messages) == []


def test_an_answer_from_within_the_loop(alice: Messenger, bob: Messenger) -> None:
    alice.send("bob", "one")
    alice.send("bob", "two")
    for message in bob.messages():
        if isinstance(message.content, Text):
            bob.send("alice", message.content.text.upper())
    assert texts(alice) == ["ONE", "TWO"]


def test_waiting_for_the_next_message(alice: Messenger, make: Callable[..., Messenger]) -> None:
    """Each message gives another `wait` seconds; this clock moves by one whenever it is
    looked at.
    """
    seconds = iter(range(10_000))
    bob = make("bob", monotonic=lambda: float(next(seconds)))
    bob.register("bob")
    alice.send("bob", "one")
    messages = bob.messages(wait=5)
    assert next(messages).content == KeyReceived()
    assert next(messages).content == Text("one")
    alice.send("bob", "two")
    again = Messages(bob.receive, 5, lambda: float(next(seconds)), lambda _: None)
    messages.acknowledge()
    assert [message.content for message in again] == [Text("two")]


def test_waiting_for_ever(alice: Messenger, bob: Messenger) -> None:
    alice.agree_on_key("bob")
    came = iter(["one", "two"])

    def sent(text: str) -> None:
        alice.send("bob", text)

    bob_receives = bob.receive

    def receive(wait: float) -> object:
        assert wait > 0
        return bob_receives(0)

    messages = Messages(receive, None, lambda: 0.0, lambda _: sent(next(came)))  # type: ignore[arg-type]
    assert [next(messages).content for _ in range(3)] == [KeyReceived(), Text("one"), Text("two")]
    messages.close()


def test_a_failure_ends_the_loop_and_nothing_else(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.send("bob", "one")
    messages = bob.messages()
    assert next(messages).content == KeyReceived()
    assert next(messages).content == Text("one")
    messages.acknowledge()
    gateway.script.extend([Answer(b"nonsense" * 10, close=True)] * 8)
    with pytest.raises(Exception, match="server"):
        next(messages)
    gateway.script.clear()
    alice.send("bob", "two")
    assert [message.content for message in messages] == [Text("two")]


# --- the examples
# -----------------------------------------------------------------------------------------------


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=["README", "library"])
def test_the_examples_run_as_printed_and_run_again(
    page: Path, bob: Messenger, gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "server.info").write_text(f"{gateway.address}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGEU_")}
    environment |= {"PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(tmp_path / "config.toml")}
    whole = [example for example in examples(page) if "from_environment" in example]
    assert whole
    for example in whole:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-P", "-c", example],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env=environment,
                timeout=HANG_SECONDS,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == ""
    assert texts(bob) == ["the build is done"] * 2 * len(whole)
    bob.send("alice", "well done")
    done = subprocess.run(
        [sys.executable, "-P", "-c", whole[0]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=HANG_SECONDS,
        check=True,
    )
    assert done.stdout == "bob well done\n"


def test_the_other_example(alice: Messenger, bob: Messenger) -> None:
    """That of a loop that is left."""
    (example,) = [example for example in examples(PAGES[1]) if "wait=60" in example]
    for text in ("wait", "go", "later"):
        alice.send("bob", text)
    exec(example.replace("wait=60", "wait=0"), {"messenger": bob, "Text": Text})
    assert texts(bob) == ["later"]


def test_the_example_of_those_who_are_not_wanted(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [example for example in examples(PAGES[1]) if "block(" in example]
    for name in ("mallory", "carol"):
        make(name).register(name)
    alice.users()
    for name in ("mallory", "carol"):
        with make(name) as sender:
            sender.send("alice", f"of {name}")
    bob.send("alice", "of bob")
    exec(example, {"messenger": alice})
    assert capsys.readouterr().out.splitlines() == [
        "carol KeyReceived(unasked=False, only_decrypts=False)",
        "carol Text(text='of carol')",
    ]
    given = [message.content for message in alice.history() if isinstance(message, Received)]
    assert Text("of bob") in given
    assert Text("of mallory") not in given
