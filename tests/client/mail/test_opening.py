"""Received messages of cipher suite 1: opened once, refused, asked for again."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from client.errors import ClientError
from client.identity.archive import export_home, import_home
from client.identity.home import open_store
from client.messenger import Messenger, Renewed, SavedFile, Text, UnknownKind, Unreadable
from client.store.acknowledged import mark_lost
from client.suite1 import own_keys
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import About, CouldNotOpen, File, decoded, encoded
from client.suite1.peers import Peer
from common.client_protocol.requests import PublishKeysRequest, SendRequest
from common.values import TOKEN_SIZE, ClientId, Token
from tests.client.exchange import receive, sends
from tests.client.fake_gateway import CLOSE, ERROR, FakeGateway, StoredMessage, SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mailroom(kind=SuiteMailroom)

NOW = 1_700_000_000.0


def alter_last(mailroom: SuiteMailroom, name: str, change: Callable[[StoredMessage], StoredMessage]) -> None:
    box = mailroom.boxes[mailroom.id_of(name)]
    box[-1] = change(box[-1])


def marks(messenger: Messenger) -> list[str | None]:
    return [row.mark for row in messenger.home.store.inbox.seen(0)]


def talking(make: Callable[..., Messenger]) -> tuple[Messenger, Messenger]:
    """Alice and Bob, after a message in each direction."""
    alice, bob = make("alice"), make("bob")
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "one")
    bob.send("alice", "two")
    assert receive(bob) == [Text("one")]
    assert receive(alice) == [Text("two")]
    return alice, bob


def test_a_replay_is_shown_once_whatever_token_it_has(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom
) -> None:
    alice.send("bob", "once")
    box = mailroom.boxes[mailroom.id_of("bob")]
    (message,) = box
    for number in range(3):
        mailroom.put(message.sender, mailroom.id_of("bob"), 5, message.content, bytes([number + 1]) * 16)
    assert receive(bob) == [Text("once")]
    mailroom.put(message.sender, mailroom.id_of("bob"), 5, message.content, bytes([9]) * 16)
    assert receive(bob) == []
    assert len(list(bob.seen())) == 1


def test_altered_cut_and_misattributed_messages_are_shown_as_refused(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    mallory = make("mallory")
    mallory.register("mallory")
    mallory.send("bob", "of mallory")
    alice.send("bob", "first")
    assert len(receive(bob)) == 2

    def flipped(at: int) -> Callable[[StoredMessage], StoredMessage]:
        return lambda one: one._replace(content=one.content[:at] + bytes([one.content[at] ^ 1]) + one.content[at + 1 :])

    changes: list[Callable[[StoredMessage], StoredMessage]] = [
        flipped(0), flipped(3), flipped(6), flipped(200), flipped(1300), flipped(1400),
        lambda one: one._replace(content=one.content[:-1]),
        lambda one: one._replace(content=one.content + b"x"),
        lambda one: one._replace(content=b""),
        lambda one: one._replace(sender=mailroom.id_of("mallory")),
    ]  # fmt: skip
    for change in changes:
        alice.send("bob", "to be altered")
        alter_last(mailroom, "bob", change)
        shown = receive(bob)
        assert [type(content) for content in shown] == [Unreadable]
    # What was altered is asked for again, and comes once.
    alice.send("bob", "and the last")
    received = receive(alice)
    assert all(isinstance(content, Renewed) for content in received)
    texts = [content.text for content in receive(bob) if isinstance(content, Text)]
    assert texts.count("and the last") == 1
    assert set(texts) <= {"to be altered", "and the last"}


@pytest.mark.parametrize("waits", [True, False])
def test_what_was_cut_on_its_way_does_not_stand_in_the_way_of_the_whole(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, *, waits: bool
) -> None:
    """Under the same token, in the same answer or a later one."""
    alice.send("bob", "whole")
    bobs = mailroom.id_of("bob")
    (message,) = mailroom.boxes[bobs]
    mailroom.boxes[bobs] = [message._replace(content=message.content[:50])]
    shown = [] if waits else receive(bob)
    mailroom.next_number = 20
    mailroom.boxes[bobs] += [message._replace(number=number) for number in (10, 11)]
    cut, whole = shown + receive(bob)
    assert isinstance(cut, Unreadable)
    assert whole == Text("whole")
    assert receive(bob) == []
    # A symmetric key, made up under the token of what comes next, neither.
    mailroom.put(message.sender, bobs, 2, bytes(128), b"t" * 16)
    alice.send("bob", "behind it")
    alter_last(mailroom, "bob", lambda one: one._replace(token=b"t" * 16))
    forged, real = receive(bob)
    assert isinstance(forged, Unreadable)
    assert real == Text("behind it")


def test_a_file_that_was_altered_behind_its_envelope_is_asked_for_and_comes(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, tmp_path: Path
) -> None:
    (tmp_path / "plan.txt").write_text("the plan")
    alice.send("bob", tmp_path / "plan.txt")
    alter_last(mailroom, "bob", lambda one: one._replace(content=one.content[:-9] + b"x" + one.content[-8:]))
    (shown,) = receive(bob)
    assert isinstance(shown, Unreadable)
    assert receive(alice) == [Renewed(1, 1)]
    (file,) = receive(bob)
    assert isinstance(file, SavedFile)
    assert file.path.read_text() == "the plan"
    assert receive(alice) == []


def test_gaps_and_late_messages_are_marked(alice: Messenger, bob: Messenger, mailroom: SuiteMailroom) -> None:
    alice.send("bob", "1")
    assert receive(bob) == [Text("1")]
    for number in range(2, 6):
        alice.send("bob", str(number))
    box = mailroom.boxes[mailroom.id_of("bob")]
    two, three, four, five = box
    mailroom.boxes[mailroom.id_of("bob")] = [four]
    (shown,) = list(bob.receive())
    assert (shown.content, shown.missing, shown.overtaken, shown.suite) == (Text("4"), 2, False, 1)
    mailroom.next_number = 100
    mailroom.boxes[mailroom.id_of("bob")] = [five._replace(number=two.number + 10), two._replace(number=20)]
    later, earlier = list(bob.receive())
    assert (later.content, later.missing, later.overtaken) == (Text("5"), 0, False)
    assert (earlier.content, earlier.missing, earlier.overtaken) == (Text("2"), 0, True)
    assert three.content
    assert [one.overtaken for one in bob.seen()] == [False, False, False, True]


def test_a_text_that_begins_new_sessions_says_so_and_what_is_missing_before_it(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom
) -> None:
    alice.send("bob", "1")
    assert receive(bob) == [Text("1")]
    bobs = bob.identity().client_id
    for number in range(2, 5):
        alice.send("bob", str(number))
        peer = alice.home.suite_keys.peer(bobs)
        assert peer is not None
        with alice.home.store.database.transaction():
            alice.home.store.peers.put_state(bobs, peer._replace(renew=True, renewed_at=0).to_bytes())
        if number == 2:
            # The server withholds it, and hopes that the renewal hides that.
            mailroom.boxes[bobs].clear()
    shown = [(one.content, one.missing, one.overtaken, one.new_session) for one in bob.receive()]
    assert shown == [(Text("3"), 1, False, True), (Text("4"), 0, False, True)]
    assert [(one.missing, one.new_session) for one in bob.seen()] == [(0, False), (1, True), (0, True)]
    assert marks(bob) == ["next", "gap 1 renewed", "next renewed"]


def test_what_comes_under_the_published_suite_later_is_not_believed(
    make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    alice, bob = make("alice", suite_1=False), make("bob")
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "before, fetched")
    assert receive(bob)[-1] == Text("before, fetched")
    alice.send("bob", "before, waiting")
    recorded = mailroom.boxes[mailroom.id_of("bob")][-1]
    alice.close()
    alice = make("alice")
    alice.users()
    # Bob's client meets alice's keys now, and fetches first what waits.
    bob.send("alice", "hello")
    assert receive(bob) == [Text("before, waiting")]
    mailroom.put(mailroom.id_of("alice"), mailroom.id_of("bob"), 3, recorded.content)
    mailroom.put(mailroom.id_of("alice"), mailroom.id_of("bob"), 2, bytes(128))
    mailroom.put(mailroom.id_of("alice"), mailroom.id_of("bob"), 1, b"")
    shown = list(bob.receive())
    assert [type(one.content) for one in shown] == [Unreadable] * 3
    assert all("does not use any more" in str(one.content) for one in shown)
    assert [one.sender_verified for one in shown] == [False] * 3
    assert [one.content for one in bob.seen()][-3:] == [one.content for one in shown]
    alice.send("bob", "and in the new one")
    assert receive(bob) == [Text("and in the new one")]


def test_an_imported_home_heals_and_says_so_on_both_sides(
    make: Callable[..., Messenger], tmp_path: Path, told: list[str], cheap: None
) -> None:
    alice, bob = talking(make)
    alice.close()
    export_home(tmp_path / "alice", tmp_path / "export", "pass")
    with make("alice") as alice:
        # The home goes on: sessions and keys of the copy are used up.
        alice.send("bob", "three")
        bob.send("alice", "four")
        assert receive(bob) == [Text("three")]
        assert receive(alice) == [Text("four")]
        bob.send("alice", "five")
    shutil.rmtree(tmp_path / "alice")
    import_home(tmp_path / "alice", tmp_path / "export", "pass")
    alice = make("alice")
    told.clear()
    first = receive(alice)
    assert any("restored from a copy" in sentence for sentence in told)
    # "five" may have been sealed to keys that the copy lacks: then it is asked for.
    renewed = [content for content in receive(bob) if isinstance(content, Renewed)]
    assert renewed
    texts = [content for content in [*first, *receive(alice)] if isinstance(content, Text)]
    assert Text("five") in texts
    for number in range(3):
        alice.send("bob", f"after {number}")
        bob.send("alice", f"answer {number}")
        assert receive(bob) == [Text(f"after {number}")]
        assert receive(alice) == [Text(f"answer {number}")]
    contents = [row.content for row in alice.home.store.outbox.waiting()]
    assert contents == []


@pytest.mark.parametrize("takes_the_place", [False, True])
def test_a_copied_home_heals_too(
    make: Callable[..., Messenger], tmp_path: Path, told: list[str], takes_the_place: bool
) -> None:
    alice, bob = talking(make)
    alice.close()
    shutil.copytree(tmp_path / "alice", tmp_path / "copy")
    with make("alice") as alice:
        alice.send("bob", "three")
        receive(bob)
    shutil.rmtree(tmp_path / "alice")
    if takes_the_place:
        # Its files get the numbers of those that are gone, as often as not.
        shutil.copytree(tmp_path / "copy", tmp_path / "alice")
    else:
        (tmp_path / "copy").rename(tmp_path / "alice")
    alice = make("alice")
    told.clear()
    alice.send("bob", "four")
    assert any("restored from a copy" in sentence for sentence in told)
    content = receive(bob)
    assert [one for one in content if isinstance(one, Text)] == [Text("four")]
    assert any(isinstance(one, Renewed) for one in content)


@pytest.mark.parametrize(
    ("has_answered", "problem"),
    [
        (False, "it was altered, or one of the two homes was restored from a copy"),
        (True, "its key was used before: it is a repeat, or its sender's home was restored from a copy"),
    ],
)
def test_a_home_that_was_put_back_unseen_heals_when_it_writes(
    make: Callable[..., Messenger], tmp_path: Path, has_answered: bool, problem: str
) -> None:
    """As by a snapshot of the whole machine: nothing shows it before the first message."""
    alice, bob = talking(make)
    if has_answered:
        # The copy has a chain, and goes on in it.
        alice.send("bob", "answer")
        receive(bob)
    alice.close()
    before = (tmp_path / "alice" / "store.db").read_bytes()
    with make("alice") as alice:
        alice.send("bob", "three")
        assert receive(bob) == [Text("three")]
    # The same file, so the same inode.
    for path in (tmp_path / "alice").glob("store.db-*"):
        path.unlink()
    (tmp_path / "alice" / "store.db").write_bytes(before)
    alice = make("alice")
    alice.send("bob", "four")
    # Its message key was used before, so that it looks like a repeat; the number of the next one
    # tells.
    alice.send("bob", "five")
    shown = receive(bob)
    assert {content.problem for content in shown if isinstance(content, Unreadable)} == {problem}
    shown += [*receive(alice), *receive(bob)]
    assert Text("five") in shown or any(isinstance(content, Renewed) for content in shown)


def test_what_is_sent_again_for_a_home_that_was_put_back_goes_to_its_new_keys(
    make: Callable[..., Messenger], tmp_path: Path
) -> None:
    """Its keys were claimed less than an hour before, and it lacks them."""
    now = [NOW]

    def clock() -> float:
        return now[0]

    carol, bob = make("carol", clock=clock), make("bob", clock=clock)
    carol.register("carol")
    bob.register("bob")
    carol.send("bob", "one")
    bob.send("carol", "two")
    assert receive(bob) == [Text("one")]
    assert receive(carol) == [Text("two")]
    bob.close()
    shutil.copytree(tmp_path / "bob", tmp_path / "copy")
    # Bob makes another outer key, and Carol claims it.
    now[0] += 7 * 86_400
    with make("bob", clock=clock) as bob:
        assert receive(bob) == []
        carol.send("bob", "three")
        assert receive(bob) == [Text("three")]
    carol.send("bob", "four")
    shutil.rmtree(tmp_path / "bob")
    (tmp_path / "copy").rename(tmp_path / "bob")
    now[0] += 60
    bob = make("bob", clock=clock)
    assert [type(content) for content in receive(bob)] == [Unreadable]
    assert all(isinstance(content, Renewed) for content in receive(carol))
    assert receive(bob) == [Text("four")]


def test_a_file_behind_which_something_is_changed_is_not_saved(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, tmp_path: Path
) -> None:
    (tmp_path / "file.bin").write_bytes(b"q" * 300_000)
    alice.send("bob", "first")
    receive(bob)
    for change in (lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-9] + b"x" + data[-8:]):
        alice.send("bob", tmp_path / "file.bin")
        alter_last(mailroom, "bob", lambda one, change=change: one._replace(content=change(one.content)))  # type: ignore[misc]
        (content,) = receive(bob)
        assert isinstance(content, Unreadable)
    assert not list((tmp_path / "saved").iterdir())
    alice.send("bob", tmp_path / "file.bin")
    (content,) = receive(bob)
    assert isinstance(content, SavedFile)
    assert content.path.name == "file.bin"


def test_what_was_opened_leaves_no_earlier_state_in_the_home(alice: Messenger, bob: Messenger) -> None:
    """A copy of the home would open recordings with it."""

    def states(messenger: Messenger) -> set[str]:
        """Olm's account and sessions; a page of SQLite ends somewhere in them."""
        store = messenger.home.store
        keys = store.own_keys.get()
        assert keys is not None
        peers = [Peer.from_bytes(peer.state) for peer in store.peers.all() if peer.state is not None]
        pickles = [session.olm.pickle for peer in peers for session in peer.sessions]
        return {OwnKeys.from_bytes(keys.state).account, *pickles}

    def are_there(files: bytes, state: str) -> bool:
        return any(state[at : at + 60].encode() in files for at in (-400, -300, -200, -100))

    earlier: set[str] = set()
    for number in range(4):
        for sender, recipient in ((alice, bob), (bob, alice)):
            earlier |= states(alice) | states(bob)
            sender.send(recipient.identity().name, f"text {number}")
            receive(recipient)
    for messenger in (alice, bob):
        files = b"".join(path.read_bytes() for path in messenger.home.store.database.path.parent.glob("store.db*"))
        assert all(are_there(files, state) for state in states(messenger))
        gone = earlier - states(alice) - states(bob)
        assert len(gone) > 8
        assert not any(are_there(files, state) for state in gone)


def test_the_key_of_a_file_goes_once_it_is_saved(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"q" * 30_000)
    alice.send("bob", tmp_path / "file.bin")
    (content,) = receive(bob)
    assert isinstance(content, SavedFile)
    (row,) = bob.home.store.inbox.seen(0)
    assert row.content is not None
    payload = decoded(row.content)
    assert isinstance(payload, File)
    assert (payload.name, payload.size, payload.key) == ("file.bin", 30_000, bytes(32))
    # It is in the history as before.
    assert [one.content for one in bob.seen()] == [content]


def test_a_request_to_send_again_is_answered_once(alice: Messenger, bob: Messenger) -> None:
    alice.send("bob", "sent once")
    assert receive(bob) == [Text("sent once")]
    (sent,) = alice.home.store.sent.all()
    assert sent.payload_id is not None
    for _ in range(2):
        with bob.home.store.database.transaction():
            name = Token(os.urandom(TOKEN_SIZE))
            request = encoded(CouldNotOpen(About(name, 1), (sent.payload_id, bytes(16))))
            bob.home.store.outbox.insert_payload(alice.identity().client_id, request, name, 1)
        bob.send_waiting()
        (content,) = receive(alice)
        assert content == Renewed(2, 1)
    # It has the same id, and was received already.
    assert receive(bob) == []
    assert len(list(bob.seen())) == 1


def ask_for(messenger: Messenger, of: ClientId, ids: tuple[bytes, ...]) -> None:
    """What says to somebody that messages could not be opened, and asks for them."""
    with messenger.home.store.database.transaction():
        name = Token(os.urandom(TOKEN_SIZE))
        request = encoded(CouldNotOpen(About(name, 1), ids))
        messenger.home.store.outbox.insert_payload(of, request, name, 1)


def with_other_keys(messenger: Messenger) -> None:
    """The same account with keys of its own again, as after its home was lost."""
    with messenger.home.store.database.transaction():
        messenger.home.store.database.run("DELETE FROM own_keys")
        messenger.home.store.database.run("DELETE FROM peer")
    messenger.home.link.close()
    messenger.users()


def test_whoever_has_other_keys_does_not_get_what_was_sent_before(
    alice: Messenger, bob: Messenger, told: list[str], tmp_path: Path
) -> None:
    """The server knows all tokens, so who took over a name with its help can name them."""
    alices = alice.identity().client_id
    (tmp_path / "plan.txt").write_bytes(b"for the former")
    alice.send("bob", "for the former")
    alice.send("bob", "this, too")
    alice.send("bob", tmp_path / "plan.txt")
    assert len(receive(bob)) == 3
    sent = alice.home.store.sent.all()
    names = tuple(row.payload_id for row in sent if row.payload_id)
    # The former has asked for one, which waits when the keys change.
    assert alice.home.outbox.sealing.repeat(sent[0])
    with_other_keys(bob)
    known = alice.verification("bob")
    assert known.new_number is not None
    alice.accept_new_key("bob", known.new_number)
    told.clear()
    alice.send_waiting()
    assert any("was written for other keys" in sentence for sentence in told)
    alice.send("bob", "for the present one")
    assert receive(bob) == [Text("for the present one")]
    ask_for(bob, alices, names)
    bob.send_waiting()
    assert receive(alice) == [Renewed(3, 0, 3)]
    # Nor does it come by a server that says that it has lost it.
    with alice.home.store.database.transaction():
        alice.home.store.database.run("UPDATE acknowledged SET lost = 1 WHERE number <= 3")
    resent = alice.resend("bob")
    # In the place of the first another one was sent, which is set aside.
    assert (resent.sent, len(resent.problems)) == (0, 2)
    assert sum("was written for other keys" in problem for problem in resent.problems) == 2
    assert receive(bob) == []
    # What was sent since is for the present one, and is sent again when it is asked for.
    (present,) = [row.payload_id for row in alice.home.store.sent.all() if row.text == "for the present one"]
    assert present is not None
    ask_for(bob, alices, (present,))
    bob.send_waiting()
    assert receive(alice) == [Renewed(1, 1)]


def test_a_thief_asks_for_what_was_sent_since_and_that_is_shown(
    alice: Messenger, make: Callable[..., Messenger], tmp_path: Path
) -> None:
    """A copy of a home acts as its owner; the server helps it with tokens and mail."""
    bob = make("bob")
    bob.register("bob")
    alice.send("bob", "before the theft")
    receive(bob)
    bob.send("alice", "an answer")
    receive(alice)
    bob.close()
    shutil.copytree(tmp_path / "bob", tmp_path / "copy")
    with make("bob") as bob:
        alice.send("bob", "since the theft")
        assert receive(bob) == [Text("since the theft")]
    *_, sent = alice.home.store.sent.all()
    assert sent.payload_id is not None
    thief = make("copy")
    ask_for(thief, alice.identity().client_id, (sent.payload_id,))
    thief.send_waiting()
    assert Renewed(1, 1) in receive(alice)
    assert Text("since the theft") in receive(thief)
    # Once: who asks again gets nothing.
    ask_for(thief, alice.identity().client_id, (sent.payload_id,))
    thief.send_waiting()
    receive(alice)
    assert receive(thief) == []


def test_two_homes_that_can_read_nothing_ask_each_other_once_an_hour(
    make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "one")
    receive(bob)
    bob.send("alice", "two")
    receive(alice)

    def spoilt_hour() -> int:
        """How many messages an hour brings in which the server spoils all of them."""
        gateway.requests.clear()
        for _ in range(30):
            for name, one in (("alice", alice), ("bob", bob)):
                for _ in mailroom.boxes[mailroom.id_of(name)]:
                    box = mailroom.boxes[mailroom.id_of(name)]
                    box.append(
                        box.pop(0)._replace(content=bytes([1, *os.urandom(3), 0, 0, 5, 0, 0]) + os.urandom(1280))
                    )
                assert all(isinstance(content, Unreadable) for content in receive(one))
            clock[0] += 110
        return len(sends(gateway))

    alice.send("bob", "three")
    # Each asks once; in the next hour once more.
    assert [spoilt_hour() for _ in range(3)] == [2, 2, 2]
    gateway.requests.clear()
    clock[0] += 3600
    for _ in range(3):
        receive(alice)
        receive(bob)
    alice.send("bob", "four")
    bob.send("alice", "five")
    assert Text("four") in receive(bob)
    assert Text("five") in receive(alice)


def spoil(mailroom: SuiteMailroom, name: str) -> None:
    """The server alters the newest message that waits for somebody."""
    alter_last(mailroom, name, spoilt)


def spoilt(message: StoredMessage) -> StoredMessage:
    return message._replace(content=message.content[:1200] + bytes(80) + message.content[1280:])


def test_who_answers_is_asked_again_within_the_hour(alice: Messenger, bob: Messenger, mailroom: SuiteMailroom) -> None:
    """What was under way when the first request left has to wait for nothing."""
    for number in range(5):
        alice.send("bob", f"text {number}")
        spoil(mailroom, "bob")
        # The request of the first waits for Alice while she writes the others.
        (content,) = receive(bob)
        assert isinstance(content, Unreadable)
    assert bob.home.store.inbox.to_ask() != {}
    assert receive(alice) == [Renewed(1, 1)]
    assert receive(bob) == [Text("text 0")]
    assert receive(alice) == [Renewed(4, 4)]
    assert receive(bob) == [Text(f"text {number}") for number in range(1, 5)]
    assert bob.home.store.inbox.to_ask() == {}


def test_what_opens_in_a_session_that_was_given_up_is_no_answer(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom
) -> None:
    """It was on its way when its sender was asked."""
    alice.send("bob", "one")
    receive(bob)
    bob.send("alice", "two")
    receive(alice)
    alice.send("bob", "spoilt")
    spoil(mailroom, "bob")
    receive(bob)
    alice.send("bob", "opens")
    assert receive(bob) == [Text("opens")]
    (peer,) = bob.home.store.peers.all()
    assert peer.asked_at is not None
    assert receive(alice) == [Renewed(1, 1)]
    assert receive(bob) == [Text("spoilt")]
    (peer,) = bob.home.store.peers.all()
    assert peer.asked_at is None


def test_what_was_sent_again_and_spoilt_too_is_sent_once_more(
    make: Callable[..., Messenger], mailroom: SuiteMailroom
) -> None:
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "wanted")
    for _ in range(3):
        spoil(mailroom, "bob")
        (content,) = receive(bob)
        assert isinstance(content, Unreadable)
        (renewed,) = receive(alice)
        assert isinstance(renewed, Renewed)
        clock[0] += 3600
    # Twice by itself, and no more.
    assert mailroom.boxes[mailroom.id_of("bob")] == []
    (sent,) = alice.home.store.sent.all()
    assert sent.repeats == 2


def test_the_second_repeat_comes(make: Callable[..., Messenger], mailroom: SuiteMailroom, tmp_path: Path) -> None:
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    (tmp_path / "plan.txt").write_text("the plan")
    alice.send("bob", "wanted")
    alice.send("bob", tmp_path / "plan.txt")
    for _ in range(2):
        box = mailroom.boxes[mailroom.id_of("bob")]
        box[:] = map(spoilt, box)
        assert [type(content) for content in receive(bob)] == [Unreadable] * 2
        receive(alice)
        clock[0] += 3600
    text, file = receive(bob)
    assert text == Text("wanted")
    assert isinstance(file, SavedFile)
    assert file.path.read_text() == "the plan"


def test_new_keys_are_published_before_anybody_is_asked(
    make: Callable[..., Messenger], tmp_path: Path, gateway: FakeGateway, mailroom: SuiteMailroom
) -> None:
    """Who is asked seals the answer to what is published, which this home lacks."""
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    alice.send("bob", "one")
    bob.send("alice", "two")
    assert receive(bob) == [Text("one")]
    assert receive(alice) == [Text("two")]
    bob.close()
    before = (tmp_path / "bob" / "store.db").read_bytes()
    with make("bob", clock=lambda: clock[0]) as bob:
        # Sealed to a key that he lacks, it seems: Bob makes others.
        alice.send("bob", "three")
        alter_last(mailroom, "bob", lambda one: one._replace(content=b"\1key!" + one.content[5:]))
        assert [type(content) for content in receive(bob)] == [Unreadable]
        receive(alice)
        assert receive(bob) == [Text("three")]
    alice.send("bob", "four")
    # As by a snapshot of the whole machine: nothing shows it, and nothing is due to be published.
    for path in (tmp_path / "bob").glob("store.db-*"):
        path.unlink()
    (tmp_path / "bob" / "store.db").write_bytes(before)
    clock[0] += 60
    bob = make("bob", clock=lambda: clock[0])
    bob.users()
    gateway.requests.clear()
    assert [type(content) for content in receive(bob)] == [Unreadable]
    asked = [type(request) for request in gateway.requests if isinstance(request, PublishKeysRequest | SendRequest)]
    assert asked == [PublishKeysRequest, SendRequest]
    assert all(isinstance(content, Renewed) for content in receive(alice))
    assert receive(bob) == [Text("four")]


def test_a_request_that_could_not_be_opened_is_made_again(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom
) -> None:
    alice.send("bob", "one")
    receive(bob)
    bob.send("alice", "two")
    receive(alice)
    alice.send("bob", "wanted")
    spoil(mailroom, "bob")
    receive(bob)
    spoil(mailroom, "alice")
    (content,) = receive(alice)
    assert isinstance(content, Unreadable)
    (renewed,) = receive(bob)
    assert isinstance(renewed, Renewed)
    assert receive(alice) == [Renewed(1, 1)]
    assert receive(bob) == [Text("wanted")]
    # And not for what has come.
    with bob.home.store.database.transaction():
        (row,) = [one for one in bob.home.store.inbox.seen(0) if one.opened is None]
        assert row.token is not None
        bob.home.store.inbox.ask_once_more(alice.identity().client_id, [row.token])
    assert bob.home.store.inbox.to_ask() == {}


def test_what_is_asked_for_before_the_server_has_answered_is_sent_again(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    """Another process of the home was killed while it sent it."""
    alice.send("bob", "one")
    receive(bob)
    bob.send("alice", "two")
    receive(alice)

    def lose_the_answer(request: object) -> None:
        gateway.script.append(CLOSE)
        if isinstance(request, SendRequest) and not mailroom.boxes[request.recipient]:
            mailroom.put(request.requester, request.recipient, request.kind, request.content, request.token or b"")

    gateway.on_request = lose_the_answer
    number = alice.home.outbox.sealing.keep_text(bob.identity().client_id, "wanted")
    with suppress(ClientError):
        alice.home.outbox.flush(alice.identity().client_id)
    gateway.on_request = lambda _: None
    gateway.script.clear()
    assert alice.home.store.outbox.is_waiting(number)
    spoil(mailroom, "bob")
    (content,) = receive(bob)
    assert isinstance(content, Unreadable)
    other = open_store(alice.home.store.database.path.parent)
    with other.sender(wait=True):
        assert receive(alice) == [Renewed(1, 1)]
    other.close()
    # The server knows the token of the one that was spoilt.
    mailroom.accepted.clear()
    alice.send_waiting()
    assert Text("wanted") in receive(bob)


def test_the_keys_of_a_lost_home_begin_conversations_anew(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger]
) -> None:
    """The server keeps one-time keys that the lost home had published: nobody gets them."""
    with_other_keys(bob)
    alice.send("bob", "to the new keys")
    assert receive(bob) == [Text("to the new keys")]
    carol = make("carol")
    carol.register("carol")
    carol.send("bob", "and carol")
    assert receive(bob) == [Text("and carol")]


def test_what_was_sent_again_for_its_recipient_is_resent_once_if_the_server_loses_it(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom, tmp_path: Path
) -> None:
    """The message of before is not possibly lost too, and a file is known to be the same."""
    (tmp_path / "file.bin").write_bytes(b"q" * 300_000)
    alice.send("bob", "text")
    alice.send("bob", tmp_path / "file.bin")
    mailroom.boxes[mailroom.id_of("bob")].clear()
    tokens = [sent.payload_id for sent in alice.home.store.sent.all()]
    with bob.home.store.database.transaction():
        name = Token(os.urandom(TOKEN_SIZE))
        request = encoded(CouldNotOpen(About(name, 1), tuple(one for one in tokens if one is not None)))
        bob.home.store.outbox.insert_payload(alice.identity().client_id, request, name, 1)
    bob.send_waiting()
    assert receive(alice) == [Renewed(2, 2)]
    mailroom.boxes[mailroom.id_of("bob")].clear()
    mailroom.accepted.clear()
    with alice.home.store.database.transaction():
        assert mark_lost(alice.home.store.database, int(NOW * 1000)) == 2
    resent = alice.resend()
    assert (resent.sent, resent.left, resent.problems) == (2, 0, [])
    text, file = receive(bob)
    assert text == Text("text")
    assert isinstance(file, SavedFile)


def test_a_payload_of_a_later_version_is_kept_and_named(alice: Messenger, bob: Messenger) -> None:
    import cbor2

    alice.send("bob", "first")
    receive(bob)
    name = Token(bytes(range(16)))
    later = cbor2.dumps({0: 9, 1: 5, 2: name, 3: "shown instead"}, canonical=True)
    with alice.home.store.database.transaction():
        alice.home.store.outbox.insert_payload(bob.identity().client_id, later, name, 1)
    alice.send_waiting()
    assert receive(bob) == [UnknownKind(9, "shown instead")]
    assert [message.content for message in bob.seen()][-1] == UnknownKind(9, "shown instead")
    row = list(bob.home.store.inbox.seen(0))[-1]
    assert (row.content or b"")[: row.opened] == later


def test_a_sender_whose_keys_the_server_withholds_waits(
    alice: Messenger, bob: Messenger, mailroom: SuiteMailroom
) -> None:
    alice.send("bob", "who am I")
    mailroom.withheld.add(mailroom.id_of("alice"))
    (content,) = receive(bob)
    assert isinstance(content, Unreadable)
    mailroom.withheld.clear()
    bob.fetch_public_key("alice")
    (message,) = list(bob.receive())
    assert (message.content, message.late) == (Text("who am I"), True)


def test_old_outer_keys_are_dropped_in_time(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    clock = [NOW]
    alice, bob = (make(name, clock=lambda: clock[0]) for name in ("alice", "bob"))
    alice.register("alice")
    bob.register("bob")
    kept = list[int]()
    for day in range(0, 40, 5):
        clock[0] = NOW + day * 86_400
        for one in (alice, bob):
            one.home.link.close()
            one.users()
        alice.send("bob", f"day {day}")
        assert receive(bob) == [Text(f"day {day}")]
        own = bob.home.suite_keys.own()
        assert own is not None
        # Of the last two weeks, and the present one.
        assert all(key.valid_until + 10 * 86_400_000 > clock[0] * 1000 for key in own.outer)
        kept.append(len(own.outer))
    assert kept[0] == 1
    assert 1 < kept[-1] <= 4


def made_up(mailroom: SuiteMailroom, sender: str, recipient: str, token: bytes) -> None:
    """The server hands out a message that nobody has sent."""
    content = bytes([1, *os.urandom(3), 0, 0, 5, 0, 0]) + os.urandom(1280)
    mailroom.put(mailroom.id_of(sender), mailroom.id_of(recipient), 5, content, token)


def test_two_messages_that_nobody_has_sent_do_not_make_two_homes_ask_without_end(
    make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    """Neither home has in its history what the other one asks for."""
    alice, bob = talking(make)
    made_up(mailroom, "alice", "bob", b"a" * 16)
    made_up(mailroom, "bob", "alice", b"b" * 16)
    gateway.requests.clear()
    for _ in range(10):
        receive(alice)
        receive(bob)
    assert len(sends(gateway)) == 2


def test_nobody_is_asked_while_the_server_does_not_take_the_new_keys(
    make: Callable[..., Messenger], mailroom: SuiteMailroom, gateway: FakeGateway
) -> None:
    """The answer would be sealed to those before."""
    alice, bob = talking(make)
    refuses = [True]

    def refuse(request: object) -> None:
        if isinstance(request, PublishKeysRequest) and refuses[0]:
            gateway.script.append(ERROR)

    gateway.on_request = refuse
    alice.send("bob", "wanted")
    alter_last(mailroom, "bob", lambda one: one._replace(content=b"\1key!" + one.content[5:]))
    gateway.requests.clear()
    assert [type(content) for content in receive(bob)] == [Unreadable]
    assert sends(gateway) == []
    refuses.clear()
    refuses.append(False)
    assert receive(bob) == []
    assert receive(alice) == [Renewed(1, 1)]
    assert receive(bob) == [Text("wanted")]


def test_keys_that_another_process_replaced_meanwhile_are_not_taken_for_published(
    make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    alice, bob = talking(make)
    keys = bob.home.suite_keys

    def replace(request: object) -> None:
        if isinstance(request, PublishKeysRequest):
            gateway.on_request = lambda _: None
            other = open_store(bob.home.store.database.path.parent)
            row = other.own_keys.get()
            assert row is not None
            newer = own_keys.replaced(OwnKeys.from_bytes(row.state), int(NOW * 1000), os.urandom)
            with other.database.transaction():
                other.own_keys.put(row._replace(state=newer.to_bytes()))
            other.close()

    gateway.on_request = replace
    with bob.home.store.database.transaction():
        own = keys.own()
        assert own is not None
        keys.keep_own(own_keys.replaced(own, int(NOW * 1000), os.urandom))
    bob.home.suite_choice.publish_replaced()
    assert keys.are_replaced()
    bob.home.suite_choice.publish_replaced()
    assert not keys.are_replaced()
    alice.close()


def test_what_went_to_another_id_is_not_sent_again_to_this_one(alice: Messenger, bob: Messenger) -> None:
    alice.send("bob", "wanted")
    bobs = bob.identity().client_id
    receive(bob)
    (sent,) = alice.home.store.sent.all()
    assert alice.home.outbox.sealing.repeat(sent)
    (row,) = alice.home.store.outbox.waiting()
    found = alice.home.store.sent.by_repeat(bobs, row.token)
    assert found is not None
    assert (found.number, found.repeats) == (sent.number, 1)
    assert alice.home.store.sent.by_repeat(alice.identity().client_id, row.token) is None
    with alice.home.store.database.transaction():
        alice.home.store.database.run("UPDATE sent SET recipient = ?", alice.identity().client_id)
    assert alice.home.store.sent.by_repeat(bobs, row.token) is None
