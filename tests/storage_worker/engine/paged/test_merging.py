"""What several parts count by themselves, as one."""

from hashlib import sha256

from storage_worker.engine.paged.merging import PartDays, days_of, facts_of, slots_of, tokens_of
from storage_worker.engine.paged.moving import Row, StoreFacts
from storage_worker.engine.paged.send_tokens import TOKENS_PER_SENDER

SERVER = b"s" * 16


def token(number: int) -> bytes:
    return number.to_bytes(16, "big")


def use(sequence: int, sender: int, of: int, at: int) -> Row:
    return (sequence, sender, token(of), 1, 3, sha256(b"").digest(), at)


def test_facts_are_above_those_of_every_part() -> None:
    parts = [StoreFacts(SERVER, 77, 3, 10, 4, 8, True), StoreFacts(SERVER, 5, 9, 25, 2, 20, True)]
    assert facts_of(parts, 30) == StoreFacts(SERVER, 77, 9, 30, 6, 28, True)
    assert facts_of(parts, 0).sequence == 25
    assert facts_of(parts[:1], 10) == parts[0]


def test_nothing_expires_earlier_than_in_its_part() -> None:
    busy = PartDays([(10, 0), (11, 5_000), (13, 9_000)], 9_500)
    quiet = PartDays([(11, 0), (12, 3), (14, 4)], 4)
    nobody = PartDays([], 0)
    # Of day 10 the quiet one knows nothing. What it gave on day 12 has sequence 4, which the busy
    # one gave on day 10.
    assert days_of([busy, quiet, nobody]) == [(11, 0), (12, 3), (13, 4), (14, 4)]
    assert days_of([busy]) == busy.rows
    assert days_of([busy, PartDays([], 7)]) == []
    assert days_of([nobody]) == []


def test_no_gateway_goes_on_where_it_was() -> None:
    first = (0, 4, b"a" * 16, b"b" * 16, 9, b"outcomes", b"before")
    second = (0, 7, b"c" * 16, b"", 2, None, None)
    other = (3, 1, b"d" * 16, b"", 1, b"outcomes", None)
    assert slots_of([first, other, second]) == [
        (0, 8, bytes(16), b"a" * 16 + b"c" * 16, 0, None, None),
        (3, 2, bytes(16), b"d" * 16, 0, None, None),
    ]


def test_tokens_are_in_the_order_of_time_and_of_their_part() -> None:
    # The clock of the first one went back between its second and its third.
    first = [use(100, 1, 1, 50), use(200, 1, 2, 90), use(300, 1, 3, 60), use(5, 2, 9, 1)]
    second = [use(7, 1, 4, 55), use(8, 1, 5, 95)]
    assert [(row[1], row[0]) for row in tokens_of([first, second])] == [
        (1, 100), (1, 7), (1, 200), (1, 300), (1, 8), (2, 5)
    ]  # fmt: skip


def test_of_a_token_of_two_parts_the_later_use_is_known() -> None:
    assert list(tokens_of([[use(4, 1, 1, 20)], [use(4, 1, 1, 10), use(5, 1, 2, 15)]])) == [
        use(5, 1, 2, 15),
        use(4, 1, 1, 20),
    ]


def test_a_sender_has_the_newest_of_all_parts() -> None:
    parts = [[use(n, 1, 2 * n + odd, 2 * n + odd) for n in range(1, 801)] for odd in (0, 1)]
    assert [row[6] for row in tokens_of(parts)] == list(range(1602 - TOKENS_PER_SENDER, 1602))
