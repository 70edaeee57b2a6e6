"""An account moves to another server: what is kept, what is refused, and what a death at any step
leaves behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.__main__ import main
from client.cli.output import Output
from client.errors import KeyChanged
from client.identity import identity_files
from client.identity.passphrase import set_passphrase
from client.messenger import Messenger, Received, SentMessage, Text
from client.settings import MOVING, Flags, Settings
from client.store.settings import ServerRow
from client.trust.blocking import Told
from common.client_protocol.requests import DeleteAccountRequest, RegisterRequest
from common.client_protocol.versions import Feature
from common.values import ClientId, Username
from tests.client.certificates import new_certificate
from tests.client.exchange import NOWHERE, receive
from tests.client.fake_gateway import CLOSE, Answer, ExtendedMailroom, FakeGateway, Mailroom, SuiteMailroom
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from client.crypto.ciphers import PrivateKey

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)
ROOT = Path(__file__).parents[2]
FIRST, SECOND = new_certificate(), new_certificate()


def other_server(kind: type[Mailroom] = ExtendedMailroom) -> Mailroom:
    """Another server than that of the fixture, with other ids."""
    room = kind()
    room.names[ClientId(bytes([100]) * 16)] = Username("somebody")
    if isinstance(room, ExtendedMailroom):
        room.server_id = b"T" * 16
        room.generation = 7
    return room


@pytest.fixture
def elsewhere() -> Iterator[FakeGateway]:
    with FakeGateway(other_server()) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("MESSAGEU_SERVER", raising=False)
    monkeypatch.setattr("client.connection.server_link.CLOSING_GRACE", 0.001)


@pytest.fixture
def command(tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command for a user's home; what it printed. A home without a server.info gets one."""

    def run(name: str, *words: str, code: int = 0) -> str:
        server_info = tmp_path / name / "server.info"
        if not server_info.exists():
            server_info.write_text(f"{gateway.address}\n")
        ended = main(["--home", str(tmp_path / name), "--save-dir", str(tmp_path / "in"), *words])
        printed = capsys.readouterr()
        said = " ".join(f"{printed.out}\n{printed.err}".split())
        assert ended == code, said
        return said

    return run


def moved(command: Callable[..., str], name: str, to: FakeGateway, *more: str, code: int = 0) -> str:
    return command(name, "account", "move", str(to.address), "--yes", *more, code=code)


def extended(gateway: FakeGateway) -> ExtendedMailroom:
    assert isinstance(gateway.mailroom, ExtendedMailroom)
    return gateway.mailroom


# --- what goes along
# --------------------------------------------------------------------------------------------------


def test_the_account_goes_with_all_that_it_has(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, make: Callable[..., Messenger],
    command: Callable[..., str], tmp_path: Path,
) -> None:  # fmt: skip
    gateway.mailroom.register("carol", b"c" * 160)
    alice.send("bob", "before")
    alice.mark_verified("bob")
    bob.send("alice", "waits at the old server")
    key, old = alice.identity().private_key.der(), alice.identity()
    for one in (alice, bob):
        one.close()

    told = moved(command, "alice", elsewhere)
    assert f"The account is at {elsewhere.address.place} from now on, as alice." in told
    assert "Not at this server: bob." in told
    assert (tmp_path / "alice" / "server.info").read_text() == f"{elsewhere.address}\n"
    assert not (tmp_path / "alice" / MOVING).exists()
    identity = identity_files.load(tmp_path / "alice")
    assert identity.private_key.der() == key
    assert identity.client_id == elsewhere.mailroom.id_of("alice") != old.client_id
    assert gateway.mailroom.id_of("alice") == old.client_id

    with make("alice", elsewhere.address) as she:
        assert receive(she)[-1] == Text("waits at the old server")
        assert she.home.directory.is_verified_name("bob")
        assert [one.text for one in she.history() if isinstance(one, SentMessage)] == ["before"]
        assert she.lost_count() == 0
        assert she.home.store.server.known() == ServerRow(b"T" * 16, 7, 0)
    command("alice", "send", "bob", "he is not there", code=7)

    told = moved(command, "bob", elsewhere)
    assert "alice has another id at the server now, and the same key as before." in told
    assert command("alice", "send", "bob", "here we are").endswith("Sent to bob [verified].")
    assert "alice: here we are" in command("bob", "recv")
    command("bob", "send", "alice", "so we are")
    # Under the published suite nothing says who wrote a message.
    assert command("alice", "recv").endswith("bob: so we are")
    with make("alice", elsewhere.address) as she:
        names = {one.recipient.name if isinstance(one, SentMessage) else one.sender_name for one in she.history()}
        assert names == {"bob"}


@pytest.mark.mailroom(kind=SuiteMailroom)
def test_keys_of_suite_1_that_were_compared_are_still_verified_when_both_have_moved(
    alice: Messenger, bob: Messenger, command: Callable[..., str]
) -> None:
    alice.send("bob", "before")
    assert receive(bob)[-1] == Text("before")
    assert alice.mark_verified("bob").suite == 1
    for one in (alice, bob):
        one.close()

    with FakeGateway(other_server(SuiteMailroom)) as elsewhere:
        moved(command, "alice", elsewhere)
        moved(command, "bob", elsewhere)
        assert command("alice", "send", "bob", "here we are").endswith("Sent to bob [verified].")
        assert "alice: here we are" in command("bob", "recv")
        command("bob", "send", "alice", "so we are")
        assert command("alice", "recv").endswith("bob [verified]: so we are")


def test_who_has_another_key_there_is_shown_as_changed(
    alice: Messenger, bob: Messenger, elsewhere: FakeGateway, make: Callable[..., Messenger],
    command: Callable[..., str], private_keys: list[PrivateKey],
) -> None:  # fmt: skip
    alice.send("bob", "hello")
    alice.close()
    bob.close()
    elsewhere.mailroom.register("bob", private_keys[2].public_key())
    told = moved(command, "alice", elsewhere)
    assert "bob has another key here than the one you know: nothing is sent there until you accept it." in told
    assert "has changed; nothing was sent" in command("alice", "send", "bob", "is it you?", code=4)
    with make("alice", elsewhere.address) as she, pytest.raises(KeyChanged):
        she.contact("bob")


def test_whom_the_user_silenced(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, make: Callable[..., Messenger],
    command: Callable[..., str],
) -> None:  # fmt: skip
    extended(gateway).features |= Feature.BLOCKING
    extended(elsewhere).features |= Feature.BLOCKING
    gateway.mailroom.register("mallory", b"m" * 160)
    alice.send("bob", "hello")
    alice.home.link.close()
    assert alice.home.blocking.block("bob")[1] is Told.YES
    alice.mute("mallory")
    alice.close()
    bob.close()
    moved(command, "bob", elsewhere)
    told = moved(command, "alice", elsewhere)
    # Bob is known by his key; mallory is a name alone.
    assert "Blocked or muted at the server of before alone: mallory." in told
    with make("alice", elsewhere.address) as she:
        [found] = [one for one in she.silenced() if one.blocked]
        assert found.contact.client_id == elsewhere.mailroom.id_of("bob")
        she.users()
        assert (she.identity().client_id, found.contact.client_id) in extended(elsewhere).blocked


def test_notes_to_oneself_stay_notes(
    alice: Messenger, elsewhere: FakeGateway, make: Callable[..., Messenger], command: Callable[..., str]
) -> None:
    alice.send("alice", "a note")
    assert receive(alice) == [Text("a note")]
    alice.close()
    elsewhere.mailroom.register("alice", b"a" * 160)
    told = moved(command, "alice", elsewhere, code=6)
    assert "--name NEW takes another name there" in told
    moved(command, "alice", elsewhere, "--name", "alice2")
    command("alice", "send", "alice2", "another note")
    with make("alice", elsewhere.address) as she:
        assert receive(she) == [Text("another note")]
        assert [type(one) for one in she.history()] == [SentMessage, SentMessage]
        assert not [one for one in she.history() if isinstance(one, Received)]
        # Whoever has the old name there is nobody whom this home knew.
        assert she.home.diagnosis.changed_keys() == []


def test_a_move_from_tls_to_plain_tcp_is_said(
    make: Callable[..., Messenger], elsewhere: FakeGateway, command: Callable[..., str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with FakeGateway(ExtendedMailroom(), certificate=FIRST) as secure:
        for name in ("alice", "bob"):
            messenger = make(name, server=secure.address)
            messenger.register(name)
            messenger.close()
            (tmp_path / name / "server.info").write_text(f"{secure.address}\n")
        sentence = (
            f"{elsewhere.address.place} is named without a pin: connections to it are not encrypted, as those to "
            f"{secure.address.place} are. A link of the new server's operator has its pin."
        )
        told = moved(command, "alice", elsewhere)
        assert told.count(sentence) == 1
        assert "The account is at" in told
        asked: list[str] = []
        monkeypatch.setattr(Output, "confirm", lambda _output, question: asked.append(question))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        assert "Nothing was moved." in command("bob", "account", "move", str(elsewhere.address), code=1)
        assert len(asked) == 1
        assert asked[0].endswith(sentence)
        with FakeGateway(other_server(), certificate=SECOND) as secure_too:
            assert "not encrypted" not in moved(command, "bob", secure_too)


def test_a_home_with_a_passphrase(
    alice: Messenger, elsewhere: FakeGateway, command: Callable[..., str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, cheap: None,
) -> None:  # fmt: skip
    alice.close()
    set_passphrase(tmp_path / "alice", "secret words")
    key = (tmp_path / "alice" / "my.info").read_text().splitlines()[2:]
    monkeypatch.setenv("MESSAGEU_PASSPHRASE", "secret words")
    moved(command, "alice", elsewhere)
    # The same text: the key was not decrypted to be written.
    assert (tmp_path / "alice" / "my.info").read_text().splitlines()[2:] == key
    assert identity_files.with_plain_keys(tmp_path / "alice") == []


def test_to_and_from_servers_of_the_published_protocol(
    alice: Messenger, gateway: FakeGateway, command: Callable[..., str]
) -> None:
    alice.close()
    with FakeGateway(other_server(Mailroom)) as published:
        told = moved(command, "alice", published)
        assert "speaks only the published protocol" in told
        assert json.loads(command("alice", "whoami", "--json"))["proven"] is False
        # The account is still there, under this key.
        moved(command, "alice", gateway)
    assert json.loads(command("alice", "whoami", "--json"))["proven"] is True


# --- what is refused
# --------------------------------------------------------------------------------------------------


def test_what_is_not_moved(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str],
    tmp_path: Path,
) -> None:  # fmt: skip
    alice.agree_on_key("bob")
    alice.close()
    bob.close()
    before = (tmp_path / "alice" / "my.info").read_text()
    assert "needs the address" in command("alice", "account", "move", code=2)
    assert "takes HOST:PORT" in command("alice", "account", "move", "nowhere", "--yes", code=2)
    assert "options of `account move`" in command("alice", "account", "delete", "--delete-old", code=2)
    assert "give --yes" in command("alice", "account", "move", str(elsewhere.address), code=2)
    assert "This account is at" in moved(command, "alice", gateway, code=2)
    assert "Choose another name" in moved(command, "alice", elsewhere, "--name", " no", code=2)
    with FakeGateway(gateway.mailroom) as again:
        assert "another address of the server that this account is at" in moved(command, "alice", again, code=2)
    told = command("alice", "account", "move", str(NOWHERE), "--yes", code=3)
    assert f"There is no server at {NOWHERE.place}" in told
    assert "Check its address. Nothing was moved." in told
    extended(gateway).features &= ~Feature.ACCOUNTS
    assert "can't delete an account" in moved(command, "alice", elsewhere, "--delete-old", code=2)
    assert elsewhere.codes() == []
    assert (tmp_path / "alice" / "my.info").read_text() == before
    assert not (tmp_path / "alice" / MOVING).exists()


@pytest.mark.parametrize(
    ("answer", "code"), [(CLOSE, 3), (Answer(b"\xff" * 40), 6)], ids=["it closes", "it answers nonsense"]
)
def test_a_new_server_that_fails_is_said_to_have_moved_nothing(
    answer: Answer, code: int, alice: Messenger, elsewhere: FakeGateway, command: Callable[..., str], tmp_path: Path
) -> None:
    alice.close()
    before = (tmp_path / "alice" / "my.info").read_text()
    elsewhere.script.extend([answer] * 10)
    told = moved(command, "alice", elsewhere, code=code)
    assert told.endswith("Nothing was moved; the same command tries again.")
    assert (tmp_path / "alice" / "my.info").read_text() == before
    assert not (tmp_path / "alice" / MOVING).exists()
    elsewhere.script.clear()
    moved(command, "alice", elsewhere)


def test_not_while_something_waits_to_be_sent(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, make: Callable[..., Messenger],
    command: Callable[..., str],
) -> None:  # fmt: skip
    alice.send("bob", "hello")
    alice.keep_text("bob", "waits")
    alice.close()
    bob.close()
    assert "Not sent yet: 1 message." in moved(command, "alice", elsewhere, code=2)
    moved(command, "alice", elsewhere, "--leave-waiting")
    with make("alice", elsewhere.address) as she:
        assert she.home.outbox.waiting_count() == 0
        [failed] = she.failed()
        assert (failed.text, "moved to" in failed.problem) == ("waits", True)
        assert [one.problem is None for one in she.history() if isinstance(one, SentMessage)] == [True, False]


def test_not_while_something_is_possibly_lost(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str]
) -> None:
    alice.send("bob", "hello")
    extended(gateway).generation += 1
    alice.home.link.close()
    alice.users()
    alice.close()
    bob.close()
    assert "Possibly lost: 2 messages." in moved(command, "alice", elsewhere, code=2)
    command("alice", "resend")
    moved(command, "alice", elsewhere)
    # What the old server acknowledged is none of the new one's.
    extended(elsewhere).generation += 1
    assert "possibly lost" not in command("alice", "users")


def test_an_old_server_that_is_gone(
    alice: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str], tmp_path: Path
) -> None:
    alice.close()
    (tmp_path / "alice" / "server.info").write_text(f"{NOWHERE}\n")
    told = moved(command, "alice", elsewhere, code=3)
    assert "is fetched first; nothing was moved. With --leave-waiting it is left there." in told
    assert elsewhere.codes() == []
    told = moved(command, "alice", elsewhere, "--leave-waiting")
    assert f"What waits at {NOWHERE.place} is left there" in told
    command("alice", "users")


def test_not_beside_another_process(alice: Messenger, elsewhere: FakeGateway, command: Callable[..., str]) -> None:
    # It has the home open.
    assert "Another process works in this home" in moved(command, "alice", elsewhere, code=1)
    assert elsewhere.codes() == []
    alice.close()
    moved(command, "alice", elsewhere)


# --- the old account
# --------------------------------------------------------------------------------------------------


def test_the_old_account_is_deleted_last(
    alice: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str]
) -> None:
    extended(gateway).features |= Feature.ACCOUNTS
    alice.close()
    told = moved(command, "alice", elsewhere, "--delete-old")
    assert f"The account alice at {gateway.address.place} is deleted; its name stays taken." in told
    assert gateway.mailroom.names == {}
    # Once more is no harm.
    asked = gateway.codes()
    assert "is deleted; its name stays taken." in moved(command, "alice", elsewhere, "--delete-old")
    assert gateway.codes() == asked


def test_an_old_account_whose_deletion_was_not_answered(
    alice: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str]
) -> None:
    extended(gateway).features |= Feature.ACCOUNTS
    alice.close()

    def lose(request: object) -> None:
        if isinstance(request, DeleteAccountRequest):
            gateway.script.append(CLOSE)

    gateway.on_request = lose
    moved(command, "alice", elsewhere, "--delete-old", code=3)
    gateway.on_request = lambda _: None
    gateway.script.clear()
    # The home is of the new server, and the second run goes on behind that.
    assert json.loads(command("alice", "whoami", "--json"))["server"] == elsewhere.address.place
    told = moved(command, "alice", elsewhere, "--delete-old")
    assert f"The account is at {elsewhere.address.place} already." in told
    assert gateway.mailroom.names == {}


def test_a_lost_answer_of_the_new_server(alice: Messenger, elsewhere: FakeGateway, command: Callable[..., str]) -> None:
    alice.close()

    def lose(request: object) -> None:
        if isinstance(request, RegisterRequest):
            elsewhere.mailroom.register("alice", request.public_key)
            elsewhere.script.append(CLOSE)

    elsewhere.on_request = lose
    moved(command, "alice", elsewhere, code=3)
    elsewhere.on_request = lambda _: None
    elsewhere.script.clear()
    command("alice", "users")
    moved(command, "alice", elsewhere)
    assert list(elsewhere.mailroom.names.values()) == ["somebody", "alice"]


# --- deaths
# --------------------------------------------------------------------------------------------------

STEPS = """
import os, sys, pathlib
import apsw
from tests.client.dying import Life
life, log = Life(int(sys.argv[1])), sys.argv[2]

class Connection(apsw.Connection):
    def execute(self, statement, *given):
        if str(statement).startswith(("COMMIT", "DELETE FROM rewrite", "INSERT INTO rewrite")):
            life.step()
        done = super().execute(statement, *given)
        if str(statement).startswith("COMMIT"):
            life.step()
        return done

apsw.Connection = Connection
life.around(os, "fsync", "unlink", "mkdir", "rmdir")
life.around(pathlib.Path, "replace")
from client.connection.server_link import ServerLink
life.around(ServerLink, "ask", "exchange")
from client.__main__ import main
code = main(sys.argv[3:])
pathlib.Path(log).write_text(str(life.steps))
sys.exit(code)
"""


def run_until(step: int, log: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", STEPS, str(step), str(log), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=log.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


@pytest.mark.slow
def test_a_death_at_any_step_leaves_the_one_or_the_other(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, elsewhere: FakeGateway, command: Callable[..., str],
    tmp_path: Path,
) -> None:  # fmt: skip
    alice.send("bob", "before")
    bob.send("alice", "waits")
    alice.close()
    bob.close()
    (tmp_path / "alice" / "server.info").write_text(f"{gateway.address}\n")
    box = list(gateway.mailroom.boxes[gateway.mailroom.id_of("alice")])
    words = ("account", "move", str(elsewhere.address), "--yes")

    def fresh(name: str) -> Path:
        shutil.copytree(tmp_path / "alice", tmp_path / name)
        gateway.mailroom.boxes[gateway.mailroom.id_of("alice")] = list(box)
        return tmp_path / name

    log = tmp_path / "steps"
    whole = run_until(0, log, "--home", str(fresh("whole")), *words)
    assert whole.returncode == 0, whole.stderr
    total = int(log.read_text())
    places = []
    for step in range(1, total + 1, max(1, total // 20)):
        home = fresh(f"died-{step}")
        for known in (elsewhere.mailroom.names, elsewhere.mailroom.keys, elsewhere.mailroom.boxes):
            known.pop(ClientId(bytes([101]) * 16), None)
        died = run_until(step, log, "--home", str(home), *words)
        assert died.returncode == -9, died.stderr
        # Whoever comes next finds a home of one server, whole.
        shown = json.loads(command(home.name, "whoami", "--json"))
        places.append(shown["server"])
        at = {one.address.place: one for one in (gateway, elsewhere)}[shown["server"]]
        assert shown["id"] == at.mailroom.id_of("alice").hex()
        command(home.name, "users")
        if step % 3 == 0:
            assert "bob: waits" in command(home.name, "recv")
        # And the second run goes on.
        command(home.name, *words)
        assert json.loads(command(home.name, "whoami", "--json"))["server"] == elsewhere.address.place
        assert "waits" in command(home.name, "recv") + command(home.name, "history")
        assert not (home / MOVING).exists()
        assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []
        shutil.rmtree(home)
    # Once it is the new one, it never is the old one again.
    assert places == sorted(places, key=lambda place: place == elsewhere.address.place)
    assert {places[0], places[-1]} == {gateway.address.place, elsewhere.address.place}


def test_settings_that_meet_a_folder_left_behind(alice: Messenger, tmp_path: Path, gateway: FakeGateway) -> None:
    alice.close()
    (tmp_path / "alice" / "server.info").write_text(f"{gateway.address}\n")
    (tmp_path / "alice" / MOVING / "home").mkdir(parents=True)
    (tmp_path / "alice" / MOVING / "home" / "store.db").write_text("half")
    settings = Settings(Flags(home=tmp_path / "alice"), dict(os.environ), tmp_path)
    assert settings.server() == gateway.address
    assert not (tmp_path / "alice" / MOVING).exists()
