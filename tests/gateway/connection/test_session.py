"""The session against real TCP peers and a scripted storage: framing, order, bounds,
time-outs, ends.
"""

import struct
from collections.abc import Callable

import pytest

from common.client_protocol.requests import (
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
    encode,
)
from common.storage_protocol.operations import (
    NO_MAIL,
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    GetPublicKey,
    ListUsers,
    Operation,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    Register,
    Registered,
    Release,
    Settle,
    Stored,
    StoreMessage,
    UserEntry,
    UsersPage,
)
from common.values import ClientId, PublicKey, RefusalReason, Token, Username
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate
from tests.gateway.mailbox import page, part
from tests.gateway.tls_peer import ClientTls

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
KEY = PublicKey(b"k" * 160)
ERROR = struct.pack("<BHI", 2, 9000, 0)


def send(content: bytes = b"hello", kind: int = 3) -> bytes:
    return encode(SendRequest(ALICE, BOB, kind, content))


def test_every_request_of_the_published_protocol_gets_its_answer(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(RegisterRequest(ClientId(bytes(16)), Username("Michael Jackson"), KEY))
    assert peer.response() == (2100, b"N" * 16)
    gate.storage.decide = lambda _: UsersPage(1, 9, 9, [UserEntry(BOB, "bob")])
    peer.send(ListUsersRequest(ALICE))
    assert peer.response() == (2101, BOB + b"bob".ljust(255, b"\0"))
    gate.storage.decide = default_decision
    peer.send(PublicKeyRequest(ALICE, BOB))
    assert peer.response() == (2102, BOB + b"K" * 160)
    peer.send(send())
    assert peer.response() == (2103, BOB + struct.pack("<I", 1))
    gate.storage.decide = lambda _: Pulled(4, 4, 1, 2, page((4, b"hi")))
    peer.send(PullRequest(ALICE))
    assert peer.response() == (2104, BOB + struct.pack("<IBI", 4, 3, 2) + b"hi")
    assert [type(operation) for operation in gate.storage.operations] == [
        Register,
        ListUsers,
        GetPublicKey,
        StoreMessage,
        Pull,
    ]
    assert gate.storage.operations[3] == StoreMessage(ALICE, False, BOB, 3, b"hello", None)


def test_bytes_one_by_one(gate: Gate) -> None:
    peer = gate.peer()
    for byte in send() + encode(PublicKeyRequest(ALICE, BOB)):
        peer.send(bytes([byte]))
        gate.turn()
    assert peer.response()[0] == 2103
    assert peer.response()[0] == 2102


def test_pipelined_requests_are_answered_in_order_and_travel_in_one_batch(gate: Gate) -> None:
    numbers = iter(range(1, 1000))

    def decide(operation: Operation) -> Outcome:
        return Stored(next(numbers)) if isinstance(operation, StoreMessage) else default_decision(operation)

    gate.storage.decide = decide
    peer = gate.peer()
    bad = struct.pack("<16sBHI", ALICE, 2, 999, 3) + b"xyz"
    peer.send(
        send() + bad + send() + encode(PullRequest(ALICE)) + send() + send() + encode(PublicKeyRequest(ALICE, BOB))
    )
    codes = [peer.response()[0] for _ in range(7)]
    assert codes == [2103, 9000, 2103, 2104, 2103, 2103, 2102]
    assert [len(batch.operations) for batch in gate.storage.batches] == [1, 1, 1, 2]


def test_sends_with_tokens_and_without_are_answered_each_in_its_place(gate: Gate) -> None:
    """Of two connections whose sends travel in the same runs; some were sent before, some are
    refused.
    """
    numbers = iter(range(1, 1000))

    def decide(operation: Operation) -> Outcome:
        if not isinstance(operation, StoreMessage):
            return default_decision(operation)
        return Refused(RefusalReason.MAILBOX_FULL) if operation.content == b"no" else Stored(next(numbers))

    gate.storage.decide = decide
    known = Token(b"k" * 16)
    gate.storage.known = {known: 777}

    def once(content: bytes = b"hello", token: Token | None = None) -> bytes:
        return encode(SendRequest(ALICE, BOB, 3, content, token or Token(b"n" * 16)))

    data = [
        send(), once(), once(token=known), once(b"no"), once(), send(b"no"), send(), send(), once(b"no"),
        once(token=known), once(), send(),
    ]  # fmt: skip
    peers = [gate.peer(), gate.peer()]
    for peer in peers:
        peer.send(b"".join(data))
    accepted: list[int] = []
    for peer in peers:
        answers = [peer.response() for _ in data]
        assert [code for code, _ in answers] == [
            2103, 2103, 2103, 9000, 2103, 9000, 2103, 2103, 9000, 2103, 2103, 2103,
        ]  # fmt: skip
        sequences = [struct.unpack("<16sI", payload)[1] for code, payload in answers if code == 2103]
        assert [sequences[2], sequences[6]] == [777, 777]
        own = [sequence for sequence in sequences if sequence != 777]
        assert own == sorted(own)
        accepted += own
    assert sorted(accepted) == list(range(1, 2 * 7 + 1))


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<16sBHI", ALICE, 2, 605, 0),
        struct.pack("<16sBHI", ALICE, 2, 601, 4) + b"abcd",
        struct.pack("<16sBHI", ALICE, 2, 602, 15) + b"a" * 15,
        struct.pack("<16sBHI", ALICE, 2, 600, 414) + b"a" * 414,
        struct.pack("<16sBHI", ALICE, 2, 600, 415) + b"a" * 415,
        struct.pack("<16sBHI", ALICE, 2, 600, 415) + b" a\0".ljust(415, b"\0"),
        struct.pack("<16sBHI", ALICE, 2, 600, 415) + bytes(415),
        struct.pack("<16sBHI", ALICE, 2, 600, 415) + "é\0".encode().ljust(415, b"\0"),
        struct.pack("<16sBHI16sBI", ALICE, 2, 603, 26, BOB, 5, 5) + b"hello",
        struct.pack("<16sBHI16sBI", ALICE, 2, 603, 26, BOB, 0, 5) + b"hello",
        struct.pack("<16sBHI16sBI", ALICE, 2, 603, 26, BOB, 3, 4) + b"hello",
        struct.pack("<16sBHI16sBI", ALICE, 2, 603, 26, BOB, 1, 6) + b"hello",
    ],
)
def test_a_bad_frame_gets_9000_and_the_connection_lives(gate: Gate, frame: bytes) -> None:
    peer = gate.peer()
    peer.send(frame)
    assert peer.response() == (9000, b"")
    peer.send(send())
    assert peer.response()[0] == 2103
    assert len(gate.storage.operations) == 1


def test_a_refusal_of_the_store_is_9000(gate: Gate) -> None:
    gate.storage.decide = lambda _: Refused(3)
    peer = gate.peer()
    for request in (
        send(),
        encode(PublicKeyRequest(ALICE, BOB)),
        encode(PullRequest(ALICE)),
        encode(ListUsersRequest(ALICE)),
    ):
        peer.send(request)
        assert peer.response() == (9000, b"")


@pytest.mark.parametrize("declared", [0, 3, 21, 100, 0xFFFFFFFF, 0xCCCCCCCC])
def test_a_key_request_is_21_bytes_whatever_its_header_says(gate: Gate, declared: int) -> None:
    peer = gate.peer()
    frame = struct.pack("<16sBHI16sBI", ALICE, 2, 603, declared, BOB, 1, 0)
    peer.send(frame + send())
    assert peer.response()[0] == 2103
    assert peer.response()[0] == 2103
    assert gate.storage.operations[0] == StoreMessage(ALICE, False, BOB, 1, b"", None)


@pytest.mark.parametrize("declared", [0, 10, 20])
def test_a_send_too_short_to_be_one_is_judged_after_a_moment_of_silence(gate: Gate, declared: int) -> None:
    peer = gate.peer()
    peer.send(struct.pack("<16sBHI", ALICE, 2, 603, declared) + b"x" * declared)
    gate.turns()
    gate.pass_time(1.5)
    assert peer.response() == (9000, b"")
    peer.send(send())
    assert peer.response()[0] == 2103


def test_a_send_too_short_to_be_one_is_judged_when_the_client_ends_its_side(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(struct.pack("<16sBHI", ALICE, 2, 603, 4) + b"x" * 4)
    peer.end()
    assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)


def test_over_the_limit_is_refused_before_any_content_is_kept(gate: Gate) -> None:
    peer = gate.peer()
    size = Settings().largest_content + 1
    peer.send(struct.pack("<16sBHI16sBI", ALICE, 2, 603, size + 21, BOB, 3, size))
    assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)
    assert not peer.reset
    peer.send(b"x" * 300_000)
    gate.turns()
    assert not peer.reset
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    assert gate.storage.operations == []


def test_a_header_alone_that_declares_too_much_is_refused_after_a_moment(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(struct.pack("<16sBHI", ALICE, 2, 603, 0xFFFFFFFF))
    gate.turns()
    gate.pass_time(1.5)
    assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)


def test_what_is_drained_is_drained_for_a_while_only(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(struct.pack("<16sBHI", ALICE, 2, 999, 0xFFFFFFFF))
    assert peer.response() == (9000, b"")
    gate.turn_until(peer.is_ended)
    gate.pass_time(31, 1.0)
    assert not gate.context.sessions


# --- the padded dialect
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [1, 7, 500, 2000])
def test_a_padded_client_gets_a_padded_answer_and_the_end(gate: Gate, split: int) -> None:
    peer = gate.peer()
    padded = send().ljust(1024, b"\0")
    for start in range(0, len(padded), split):
        peer.send(padded[start : start + split])
        gate.turn()
    answer = peer.take(1024)
    assert answer[:7] == struct.pack("<BHI", 2, 2103, 20)
    assert answer[27:] == bytes(1024 - 27)
    gate.turn_until(peer.is_ended)
    assert not peer.reset
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)


def test_the_answer_goes_out_before_the_padding_is_decided(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send() + bytes(3))
    assert peer.response()[0] == 2103
    gate.pass_time(100, 5.0)
    assert not peer.is_ended()
    peer.send(bytes(1024 - len(send()) - 3))
    assert peer.take(1024 - 27) == bytes(1024 - 27)
    gate.turn_until(peer.is_ended)


def test_zeros_that_begin_a_request_are_given_back(gate: Gate) -> None:
    peer = gate.peer()
    register = encode(RegisterRequest(ClientId(bytes(16)), Username("bob"), KEY))
    peer.send(register + register[:10])
    assert peer.response()[0] == 2100
    peer.send(register[10:] + send())
    assert peer.response()[0] == 2100
    assert peer.response()[0] == 2103


def test_only_the_first_request_is_examined(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send() + send())
    assert [peer.response()[0], peer.response()[0]] == [2103, 2103]
    peer.send(bytes(16) + struct.pack("<BHI", 2, 601, 0))
    assert peer.response()[0] == 2101


def test_a_padded_pull_is_settled_by_its_end_and_not_by_its_padding(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, 2, page((4, b"hi"))) if isinstance(operation, Pull) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(encode(PullRequest(ALICE)).ljust(1024, b"\0"))
    assert len(peer.take(1024)) == 1024
    gate.turn_until(peer.is_ended)
    assert not gate.storage.asked(Settle)
    peer.close()
    gate.turns()
    gate.pass_time(2.5)
    gate.turn_until(lambda: bool(gate.storage.asked(Settle)))
    assert gate.storage.asked(Settle) == [Settle(1, ALICE, False, 4, 4)]
    assert not gate.context.sessions


# --- pages
# --------------------------------------------------------------------------------------------------


def test_a_mailbox_comes_in_pages_and_messages_in_pieces(gate: Gate) -> None:
    pages = {
        (1, 0): page((1, b"one"), part=part(2, b"tw", 0, 5)),
        (2, 2): page(part=part(2, b"o", 2, 5)),
        (2, 3): page(part=part(2, b"22", 3, 5)),
        (3, 0): page((5, b"")),
    }

    def decide(operation: Operation) -> Outcome:
        match operation:
            case Pull():
                return Pulled(1, 5, 3, 8, pages[1, 0])
            case _:
                assert isinstance(operation, PullPage)
                return Page(pages[operation.sequence, operation.offset])

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    code, payload = peer.response()
    assert code == 2104
    expected = b"".join(
        BOB + struct.pack("<IBI", number, 3, len(content)) + content
        for number, content in [(1, b"one"), (2, b"two22"), (5, b"")]
    )
    assert payload == expected


def test_a_page_that_can_not_be_had_resets_the_connection(gate: Gate) -> None:
    def decide(operation: Operation) -> Outcome:
        if isinstance(operation, Pull):
            return Pulled(1, 2, 2, 6, page((1, b"one")))
        return Page(NO_MAIL) if isinstance(operation, PullPage) else default_decision(operation)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    gate.turn_until(lambda: bool(gate.storage.asked(Release)))
    assert not gate.storage.asked(Settle)


def test_a_list_of_users_comes_in_pages(gate: Gate) -> None:
    def decide(operation: Operation) -> Outcome:
        assert isinstance(operation, ListUsers)
        if operation.after == 0:
            return UsersPage(2, 5, 8, [UserEntry(ALICE, "alice")])
        assert (operation.after, operation.until) == (5, 8)
        return UsersPage(2, 8, 8, [UserEntry(BOB, "bob")])

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    code, payload = peer.response()
    assert code == 2101
    assert payload == ALICE + b"alice".ljust(255, b"\0") + BOB + b"bob".ljust(255, b"\0")


# --- large contents
# ---------------------------------------------------------------------------------------------


def test_a_large_content_travels_in_chunks_and_is_answered_after_its_commit(gate: Gate) -> None:
    content = bytes(range(256)) * 4096
    peer = gate.peer()
    peer.send(send(content) + send())
    assert peer.response()[0] == 2103
    assert peer.response()[0] == 2103
    begin, *chunks, commit, after = gate.storage.operations
    assert begin == BeginUpload(1, ALICE, False, BOB, 3, len(content), None)
    assert b"".join(chunk.content for chunk in chunks if isinstance(chunk, Chunk)) == content
    assert len(chunks) > 1
    assert commit == CommitUpload(1)
    assert isinstance(after, StoreMessage)


def test_what_a_client_has_in_flight_is_bounded(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    content = bytes(8_000_000)
    peer.sock.setblocking(False)
    frame = send(content)
    sent = 0
    for _ in range(400):
        try:
            sent += peer.sock.send(frame[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
    assert gate.link.bytes_in_flight <= Settings().connection_in_flight + Settings().chunk + 65536
    gate.storage.answering = True
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    peer.send(frame[sent:])
    assert peer.response()[0] == 2103


@pytest.mark.parametrize("steps", [(BeginUpload, Chunk, CommitUpload), (Chunk, CommitUpload), (CommitUpload,)])
def test_a_refused_upload_is_read_to_its_end_and_answered_once(gate: Gate, steps: tuple[type, ...]) -> None:
    # As the worker does: behind a step that was refused every later one is refused too.
    gate.storage.decide = lambda operation: Refused(3) if isinstance(operation, steps) else default_decision(operation)
    peer = gate.peer()
    peer.send(send(bytes(1_000_000)) + send())
    assert peer.response() == (9000, b"")
    assert peer.response()[0] == 2103


def test_a_broken_upload_leaves_nothing(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send(bytes(1_000_000))[:600_000])
    gate.turn_until(lambda: bool(gate.storage.asked(Chunk)))
    peer.close()
    gate.turn_until(lambda: bool(gate.storage.asked(AbortUpload)))
    assert not gate.storage.asked(CommitUpload)


# --- evidence
# --------------------------------------------------------------------------------------------------


def mailbox(gate: Gate, content: bytes = b"hi") -> None:
    gate.storage.decide = lambda operation: (
        Pulled(4, 6, 1, len(content), page((4, content)))
        if isinstance(operation, Pull)
        else default_decision(operation)
    )


def test_the_next_request_settles_what_was_read(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    assert peer.response()[0] == 2104
    gate.turns()
    peer.send(send())
    assert peer.response()[0] == 2103
    assert gate.storage.asked(Settle) == [Settle(1, ALICE, False, 4, 6)]
    assert [type(operation) for operation in gate.storage.operations] == [Pull, Settle, StoreMessage]


def test_a_client_that_pulls_as_fast_as_it_can_is_settled_each_time(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    for number in range(50):
        peer.send(PullRequest(ALICE))
        assert peer.response()[0] == 2104
        assert len(gate.storage.asked(Settle)) >= number - 1
    assert len(gate.storage.asked(Settle)) >= 48


def test_a_request_written_before_the_response_was_read_settles_nothing(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(encode(PullRequest(ALICE)) + send()[:10])
    assert peer.response()[0] == 2104
    gate.turns()
    peer.send(send()[10:])
    assert peer.response()[0] == 2103
    assert not gate.storage.asked(Settle)
    gate.turn_until(gate.all_acknowledged)
    peer.send(send())
    assert peer.response()[0] == 2103
    assert len(gate.storage.asked(Settle)) == 1


def test_a_clean_end_settles_after_two_seconds_without_a_reset(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    assert peer.response()[0] == 2104
    peer.close()
    gate.turns()
    gate.pass_time(1.5)
    assert not gate.storage.asked(Settle)
    gate.pass_time(1.0)
    gate.turn_until(lambda: bool(gate.storage.asked(Settle)))
    assert not gate.storage.asked(Release)


def test_a_half_closed_client_that_reads_later_is_settled(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    peer.end()
    assert peer.response()[0] == 2104
    gate.turns()
    gate.pass_time(2.5)
    gate.turn_until(lambda: bool(gate.storage.asked(Settle)))
    gate.turn_until(peer.is_ended)


def test_a_client_that_closes_with_unread_bytes_gets_its_mail_again(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: bool(gate.storage.asked(Pull)))
    gate.turns()
    peer.close()
    gate.turn_until(lambda: bool(gate.storage.asked(Release)))
    gate.pass_time(3)
    assert not gate.storage.asked(Settle)


def test_a_reset_while_watching_releases(gate: Gate) -> None:
    mailbox(gate)
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: bool(gate.storage.asked(Pull)))
    gate.turns()
    peer.end()
    gate.turns()
    gate.pass_time(1)
    peer.close()
    gate.turn_until(lambda: bool(gate.storage.asked(Release)))
    gate.pass_time(3)
    assert not gate.storage.asked(Settle)


def test_a_client_that_never_reads_is_reset_after_a_minute_without_progress(gate: Gate) -> None:
    content = bytes(200_000)
    first = page(part=part(4, content, 0, 60_000_000))

    def decide(operation: Operation) -> Outcome:
        match operation:
            case Pull():
                return Pulled(4, 4, 1, 60_000_000, first)
            case Release():
                return default_decision(operation)
            case _:
                assert isinstance(operation, PullPage)
                return Page(page(part=part(4, content, operation.offset, 60_000_000)))

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: gate.context.holdings.size > 0)
    gate.turns()
    assert gate.context.holdings.size < 1_000_000
    gate.pass_time(58, 1.0)
    assert gate.context.sessions
    gate.pass_time(4, 1.0)
    assert not gate.context.sessions
    assert gate.context.holdings.size == 0
    gate.turn_until(lambda: bool(gate.storage.asked(Release)))


def test_an_orderly_stop_settles_clean_ends_and_releases_the_rest(gate: Gate) -> None:
    mailbox(gate)
    reader, keeper = gate.peer(), gate.peer()
    for peer in (reader, keeper):
        peer.send(PullRequest(ALICE))
        assert peer.response()[0] == 2104
    reader.close()
    gate.turns()
    for session in list(gate.context.sessions):
        session.stop()
    gate.turns()
    gate.turn_until(keeper.is_ended)
    gate.pass_time(2.5)
    gate.turn_until(lambda: bool(gate.storage.asked(Settle)) and bool(gate.storage.asked(Release)))
    assert not gate.context.sessions
    assert len(gate.storage.asked(Settle)) == len(gate.storage.asked(Release)) == 1


# --- time-outs
# --------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_never_closed(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send())
    assert peer.response()[0] == 2103
    gate.pass_time(100_000, 500.0)
    assert not peer.is_ended()
    peer.send(send())
    assert peer.response()[0] == 2103


def test_half_a_header_and_silence_ends_the_connection(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send()[:10])
    gate.turns()
    gate.pass_time(9)
    assert not peer.is_ended()
    peer.send(send()[10:12])
    gate.turns()
    gate.pass_time(2)
    gate.turn_until(peer.is_ended)


def test_a_payload_may_take_its_time_as_long_as_bytes_come(gate: Gate) -> None:
    peer = gate.peer()
    data = send(bytes(100))
    peer.send(data[:30])
    gate.turns()
    for position in range(30, 60):
        gate.pass_time(20, 5.0)
        peer.send(data[position : position + 1])
        gate.turns(3)
    assert not peer.is_ended()
    gate.pass_time(31, 1.0)
    gate.turn_until(peer.is_ended)


def test_busy_connections_whose_reads_end_in_half_a_header_are_not_timed_out(gate: Gate) -> None:
    peer = gate.peer()
    stream = send() * 40
    step = len(send()) * 2
    for start in range(5, len(stream), step):
        peer.send(stream[max(0, start - step) : start] if start > 5 else stream[:5])
        gate.turns(3)
        gate.pass_time(5, 1.0)
        assert not peer.is_ended()


# --- the link
# --------------------------------------------------------------------------------------------------


def test_requests_wait_for_a_worker_that_comes_late(gate: Gate) -> None:
    gate.storage.die()
    peer = gate.peer()
    peer.send(send())
    gate.turns()
    gate.pass_time(5, 1.0)
    gate.storage.bind()
    assert peer.response()[0] == 2103


def test_after_the_deadline_the_connection_ends_without_a_reply_and_the_worker_is_greeted_again(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(send())
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.pass_time(14)
    assert not peer.is_ended()
    assert [batch.number for batch in gate.storage.held] == [1], "the worker has it, so it does not go again"
    gate.pass_time(2)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    gate.turn_until(lambda: len(gate.storage.greetings) > 1)
    assert gate.storage.greetings[-1].incarnation != gate.storage.greetings[0].incarnation
    gate.storage.answering = True
    other = gate.peer()
    other.send(send())
    assert other.response()[0] == 2103


def test_a_late_reply_after_the_deadline_is_no_news(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(send())
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.pass_time(16)
    gate.turn_until(peer.is_ended)
    gate.storage.answer(gate.storage.held[0])
    gate.storage.answering = True
    other = gate.peer()
    other.send(send())
    assert other.response()[0] == 2103


def test_a_worker_that_dies_and_comes_back_gets_the_batch_again(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(send())
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.storage.die()
    gate.turns()
    gate.storage.answering = True
    gate.storage.incarnation = b"V" * 16
    gate.storage.bind()
    assert peer.response()[0] == 2103
    assert [batch.number for batch in gate.storage.batches] == [1, 1]


def test_sends_that_end_the_worker_twice_are_given_up_and_named(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(send())
    for ends in (1, 2):
        gate.turn_until(lambda ends=ends: len(gate.storage.batches) == ends)  # type: ignore[misc]
        gate.storage.die()
        gate.turns()
        if ends == 2:
            gate.storage.answering = True
        gate.storage.bind()
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    assert [(batch.number, len(batch.operations)) for batch in gate.storage.batches] == [(1, 1), (1, 1), (1, 0)]
    assert "ended each time it was given this StoreMessages" in caplog.text
    other = gate.peer()
    other.send(send())
    assert other.response()[0] == 2103
    assert len(gate.storage.greetings) == 1


@pytest.mark.parametrize("deadly", range(6))
def test_of_a_run_that_ends_the_worker_the_one_message_is_given_up(gate: Gate, deadly: int) -> None:
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.deadly = b"%d" % deadly
    gate.storage.answering = False
    before = gate.peer()
    before.send(send(bytes(50_000)))
    gate.turn_until(lambda: bool(gate.storage.held))
    # What comes meanwhile is one run: of each connection two messages.
    peers = [gate.peer() for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.send(send(b"%d" % (2 * number)) + send(b"%d" % (2 * number + 1)))
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held.pop())
    assert before.response()[0] == 2103

    def over() -> bool:
        if gate.storage.socket is None:
            gate.storage.bind()
        for peer in peers:
            peer.read()
        return gate.link.idle

    gate.turn_until(over)
    gate.turns()
    stored = [operation.content for operation in gate.storage.operations[1:] if isinstance(operation, StoreMessage)]
    assert stored == [b"%d" % number for number in range(6) if number != deadly]
    for number, peer in enumerate(peers):
        assert peer.is_ended() == (number == deadly // 2)
        if not peer.ended:
            assert [peer.response()[0] for _ in range(2)] == [2103] * 2
            peer.send(send(b"later"))
            assert peer.response()[0] == 2103
    assert len(gate.storage.greetings) == 1


@pytest.mark.parametrize("garbage", [b"", b"x", b"\x01\x82" + bytes(18) + b"\xff\xff", b"\x09" * 40])
def test_garbage_of_the_worker_is_dropped(gate: Gate, garbage: bytes) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(send())
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.storage.say_raw(garbage)
    gate.turns()
    gate.storage.answer(gate.storage.held[0])
    assert peer.response()[0] == 2103


def test_an_outcome_of_the_wrong_kind_is_not_passed_on(gate: Gate) -> None:
    gate.storage.decide = lambda _: UsersPage(0, 1, 1, [])
    peer = gate.peer()
    peer.send(send())
    gate.turn_until(peer.is_ended)
    assert peer.received == b""


def test_too_much_in_flight_stops_reading_and_goes_on_later(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(total_in_flight=10_000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    first, second = gate.peer(), gate.peer()
    first.send(send(bytes(12_000)))
    gate.turn_until(lambda: bool(gate.storage.held))
    second.send(send())
    gate.turns()
    assert len(gate.storage.held) == 1
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    assert first.response()[0] == 2103
    assert second.response()[0] == 2103


def test_past_the_limit_connections_wait_for_a_place(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(connections=2))
    gate.turn_until(lambda: gate.link.facts is not None)
    peers = [gate.peer() for _ in range(3)]
    for peer in peers:
        peer.send(send())
    assert peers[0].response()[0] == peers[1].response()[0] == 2103
    gate.turns()
    peers[2].read()
    assert peers[2].received == b""
    peers[0].close()
    gate.turns()
    gate.pass_time(1)
    assert peers[2].response()[0] == 2103


def test_registered_and_refused_registrations(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Registered(ALICE) if isinstance(operation, Register) and operation.name == "alice" else Refused(10)
    )
    peer = gate.peer()
    for name, code in (("alice", 2100), ("bob", 9000)):
        peer.send(RegisterRequest(ClientId(bytes(16)), Username(name), KEY))
        assert peer.response()[0] == code


def test_tls_on_a_plain_port_is_one_line_and_a_refusal(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    hello = bytearray(ClientTls().to_send())
    # What stands at the place of a size is chance.
    for size in (b"\0\0\1\0", b"\xff\xff\xff\xff"):
        hello[19:23] = size
        caplog.clear()
        caplog.set_level("INFO")
        peer = gate.peer()
        peer.send(bytes(hello))
        assert peer.take(7) == ERROR
        assert caplog.messages == ["a TLS handshake arrived at a plain port; --tls-listen has a port of its own"]
        peer.close()


def test_an_id_that_looks_like_tls_is_none(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    caplog.clear()
    requester = ClientId(b"\x16\x03" + bytes(14))
    peer = gate.peer()
    peer.send(PublicKeyRequest(requester, BOB))
    assert peer.response()[0] == 2102
    peer.send(struct.pack("<16sBHI", requester, 2, 777, 0))
    assert peer.take(7) == ERROR
    assert not caplog.messages
