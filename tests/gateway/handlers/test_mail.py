"""604 and 643: pages of every kind, acknowledging, and waiting for mail."""

import socket
import struct

import pytest

from common.client_protocol.requests import FetchRequest, ListUsersRequest, PullRequest, SendRequest, encode
from common.storage_protocol.frames import LOOK_ANYWAY, MailArrived, StoreFacts
from common.storage_protocol.message_format import FLAG_AUTHENTICATED, Entry, pack_entry
from common.storage_protocol.operations import (
    NO_MAIL,
    Done,
    Fetch,
    Fetched,
    Mail,
    Operation,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    Release,
)
from gateway.settings import Settings
from tests.gateway.authenticated import ALICE, BOB, TOKEN
from tests.gateway.every_kind import EVERY_KIND
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Gate, Peer
from tests.gateway.mailbox import page, part


def mail(operation: Operation) -> Outcome:
    if isinstance(operation, Fetch):
        entry = Entry(BOB, TOKEN, 9, 1234, FLAG_AUTHENTICATED, 3, 2, b"hi")
        return Fetched(9, 1, 2, 9, Mail(pack_entry(entry), 9))
    return default_decision(operation)


EMPTY = (2143, b"")
FETCHED = (2143, BOB + TOKEN + struct.pack("<QQBBI", 9, 1234, 1, 3, 2) + b"hi")


def test_a_fetch_acknowledges_and_carries(gate: Gate, authenticated: Peer) -> None:
    gate.storage.decide = mail
    authenticated.send(FetchRequest(ALICE, 5, 1000, 0))
    assert authenticated.response() == FETCHED
    assert gate.storage.operations == [Fetch(ALICE, True, 5, 1000, 54, 262144, False)]
    authenticated.send(FetchRequest(ALICE, 2**64 - 1, 2**32 - 1, 0))
    authenticated.response()
    assert gate.storage.operations[1] == Fetch(ALICE, True, 2**63 - 1, 256 * 1024 * 1024, 54, 262144, False)


def test_a_refused_fetch(gate: Gate, authenticated: Peer) -> None:
    gate.storage.decide = lambda _: Refused(1)
    authenticated.send(FetchRequest(ALICE, 5, 1000, 60))
    assert authenticated.response() == (9000, b"")


def test_a_waiting_fetch_is_woken_by_a_hint(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    asked = len(gate.storage.operations)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 100, [ALICE]))
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [BOB]))
    gate.turns()
    assert len(gate.storage.operations) == asked, "not later than what was seen, or another's"
    gate.storage.decide = mail
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [BOB, ALICE]))
    assert authenticated.response() == FETCHED
    gate.pass_time(400, 10.0)
    assert len(gate.storage.asked(Fetch)) == 2
    gate.storage.decide = default_decision
    authenticated.send(ListUsersRequest(ALICE))
    assert authenticated.response()[0] == 2101


def test_a_waiting_fetch_of_a_user_who_is_deleted_ends_with_the_refusal(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.storage.decide = lambda _: Refused(3)
    gate.storage.say(MailArrived(3, gate.storage.epoch, LOOK_ANYWAY, [ALICE]))
    assert authenticated.response() == (9000, b"")
    assert len(gate.storage.asked(Fetch)) == 2


def test_a_hint_right_behind_the_reply_that_has_it_wait_is_heard(gate: Gate, authenticated: Peer) -> None:
    gate.storage.answering = False
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held.pop())
    gate.storage.decide = mail
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [ALICE]))
    assert authenticated.response() == FETCHED


def test_a_wait_ends_by_itself(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 5))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.pass_time(4.5)
    authenticated.read()
    assert authenticated.received == b""
    gate.pass_time(1)
    assert authenticated.response() == EMPTY
    last = gate.storage.asked(Fetch)[-1]
    assert isinstance(last, Fetch)
    assert not last.watch


def test_a_wait_is_300_seconds_at_most_and_asks_each_minute(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 65535))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.pass_time(299, 1.0)
    authenticated.read()
    assert authenticated.received == b""
    assert 4 <= len(gate.storage.asked(Fetch)) <= 6
    gate.pass_time(2, 1.0)
    assert authenticated.response() == EMPTY


def test_any_byte_ends_the_wait(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    authenticated.send(encode(ListUsersRequest(ALICE))[:1])
    assert authenticated.response() == EMPTY
    authenticated.send(encode(ListUsersRequest(ALICE))[1:])
    assert authenticated.response()[0] == 2101


def test_a_fetch_with_a_follower_in_the_same_write_does_not_wait(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(encode(FetchRequest(ALICE, 0, 1000, 60)) + encode(ListUsersRequest(ALICE)))
    assert authenticated.response() == EMPTY
    assert authenticated.response()[0] == 2101


def test_the_end_of_the_client_ends_the_wait(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    authenticated.end()
    assert authenticated.response() == EMPTY
    gate.turn_until(authenticated.is_ended)


def test_a_waiting_client_that_goes_is_forgotten(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    authenticated.close()
    gate.turn_until(lambda: not gate.context.sessions)
    asked = len(gate.storage.operations)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [ALICE]))
    gate.pass_time(400, 10.0)
    assert len(gate.storage.operations) == asked


def test_another_worker_is_asked_again(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(FetchRequest(ALICE, 0, 1000, 60))
    gate.turn_until(lambda: bool(gate.storage.asked(Fetch)))
    gate.turns()
    gate.storage.die()
    gate.storage.incarnation = b"V" * 16
    gate.storage.facts = StoreFacts(SERVER_ID, 8, 200)
    gate.turns()
    gate.storage.bind()
    other = gate.peer()
    gate.storage.decide = lambda operation: mail(operation) if isinstance(operation, Fetch) else Done()
    other.send(SendRequest(BOB, ALICE, 3, b"x"))
    assert authenticated.response() == FETCHED


def test_a_large_message_of_643_comes_in_parts(gate: Gate) -> None:
    def decide(operation: Operation) -> Outcome:
        match operation:
            case Fetch():
                return Fetched(9, 2, 8, 9, page((8, b"abc"), part=part(9, b"de", 0, 5)))
            case PullPage(_, _, 9, 2, 9):
                return Page(page(part=part(9, b"fgh", 2, 5)))
            case _:
                return Refused(1)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(FetchRequest(ALICE, 0, 1000, 0))
    code, payload = peer.response()
    whole = page((8, b"abc"), (9, b"defgh"))
    assert (code, payload) == (2143, whole.entries)


def test_a_client_that_keeps_up_gets_larger_pages(gate: Gate) -> None:
    size = 3_000_000

    def decide(operation: Operation) -> Outcome:
        match operation:
            case Pull(page_bytes=length):
                return Pulled(4, 4, 1, size, page(part=part(4, bytes(length), 0, size)))
            case PullPage(offset=offset, page_bytes=length):
                return Page(page(part=part(4, bytes(min(length, size - offset)), offset, size)))
            case _:
                return default_decision(operation)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    code, payload = peer.response()
    assert (code, len(payload)) == (2104, 25 + size)
    lengths = {ask.page_bytes for ask in gate.storage.asked(PullPage) if isinstance(ask, PullPage)}
    assert lengths <= {Settings().page, Settings().large_page}
    assert Settings().large_page in lengths


def test_a_page_that_makes_no_sense_resets(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    nonsense = Mail(page((4, b"hello")).entries[:-1], 4)
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, 5, nonsense) if isinstance(operation, Pull) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert "an invalid page of mail" in caplog.text


def test_a_lease_that_comes_too_late_is_released(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    gate.storage.answering = True
    gate.storage.decide = lambda operation: (
        Pulled(1, 2, 2, 0, NO_MAIL) if isinstance(operation, Pull) else default_decision(operation)
    )
    gate.storage.answer(gate.storage.held[0])
    gate.turn_until(lambda: gate.link.collects or bool(gate.storage.asked(Release)))
    assert not gate.link.collects, "it leaves in the turn in which it was asked for: there may be no other for long"


def test_more_content_than_was_announced_resets(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Pulled(1, 1, 1, 3, page((1, b"too large"))) if isinstance(operation, Pull) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset


def test_a_sleeping_fetch_that_is_refused_later_is_forgotten(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(EVERY_KIND["fetch"])
    gate.turn_until(lambda: bool(gate.storage.operations))
    gate.turns()
    gate.storage.decide = lambda _: Refused(1)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [ALICE]))
    assert peer.response() == (9000, b"")
    assert not gate.context.waiters.mailboxes
