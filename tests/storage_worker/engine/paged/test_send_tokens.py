"""Tokens of senders: how many and how long, in memory, in the table, and in both at once."""

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.storage_protocol.message_format import pack_frame_once
from storage_worker.engine.paged import send_tokens
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER, USE, Marks
from storage_worker.engine.records import MailRemoved, MessagesAcceptedOnce, TokenUsed
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.send_tokens import SentTokens, read_all
from storage_worker.engine.values import User

ALICE, BOB = 1, 2
NOW = 1_700_000_000_000


class Nobody:
    """A `Registry` without users."""

    def __init__(self) -> None:
        self.known: dict[bytes, User] = {}

    def find(self, client_id: bytes) -> User | None:
        return None

    def row_of(self, client_id: bytes) -> int:
        return int.from_bytes(client_id, "big")


NOBODY = Nobody()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "mail.db")
    yield opened
    opened.close()


@pytest.fixture
def tokens(database: Database) -> SentTokens:
    return SentTokens(database, NOBODY)


def used(sequence: int, sender: int = ALICE, at: int = NOW, token: bytes | None = None) -> TokenUsed:
    return TokenUsed(sequence, sender, token or sequence.to_bytes(16, "big"), BOB, 3, b"d" * 32, at)


def token(sequence: int) -> bytes:
    return used(sequence).token


def write(database: Database, tokens: SentTokens, now: int = NOW) -> None:
    with database.reading():
        tokens.look_through(now)
    with database.transaction():
        tokens.write(now)
    tokens.written()


def in_table(database: Database, sender: int = ALICE) -> list[int]:
    pages = database.execute("SELECT uses FROM token_page WHERE sender = ? ORDER BY last", (sender,))
    return [sequence for (uses,) in pages for sequence, *_rest in USE.iter_unpack(uses)]


def test_nothing_is_known_at_first(tokens: SentTokens) -> None:
    assert tokens.find(ALICE, token(1), NOW) is None


@pytest.mark.parametrize("written", [False, True])
def test_what_was_used_is_found_whole_and_by_its_sender_alone(
    database: Database, tokens: SentTokens, written: bool
) -> None:
    tokens.add(used(7))
    if written:
        write(database, tokens)
    assert tokens.find(ALICE, token(7), NOW) == used(7)
    assert tokens.find(BOB, token(7), NOW) is None
    assert tokens.find(ALICE, token(8), NOW) is None
    assert in_table(database) == ([7] if written else [])


@pytest.mark.parametrize("written", [False, True])
def test_seven_days_and_no_longer(database: Database, tokens: SentTokens, written: bool) -> None:
    tokens.add(used(1))
    if written:
        write(database, tokens)
    assert tokens.find(ALICE, token(1), NOW + TOKEN_LIFE_MS) == used(1)
    assert tokens.find(ALICE, token(1), NOW + TOKEN_LIFE_MS + 1) is None


@pytest.mark.parametrize("written", [0, 1, TOKENS_PER_SENDER // 2, TOKENS_PER_SENDER, TOKENS_PER_SENDER + 1])
def test_the_newest_of_a_sender_wherever_they_are(database: Database, tokens: SentTokens, written: int) -> None:
    """The first `written` are in the table, the others in memory: 1 is the one too many."""
    tokens.add(used(TOKENS_PER_SENDER + 2, BOB))
    for sequence in range(1, TOKENS_PER_SENDER + 2):
        tokens.add(used(sequence))
        if sequence == written:
            write(database, tokens)
    assert tokens.find(ALICE, token(1), NOW) is None
    assert tokens.find(ALICE, token(2), NOW) == used(2)
    assert tokens.find(ALICE, token(TOKENS_PER_SENDER + 1), NOW) == used(TOKENS_PER_SENDER + 1)
    assert tokens.find(BOB, token(TOKENS_PER_SENDER + 2), NOW) == used(TOKENS_PER_SENDER + 2, BOB)


def test_the_table_keeps_the_newest_of_each_sender(database: Database, tokens: SentTokens) -> None:
    for sequence in range(1, TOKENS_PER_SENDER + 4):
        tokens.add(used(sequence))
    tokens.add(used(2000, BOB))
    write(database, tokens)
    assert in_table(database) == list(range(4, TOKENS_PER_SENDER + 4))
    assert in_table(database, BOB) == [2000]


def test_pages_go_when_there_are_enough_newer_tokens(database: Database, tokens: SentTokens) -> None:
    half = TOKENS_PER_SENDER // 2
    for sequence in range(1, 2 * half + 2):
        tokens.add(used(sequence))
        if sequence in (half, 2 * half - 1, 2 * half + 1):
            write(database, tokens)
    assert in_table(database)[0] == 1, "of the first page the last one is among the newest"
    assert tokens.find(ALICE, token(1), NOW) is None
    assert tokens.find(ALICE, token(2), NOW) == used(2)
    tokens.add(used(3000))
    write(database, tokens)
    for sequence in range(4000, 4000 + half - 2):
        tokens.add(used(sequence))
    write(database, tokens)
    assert in_table(database)[0] == half + 1
    tokens.add(used(9000, BOB))
    write(database, tokens)
    assert in_table(database)[0] == half + 1, "another sender's do not count"


def pages_in_table(database: Database, sender: int = ALICE) -> int:
    count: int = database.row("SELECT count(*) FROM token_page WHERE sender = ?", (sender,))[0]
    return count


@pytest.mark.parametrize("at_a_time", [[1], [31], [1] * 31 + [32], [1, 500]])
def test_a_sender_of_few_messages_at_a_time_has_few_pages(
    database: Database, tokens: SentTokens, at_a_time: list[int]
) -> None:
    """Or to look a token up would be a look into a thousand pages."""
    sequence = 0
    for step in range(320):
        if sequence >= 2 * TOKENS_PER_SENDER:
            break
        for _ in range(at_a_time[step % len(at_a_time)]):
            sequence += 1
            tokens.add(used(sequence))
        write(database, tokens)
        assert pages_in_table(database) <= 66
    kept = in_table(database)
    assert kept == list(range(kept[0], sequence + 1))
    for known in (tokens, SentTokens(database, NOBODY)):
        oldest = max(1, sequence - TOKENS_PER_SENDER + 1)
        for number in (oldest, (oldest + sequence) // 2, sequence):
            assert known.find(ALICE, token(number), NOW) == used(number)
        assert known.find(ALICE, token(oldest - 1), NOW) is None


def test_what_is_joined_is_without_what_is_over(database: Database, tokens: SentTokens) -> None:
    tokens.add(used(1))
    tokens.add(used(2))
    tokens.add(used(3, at=NOW + 1))
    write(database, tokens)
    later = NOW + TOKEN_LIFE_MS + 1
    # The first is used again, in a page that is joined, and the third in the page that it becomes.
    tokens.add(used(4, at=later, token=token(1)))
    write(database, tokens, NOW)
    for sequence in range(5, 34):
        tokens.add(used(sequence, at=later))
        write(database, tokens, NOW)
    assert pages_in_table(database) == 31
    tokens.add(used(34, at=later + 1, token=token(3)))
    write(database, tokens, later + 1)
    assert pages_in_table(database) == 1
    assert in_table(database) == list(range(4, 35))
    assert tokens.look(ALICE, token(1), later) == used(4, at=later, token=token(1))
    assert tokens.look(ALICE, token(3), later) == used(34, at=later + 1, token=token(3))


def test_few_senders_are_joined_at_a_time(database: Database, tokens: SentTokens) -> None:
    """Who all began together would else hold everybody up at once."""
    for step in range(32):
        for sender in range(100):
            tokens.add(used(step * 100 + sender, sender))
        write(database, tokens)
    joined = [sender for sender in range(100) if pages_in_table(database, sender) == 1]
    assert len(joined) == 64 + 100 // 16
    for sender in range(100):
        tokens.add(used(5000 + sender, sender))
    write(database, tokens)
    assert all(pages_in_table(database, sender) <= 2 for sender in range(100))
    assert tokens.look(99, token(99), NOW) == used(99, 99)


def test_what_was_to_be_joined_is_not_where_the_transaction_was_undone(database: Database, tokens: SentTokens) -> None:
    for sequence in range(1, 33):
        tokens.add(used(sequence))
        if sequence < 32:
            write(database, tokens)
    tokens.look_through(NOW)
    tokens.forget()
    # The sender was deleted since.
    with database.transaction():
        database.execute("DELETE FROM token_page")
    tokens.add(used(40))
    with database.transaction():
        tokens.write(NOW)
    assert in_table(database) == [40]


def test_a_token_is_found_where_it_begins(database: Database, tokens: SentTokens) -> None:
    """Not where two lie one behind the other."""
    first, second = b"\1" * 8 + b"\2" * 8, b"\3" * 8 + b"\1" * 8
    tokens.add(used(1, token=first))
    tokens.add(used(2, token=second))
    write(database, tokens)
    assert tokens.look(ALICE, b"\2" * 8 + b"\3" * 8, NOW) is None
    assert tokens.look(ALICE, second, NOW) == used(2, token=second)


def test_all_that_is_kept_is_read_once(database: Database, tokens: SentTokens) -> None:
    """Of a token that was used again the last use, and the newest alone."""
    for sequence in range(1, 2 * TOKENS_PER_SENDER):
        tokens.add(used(sequence))
        if sequence % 1000 == 0:
            write(database, tokens)
    tokens.add(used(5000, token=token(1)))
    tokens.add(used(5001, BOB))
    write(database, tokens)
    assert token(1) in [one.token for one in read_all(database)]
    found = [(one.sender, one.sequence) for one in read_all(database)]
    assert found == [(ALICE, number) for number in [*range(1025, 2048), 5000]] + [(BOB, 5001)]


def test_expired_pages_go_a_bounded_number_at_a_time(database: Database, tokens: SentTokens) -> None:
    """64, and as many more as were written: so it never falls behind."""
    for sequence in range(1, 101):
        tokens.add(used(sequence, 1000 + sequence))
    write(database, tokens)
    later = NOW + TOKEN_LIFE_MS + 1
    tokens.add(used(200, ALICE, later))
    write(database, tokens, later)
    assert [one.sequence for one in read_all(database)] == [200, *range(66, 101)]
    tokens.add(used(201, ALICE, later))
    write(database, tokens, later)
    assert [one.sequence for one in read_all(database)] == [200, 201]


def test_nothing_new_clears_nothing(database: Database, tokens: SentTokens) -> None:
    tokens.add(used(1))
    write(database, tokens)
    write(database, tokens, NOW + TOKEN_LIFE_MS + 1)
    assert in_table(database) == [1]


def test_a_token_whose_time_was_over_is_used_again(database: Database, tokens: SentTokens) -> None:
    tokens.add(used(1))
    write(database, tokens)
    later = NOW + TOKEN_LIFE_MS + 1
    again = used(9, ALICE, later, token(1))
    tokens.add(again)
    write(database, tokens, later)
    assert tokens.find(ALICE, token(1), later) == again
    assert in_table(database) == [9]


def test_what_is_forgotten_is_as_the_database_is(database: Database, tokens: SentTokens) -> None:
    tokens.add(used(1))
    write(database, tokens)
    tokens.add(used(2))
    tokens.forget()
    assert tokens.find(ALICE, token(1), NOW) == used(1)
    assert tokens.find(ALICE, token(2), NOW) is None


def test_a_record_of_the_journal_is_done_again_where_it_is_a_token(tokens: SentTokens) -> None:
    tokens.replay(MailRemoved(ALICE, 1, 2))
    tokens.replay(used(3))
    assert tokens.find(ALICE, token(3), NOW) == used(3)


def test_a_run_of_the_journal_is_done_again(tokens: SentTokens) -> None:
    """Two of Alice's, of which one was refused, one of a stranger's, and one of Bob's."""
    names = [bytes(15) + bytes([row]) for row in (ALICE, ALICE, 7, BOB)]
    frames = [
        pack_frame_once(name, token(number), bytes(15) + b"\5", 3, b"%d" % number) for number, name in enumerate(names)
    ]
    tokens.replay(MessagesAcceptedOnce(10, NOW, b"".join(frames), [ALICE, 0, BOB], [0, 2]))
    assert tokens.find(ALICE, token(0), NOW) is None
    digests = [sha256(b"%d" % number).digest() for number in range(4)]
    assert tokens.find(ALICE, token(1), NOW) == TokenUsed(10, ALICE, token(1), 5, 3, digests[1], NOW)
    assert tokens.find(BOB, token(3), NOW) == TokenUsed(11, BOB, token(3), 5, 3, digests[3], NOW)


# --- what the table may have
# ----------------------------------------------------------------------------------------------


def watched(database: Database) -> list[str]:
    """The statements that are run from now on."""
    statements: list[str] = []
    database.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    return statements


def test_a_sender_of_many_new_tokens_costs_no_look_for_each(database: Database, tokens: SentTokens) -> None:
    statements = watched(database)
    for sequence in range(1, 101):
        # It does not matter which they are.
        fresh = sequence.to_bytes(16, random.choice(("little", "big")))
        assert tokens.find(ALICE, fresh, NOW) is None
        tokens.add(used(sequence, token=fresh))
    assert len(statements) <= 10, "one at first, one for all that the table has, and a few whose bits are shared"


def test_whoever_sends_once_has_one_token_looked_up(database: Database, tokens: SentTokens) -> None:
    statements = watched(database)
    for sender in range(50):
        assert tokens.find(sender, os.urandom(16), NOW) is None
    assert len(statements) == 50
    assert all("names" in sql for sql in statements)


def test_whoever_repeats_many_has_all_that_there_is_read_once(database: Database, tokens: SentTokens) -> None:
    for sequence in range(1, 31):
        tokens.add(used(sequence))
        write(database, tokens)
    statements = watched(database)
    for _ in range(3):
        for sequence in range(1, 31):
            assert tokens.find(ALICE, token(sequence), NOW) == used(sequence)
    assert sum("names" in sql for sql in statements) == 1
    tokens.add(used(40))
    write(database, tokens)
    assert tokens.find(ALICE, token(40), NOW) == used(40)


@pytest.mark.parametrize("kept", [1, TOKENS_PER_SENDER, 5 * TOKENS_PER_SENDER])
def test_marks_have_the_newest_and_do_not_fill_up(database: Database, tokens: SentTokens, kept: int) -> None:
    marks = Marks()
    for sequence in range(kept):
        marks.note(token(sequence))
        marks.count(1)
    assert all(marks.has(token(sequence)) for sequence in range(max(0, kept - TOKENS_PER_SENDER), kept))
    assert sum(marks.has(os.urandom(16)) for _ in range(1000)) < 150


def test_what_was_taken_is_found_until_the_table_has_it(database: Database, tokens: SentTokens) -> None:
    """As an engine does that writes while turns go on."""
    for sequence in range(1, TOKENS_PER_SENDER + 1):
        tokens.add(used(sequence))
    assert len(tokens.take()[ALICE]) == TOKENS_PER_SENDER
    assert tokens.find(ALICE, token(1), NOW) == used(1)
    tokens.add(used(5000))
    assert tokens.find(ALICE, token(1), NOW) is None
    assert tokens.find(ALICE, token(2), NOW) == used(2)
    # The transaction was undone: it is taken again, with what came since.
    assert list(tokens.take()[ALICE])[-2:] == [token(TOKENS_PER_SENDER), token(5000)]
    tokens.written()
    assert tokens.take() == {}


@settings(max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 4), st.integers(0, 9)),
            st.tuples(st.just("write"), st.just(0), st.just(0)),
            st.tuples(st.just("forget"), st.just(0), st.just(0)),
            st.tuples(st.just("undo"), st.just(0), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_what_is_found_does_not_depend_on_what_is_remembered(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    """Senders come and go, of whom two are remembered, beside one that looks everything up."""
    database = Database(tmp_path_factory.mktemp("store") / "mail.db", synchronous="OFF")
    model: dict[tuple[int, bytes], TokenUsed] = {}
    written: dict[tuple[int, bytes], TokenUsed] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(send_tokens, "SENDERS_KEPT", 2)
        tokens = SentTokens(database, NOBODY)
        for sequence, (step, sender, number) in enumerate(steps, start=1):
            name = number.to_bytes(1, "big") * 16
            match step:
                case "send":
                    assert tokens.find(sender, name, NOW) == model.get((sender, name))
                    if (sender, name) not in model:
                        model[sender, name] = used(sequence, sender, token=name)
                        tokens.add(model[sender, name])
                case "write":
                    write(database, tokens)
                    written = dict(model)
                case "forget":
                    tokens.forget()
                    model = dict(written)
                case _:
                    with suppress(ZeroDivisionError), database.transaction():
                        tokens.write(NOW)
                        raise ZeroDivisionError
                    tokens.forget()
                    model = dict(written)
        for sender in range(1, 5):
            for number in range(10):
                name = number.to_bytes(1, "big") * 16
                assert tokens.find(sender, name, NOW) == model.get((sender, name))
    database.abandon()
