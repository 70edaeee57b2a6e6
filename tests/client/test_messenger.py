from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from client import messenger
from client.crypto import ciphers
from client.crypto.ciphers import SymmetricKey
from client.errors import (
    AlreadyRegistered,
    CipherError,
    FileUnreadable,
    FileUnsaved,
    HomeInUse,
    InvalidServerResponse,
    NameUnknown,
    NoPublicKey,
    NoSharedKey,
    NotRegistered,
    OutcomeUnknown,
    ServerAnsweredError,
    ServerUnreachable,
)
from client.mail import inbox
from client.mail.outgoing_file import encrypted_file
from client.messenger import (
    KeyReceived,
    KeyRequested,
    Messenger,
    Received,
    SavedFile,
    Text,
    UnknownKind,
    Unreadable,
)
from common.client_protocol import responses
from common.client_protocol.requests import RegisterRequest, SendRequest
from common.client_protocol.responses import ResponseCode
from common.errors import ValueRejected
from common.server_address import ServerAddress
from common.values import ClientId
from tests.client.conftest import NOW
from tests.client.fake_gateway import (
    CLOSE,
    ERROR,
    Answer,
    ConnectionState,
    FakeGateway,
    StoredMessage,
    user_list,
    waiting_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


KEY = SymmetricKey(b"0123456789abcdef")
OTHER_KEY = SymmetricKey(b"another key here")


def contents(received: list[Received]) -> list[object]:
    return [message.content for message in received]


def receive(messenger: Messenger) -> list[object]:
    return contents(list(messenger.receive()))


def share_key(one: Messenger, other: Messenger, name: str, other_name: str) -> None:
    """One makes a key for the other, who fetches it."""
    one.fetch_public_key(other_name)
    one.send_key(other_name)
    assert isinstance(receive(other)[-1], KeyReceived)


@pytest.fixture
def pair(alice: Messenger, bob: Messenger) -> tuple[Messenger, Messenger]:
    share_key(alice, bob, "alice", "bob")
    return alice, bob


def test_registering(tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    seen: list[str] = []

    def look(request: object) -> None:
        seen.extend((tmp_path / "alice" / "my.info.pending").read_text().splitlines()[:1])

    gateway.on_request = look
    alice = make("alice")
    assert not alice.is_registered()
    identity = alice.register("alice")
    assert alice.is_registered()
    assert alice.identity() == identity
    assert identity.client_id == gateway.mailroom.id_of("alice")
    assert identity.private_key.public_key() == gateway.mailroom.keys[identity.client_id]
    assert seen == ["alice"]
    assert sorted(path.name for path in (tmp_path / "alice").glob("m*")) == ["me.info", "my.info"]
    assert make("alice").identity().client_id == identity.client_id


def test_an_identity_is_not_replaced(alice: Messenger, gateway: FakeGateway) -> None:
    with pytest.raises(AlreadyRegistered):
        alice.register("somebody")
    assert gateway.codes() == ["Register"]


@pytest.mark.parametrize("file", ["me.info", "my.info"])
def test_a_corrupt_identity_is_not_replaced_either(
    tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway, file: str
) -> None:
    alice = make("alice")
    (tmp_path / "alice" / file).write_text("damaged")
    with pytest.raises(AlreadyRegistered):
        alice.register("alice")
    assert gateway.requests == []


@pytest.mark.parametrize("name", ["", "tab\t", "nul\0", "x" * 255])
def test_an_impossible_name(make: Callable[..., Messenger], gateway: FakeGateway, name: str) -> None:
    with pytest.raises(ValueRejected):
        make("alice").register(name)
    assert gateway.connections == 0


def test_a_name_that_is_taken(tmp_path: Path, alice: Messenger, make: Callable[..., Messenger]) -> None:
    second = make("second")
    with pytest.raises(ServerAnsweredError, match="taken"):
        second.register("alice")
    assert not (tmp_path / "second" / "my.info.pending").exists()
    assert second.register("alice2").name == "alice2"


def test_no_server_leaves_no_pending_registration(tmp_path: Path, make: Callable[..., Messenger]) -> None:
    with pytest.raises(ServerUnreachable):
        make("alice", server=ServerAddress("127.0.0.1", 1)).register("alice")
    assert not list((tmp_path / "alice").glob("m*"))


def test_a_lost_answer_is_completed_with_the_same_key(
    tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    gateway.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown):
        make("alice").register("alice")
    again = make("alice")
    assert again.home.account.pending_name() == "alice"
    with pytest.raises(AlreadyRegistered, match="alice"):
        again.register("eve")
    again.register("alice")
    first, second = gateway.requests
    assert isinstance(first, RegisterRequest)
    assert isinstance(second, RegisterRequest)
    assert first.public_key == second.public_key
    assert again.home.account.pending_name() is None


def test_a_lost_answer_and_then_9000(tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(Answer(responses.ERROR[:2], close=True))
    with pytest.raises(OutcomeUnknown):
        make("alice").register("alice")
    gateway.mailroom.register("alice")
    alice = make("alice")
    with pytest.raises(ServerAnsweredError, match="first attempt") as caught:
        alice.register("alice")
    assert "my.info.unfinished-1" in caught.value.advice
    assert (tmp_path / "alice" / "my.info.unfinished-1").exists()
    assert alice.register("alice2").name == "alice2"


def test_registering_and_an_answer_to_something_else(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(Answer(responses.encode_stored(b"x" * 16, 1)))
    with pytest.raises(InvalidServerResponse):
        make("alice").register("alice")


def test_not_registered(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    nobody = make("nobody")
    for attempt in (nobody.users, lambda: nobody.home.sending.send_text("bob", "x"), lambda: receive(nobody)):
        with pytest.raises(NotRegistered):
            attempt()
    assert gateway.connections == 0


def test_a_home_is_made_private(tmp_path: Path, gateway: FakeGateway) -> None:
    with Messenger.open(tmp_path / "new" / "home", gateway.address) as made:
        made.register("carol")
    assert stat.S_IMODE((tmp_path / "new" / "home").stat().st_mode) == 0o700


def test_the_list(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    gateway.mailroom.register("Michael Jackson")
    assert [user.name for user in alice.users()] == ["bob", "Michael Jackson"]
    assert [user.name for user in bob.users()] == ["alice", "Michael Jackson"]


def test_a_server_that_lists_the_asker_too(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    gateway.script.append(Answer(user_list(list(gateway.mailroom.names.items()))))
    assert [user.name for user in alice.users()] == ["bob"]


def test_an_unknown_name_is_looked_for_and_the_nearest_are_told(
    alice: Messenger, bob: Messenger, gateway: FakeGateway
) -> None:
    with pytest.raises(NameUnknown) as caught:
        alice.request_key("bbo")
    assert caught.value.nearest == ("bob",)
    assert gateway.codes()[-1] == "ListUsers"


def test_a_known_name_is_not_looked_for_again(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.users()
    alice.request_key("bob")
    alice.request_key("bob")
    assert gateway.codes()[-3:] == ["ListUsers", "Send", "Send"]


def test_a_changed_public_key_is_told(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, private_keys: list[ciphers.PrivateKey]
) -> None:
    assert not alice.fetch_public_key("bob").changed
    assert not alice.fetch_public_key("bob").changed
    gateway.mailroom.keys[gateway.mailroom.id_of("bob")] = private_keys[2].public_key()
    assert alice.fetch_public_key("bob").changed


def test_a_public_key_that_is_none(alice: Messenger, gateway: FakeGateway) -> None:
    gateway.mailroom.register("eve", b"k" * 160)
    with pytest.raises(CipherError, match="eve"):
        alice.fetch_public_key("eve")
    with pytest.raises(NoPublicKey):
        alice.send_key("eve")


@pytest.mark.parametrize(
    "answer", [responses.encode_public_key(b"x" * 16, bytes(160)), responses.encode_registered(b"x" * 16)]
)
def test_a_public_key_of_somebody_else(alice: Messenger, bob: Messenger, gateway: FakeGateway, answer: bytes) -> None:
    alice.users()
    gateway.script.append(Answer(answer))
    with pytest.raises(InvalidServerResponse):
        alice.fetch_public_key("bob")


def test_refused_lists_and_keys(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    gateway.script.append(ERROR)
    with pytest.raises(ServerAnsweredError):
        alice.users()
    alice.users()
    gateway.script.append(ERROR)
    with pytest.raises(ServerAnsweredError):
        alice.fetch_public_key("bob")


def test_a_list_of_another_kind(alice: Messenger, gateway: FakeGateway) -> None:
    gateway.script.append(Answer(waiting_list([])))
    with pytest.raises(InvalidServerResponse, match="2104"):
        alice.users()
    gateway.script.append(Answer(user_list([])))
    with pytest.raises(InvalidServerResponse, match="2101"):
        receive(alice)


def test_the_owners_flow(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.fetch_public_key("bob")
    alice.request_key("bob")
    (request,) = bob.receive()
    assert request.content == KeyRequested()
    assert request.sender_name == "alice"
    assert request.received_at == NOW * 1000
    bob.fetch_public_key("alice")
    bob.send_key("alice")
    assert receive(alice) == [KeyReceived()]
    alice.home.sending.send_text("bob", "hi bob, żółw 🐢")
    bob.home.sending.send_text("alice", "")
    assert receive(bob) == [Text("hi bob, żółw 🐢")]
    assert receive(alice) == [Text("")]
    assert receive(alice) == []


def test_no_shared_key(alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path) -> None:
    with pytest.raises(NoSharedKey):
        alice.home.sending.send_text("bob", "hi")
    with pytest.raises(NoSharedKey):
        alice.home.sending.send_file("bob", tmp_path / "missing")
    with pytest.raises(NoPublicKey):
        alice.send_key("bob")
    assert "Send" not in gateway.codes()


def test_keys_outlive_the_program(pair: tuple[Messenger, Messenger], make: Callable[..., Messenger]) -> None:
    pair[0].close()
    make("alice").home.sending.send_text("bob", "still here")
    assert receive(pair[1]) == [Text("still here")]


def test_a_key_that_was_refused_is_forgotten(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.fetch_public_key("bob")
    gateway.script.append(ERROR)
    with pytest.raises(ServerAnsweredError):
        alice.send_key("bob")
    assert alice.home.store.keys.of(gateway.mailroom.id_of("bob")) == []


def test_a_key_whose_fate_is_unknown_only_decrypts(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    alice.fetch_public_key("bob")
    # It is stored, and the answer is lost.
    gateway.on_request = lambda request: gateway.script.append(
        Answer(gateway.mailroom.answer(request, ConnectionState())[:3], close=True)
    )
    with pytest.raises(OutcomeUnknown, match="unknown"):
        alice.send_key("bob")
    gateway.on_request = lambda _: None
    with pytest.raises(NoSharedKey):
        alice.home.sending.send_text("bob", "hi")
    assert receive(bob) == [KeyReceived()]
    bob.home.sending.send_text("alice", "got it")
    assert receive(alice) == [Text("got it")]


def test_both_make_a_key_at_once(alice: Messenger, bob: Messenger) -> None:
    alice.fetch_public_key("bob")
    bob.fetch_public_key("alice")
    alice.send_key("bob")
    bob.send_key("alice")
    assert receive(alice) == receive(bob) == [KeyReceived(unasked=True)]
    alice.home.sending.send_text("bob", "under bob's key")
    bob.home.sending.send_text("alice", "under alice's key")
    assert receive(bob) == [Text("under bob's key")]
    assert receive(alice) == [Text("under alice's key")]


def test_a_key_that_was_sealed_to_another(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    gateway.mailroom.put(gateway.mailroom.id_of("bob"), gateway.mailroom.id_of("alice"), 2, b"x" * 128)
    gateway.mailroom.put(gateway.mailroom.id_of("bob"), gateway.mailroom.id_of("alice"), 2, b"x" * 100_000)
    assert [type(content) for content in receive(alice)] == [Unreadable, Unreadable]
    assert receive(alice) == []


def test_a_text_that_is_no_unicode(pair: tuple[Messenger, Messenger]) -> None:
    with pytest.raises(ValueRejected):
        pair[0].home.sending.send_text("bob", "\udcff")


def test_a_lost_answer_to_a_send_is_told_as_unknown(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    gateway.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown, match="stored is unknown") as caught:
        pair[0].home.sending.send_text("bob", "hi")
    assert "bob" in caught.value.advice


@pytest.mark.parametrize("answer", [responses.encode_stored(b"x" * 16, 1), responses.encode_registered(b"x" * 16)])
def test_an_answer_to_another_send(pair: tuple[Messenger, Messenger], gateway: FakeGateway, answer: bytes) -> None:
    gateway.script.append(Answer(answer))
    with pytest.raises(InvalidServerResponse):
        pair[0].home.sending.send_text("bob", "hi")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 65_519, 65_536, 300_000, 2_000_000])
def test_files_both_ways(pair: tuple[Messenger, Messenger], tmp_path: Path, size: int) -> None:
    plain = os.urandom(size)
    (tmp_path / "file").write_bytes(plain)
    seen: list[tuple[int, int]] = []
    pair[0].home.sending.send_file("bob", tmp_path / "file", lambda done, total: seen.append((done, total)))
    (content,) = receive(pair[1])
    assert isinstance(content, SavedFile)
    assert content.path.is_absolute()
    assert content.path.parent == tmp_path / "saved"
    assert content.path.read_bytes() == plain
    assert stat.S_IMODE(content.path.stat().st_mode) == 0o600
    assert list((tmp_path / "saved").iterdir()) == [content.path]
    assert not list((tmp_path / "bob").glob("store.spool/*"))
    assert not size or seen[-1] == (size, size)


def test_received_files_never_overwrite(pair: tuple[Messenger, Messenger], tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    for number in range(1, 5):
        (tmp_path / "saved" / f"messageu-alice-{number}.txt").write_text("mine")
    (tmp_path / "file").write_text("new")
    for _ in range(2):
        pair[0].home.sending.send_file("bob", tmp_path / "file")
    paths = {content.path for content in receive(pair[1]) if isinstance(content, SavedFile)}
    assert len(paths) == 2
    assert {path.read_text() for path in paths} == {"new"}
    assert sum(path.read_text() == "mine" for path in (tmp_path / "saved").iterdir()) == 4


def test_a_file_name_has_nothing_of_a_path(alice: Messenger, gateway: FakeGateway, tmp_path: Path) -> None:
    eve = gateway.mailroom.register("../../eve \x1b[31m")
    gateway.mailroom.put(eve, gateway.mailroom.id_of("alice"), 2, sealed(alice, KEY))
    gateway.mailroom.put(eve, gateway.mailroom.id_of("alice"), 4, ciphers.encrypt(KEY, b"x"))
    content = receive(alice)[-1]
    assert isinstance(content, SavedFile)
    assert content.path == tmp_path / "saved" / "messageu-______eve___31m-2.txt"


def sealed(recipient: Messenger, key: SymmetricKey) -> bytes:
    return ciphers.seal_key(key, recipient.identity().private_key.public_key(), os.urandom)


@pytest.mark.parametrize("path", ["missing", ".", "a\0b"])
def test_what_is_no_file(pair: tuple[Messenger, Messenger], tmp_path: Path, path: str) -> None:
    with pytest.raises(FileUnreadable, match=r"^file not found$") as caught:
        pair[0].home.sending.send_file("bob", tmp_path / path)
    assert caught.value.advice


def test_a_file_that_is_too_large_for_the_protocol(pair: tuple[Messenger, Messenger], tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(FileUnreadable, match="too large"):
        pair[0].home.sending.send_file("bob", tmp_path / "huge")


def test_a_file_that_shrinks_meanwhile(pair: tuple[Messenger, Messenger], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))

    def shrink(_: int, __: int) -> None:
        os.truncate(path, 10)

    with pytest.raises(FileUnreadable, match="shorter"):
        pair[0].home.sending.send_file("bob", path, shrink)
    assert receive(pair[1]) == []
    pair[0].home.sending.send_text("bob", "the connection is fresh")
    assert receive(pair[1]) == [Text("the connection is fresh")]


def test_a_file_that_can_not_be_read_to_its_end(
    pair: tuple[Messenger, Messenger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("client.mail.outgoing_file.os.read", fail)
    with pytest.raises(FileUnreadable):
        pair[0].home.sending.send_file("bob", tmp_path / "file")


def put(gateway: FakeGateway, kind: int, content: bytes, sender: str = "bob", recipient: str = "alice") -> None:
    gateway.mailroom.put(gateway.mailroom.id_of(sender), gateway.mailroom.id_of(recipient), kind, content)


def test_what_can_not_be_decrypted_is_shown_when_its_key_comes(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path
) -> None:
    put(gateway, 3, ciphers.encrypt(KEY, b"first"))
    put(gateway, 4, ciphers.encrypt(KEY, b"file" * 50_000))
    put(gateway, 3, ciphers.encrypt(OTHER_KEY, b"under a key that never comes"))
    assert [type(content) for content in receive(alice)] == [Unreadable] * 3
    put(gateway, 3, ciphers.encrypt(KEY, b"last"))
    put(gateway, 2, sealed(alice, KEY))
    received = list(alice.receive())
    assert [type(message.content) for message in received] == [Unreadable, KeyReceived, Text, SavedFile, Text]
    assert [message.late for message in received] == [False, False, True, True, True]
    assert received[2].content == Text("first")
    assert isinstance(received[3].content, SavedFile)
    assert received[3].content.path.read_bytes() == b"file" * 50_000
    assert received[4].content == Text("last")
    put(gateway, 2, sealed(alice, OTHER_KEY))
    assert receive(alice) == [KeyReceived(unasked=True), Text("under a key that never comes")]
    assert receive(alice) == []


def test_what_was_kept_waits_for_its_key_over_a_restart(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    put(gateway, 3, ciphers.encrypt(KEY, b"first"))
    receive(alice)
    alice.close()
    put(gateway, 2, sealed(alice, KEY))
    assert receive(make("alice")) == [KeyReceived(), Text("first")]


def test_death_before_it_was_shown_loses_nothing(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    put(gateway, 1, b"")
    put(gateway, 1, b"whatever")
    receiving = alice.receive()
    next(receiving)
    receiving.close()
    alice.close()
    received = list(make("alice").receive())
    assert contents(received) == [KeyRequested(), KeyRequested()]
    assert [message.repeated for message in received] == [True, False]


def test_a_file_that_was_saved_before_death_is_not_saved_twice(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger], tmp_path: Path
) -> None:
    put(gateway, 2, sealed(alice, KEY))
    receive(alice)
    put(gateway, 4, ciphers.encrypt(KEY, b"data"))
    receiving = alice.receive()
    first = next(receiving).content
    receiving.close()
    (again,) = make("alice").receive()
    assert again.content == first
    assert again.repeated
    assert len(list((tmp_path / "saved").iterdir())) == 1


def test_an_answer_that_breaks_off(alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path) -> None:
    sender = gateway.mailroom.id_of("bob")
    messages = [StoredMessage(sender, n, 1, b"") for n in (1, 2)] + [StoredMessage(sender, 3, 4, b"x" * 200_000)]
    gateway.script += [Answer(waiting_list(messages)[:-5], close=True)]
    receiving = alice.receive()
    assert [next(receiving).content, next(receiving).content] == [KeyRequested(), KeyRequested()]
    with pytest.raises(OutcomeUnknown, match="broke off"):
        next(receiving)
    assert not list((tmp_path / "alice").glob("store.spool/*"))
    gateway.script += [Answer(waiting_list(messages))]
    received = list(alice.receive())
    assert [type(message.content) for message in received] == [Unreadable]
    assert not received[0].repeated


def test_the_same_ids_after_a_whole_answer_are_marked(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    messages = [StoredMessage(gateway.mailroom.id_of("bob"), 1, 1, b"")]
    for repeated in (False, True):
        gateway.script.append(Answer(waiting_list(messages)))
        (received,) = alice.receive()
        assert received.repeated is repeated


def test_what_was_fetched_is_shown_without_a_server(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    put(gateway, 1, b"")
    receiving = alice.receive()
    next(receiving)
    receiving.close()
    offline = make("alice", server=ServerAddress("127.0.0.1", 1)).receive()
    assert next(offline).content == KeyRequested()
    with pytest.raises(ServerUnreachable):
        next(offline)


def test_refused(alice: Messenger, gateway: FakeGateway) -> None:
    gateway.script.append(ERROR)
    with pytest.raises(ServerAnsweredError):
        receive(alice)


def test_a_damaged_list(alice: Messenger, gateway: FakeGateway) -> None:
    entries = responses.encode_pulled_head(b"x" * 16, 1, 3, 1000)
    gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, len(entries)) + entries))
    with pytest.raises(InvalidServerResponse):
        receive(alice)


def test_a_type_that_does_not_exist(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    put(gateway, 77, b"?")
    assert receive(alice) == [UnknownKind(77)]


def test_a_sender_who_is_not_listed(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    put(gateway, 1, b"")
    (received,) = alice.receive()
    assert received.sender_name == "bob"
    ghost = ClientId(b"g" * 16)
    gateway.mailroom.put(ghost, gateway.mailroom.id_of("alice"), 1, b"")
    gateway.mailroom.put(ghost, gateway.mailroom.id_of("alice"), 1, b"")
    assert [message.sender_name for message in alice.receive()] == [None, None]
    assert gateway.codes().count("ListUsers") == 2


def test_names_that_can_not_be_had_hide_no_mail(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    put(gateway, 1, b"")
    gateway.script += [None, ERROR]
    (received,) = alice.receive()
    assert received.sender_name is None
    assert received.sender == gateway.mailroom.id_of("bob")


def test_many_messages(alice: Messenger, bob: Messenger, gateway: FakeGateway) -> None:
    put(gateway, 2, sealed(alice, KEY))
    for number in range(1000):
        put(gateway, 3, ciphers.encrypt(KEY, str(number).encode()))
    assert receive(alice)[1:] == [Text(str(number)) for number in range(1000)]
    assert gateway.codes().count("Pull") == 1


def test_more_than_one_answer_holds(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = gateway.mailroom.id_of("bob")
    alice.users()
    gateway.script += [Answer(waiting_list([StoredMessage(sender, number, 1, b"x" * 1_100_000)])) for number in (1, 2)]
    seen: list[tuple[int, int]] = []
    received = list(alice.receive(progress=lambda done, total: seen.append((done, total))))
    assert contents(received) == [KeyRequested(), KeyRequested()]
    assert gateway.codes().count("Pull") == 3
    assert seen[-1][0] == seen[-1][1] == 1_100_025


def test_a_saved_path_that_somebody_chose_is_none_of_ours(
    pair: tuple[Messenger, Messenger], tmp_path: Path, make: Callable[..., Messenger]
) -> None:
    alice, bob = pair
    bait = tmp_path / "bait"
    bait.write_bytes(b"bait")
    (tmp_path / "file").write_bytes(b"sent")
    alice.home.sending.send_file("bob", tmp_path / "file")
    received = bob.receive()
    next(message for message in received if isinstance(message.content, SavedFile))
    received.close()
    with bob.home.store.database.transaction():
        bob.home.store.database.run("UPDATE inbox SET saved_path = ? WHERE state = 1", str(bait))
    bob.close()
    (again,) = make("bob").receive()
    assert isinstance(again.content, SavedFile)
    assert again.content.path.read_bytes() == b"sent"
    assert again.content.path != bait
    assert bait.read_bytes() == b"bait"


def test_a_huge_text_is_handed_out_as_a_file(
    pair: tuple[Messenger, Messenger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "LONGEST_TEXT", 1000)
    pair[0].home.sending.send_text("bob", "x" * 2000)
    (content,) = receive(pair[1])
    assert isinstance(content, SavedFile)
    assert content.path.read_text() == "x" * 2000


def test_a_file_that_can_not_be_saved_waits_and_is_in_nobodys_way(
    pair: tuple[Messenger, Messenger], tmp_path: Path
) -> None:
    (tmp_path / "saved").write_text("no folder")
    (tmp_path / "file").write_text("data")
    pair[0].home.sending.send_file("bob", tmp_path / "file")
    pair[0].home.sending.send_text("bob", "after it")
    receiving = pair[1].receive()
    assert next(receiving).content == Text("after it")
    with pytest.raises(FileUnsaved, match="kept"):
        next(receiving)
    (tmp_path / "saved").unlink()
    (content,) = receive(pair[1])
    assert isinstance(content, SavedFile)
    assert content.path.read_text() == "data"


def test_one_process_receives(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    put(gateway, 1, b"")
    receiving = alice.receive()
    next(receiving)
    with pytest.raises(HomeInUse):
        receive(make("alice"))
    receiving.close()


def test_memory_stays_small_with_large_files(
    pair: tuple[Messenger, Messenger], tmp_path: Path, gateway: FakeGateway
) -> None:
    import tracemalloc

    (tmp_path / "file").write_bytes(bytes(8_000_000))
    pair[0].users()
    held: list[int] = []

    def measure(done: int, total: int) -> None:
        held.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start(1)
    try:
        # The scripted server is in this process and holds the content; what the sender holds is
        # what it adds.
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        parts = encrypted_file(descriptor, tmp_path / "file", 8_000_000, KEY, measure)
        for _ in parts:
            pass
        os.close(descriptor)
    finally:
        tracemalloc.stop()
    assert max(held) < 3_000_000


def test_the_example_in_the_module_text() -> None:
    assert messenger.__doc__ is not None
    example = messenger.__doc__.split("\n\n")
    code = "\n".join(line[4:] for part in example for line in part.splitlines() if line.startswith("    "))
    compile(code, "example", "exec")
    assert "Messenger.open" in code


def test_requests_carry_our_id(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    sends = [request for request in gateway.requests if isinstance(request, SendRequest)]
    assert {request.requester for request in sends} == {pair[0].identity().client_id}
