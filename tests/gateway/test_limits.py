"""Limits against a token bucket with exact numbers, their memory, and who shares what with whom."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol.requests import SendRequest, encode
from common.client_protocol.server_connection import PipelinedSends
from common.storage_protocol.operations import Refused
from common.values import ClientId, RefusalReason, Token
from gateway.limits import Allowance, Limits, RateLimiter, RefusedRequests
from gateway.settings import Rate, Settings

ALICE, BOB = ClientId(b"a" * 16), ClientId(b"b" * 16)
KEY = b"key"
HERE, THERE = "192.0.2.7", "198.51.100.9"
DEFAULTS = Settings()
RATES = [DEFAULTS.limit_handshakes, DEFAULTS.limit_registrations, DEFAULTS.limit_messages, DEFAULTS.limit_bytes]


class TokenBucket:
    """The naive form: what is free, and when that was. What is larger than the burst leaves it in
    debt.
    """

    def __init__(self, rate: Rate, now: Fraction) -> None:
        self.rate = Fraction(rate.amount, rate.seconds)
        self.burst = Fraction(rate.burst)
        self.free = self.burst
        self.at = now

    def pass_time(self, now: Fraction) -> None:
        self.free = min(self.burst, self.free + (now - self.at) * self.rate)
        self.at = now

    def take(self, amount: int, now: Fraction) -> Fraction:
        self.pass_time(now)
        wait = max(Fraction(0), (min(Fraction(amount), self.burst) - self.free) / self.rate)
        if not wait:
            self.free -= amount
        return wait


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rate, list[tuple[int, int]]]:
    """A rate, and steps: eighths of a second that pass, and what is asked for then."""
    rate = draw(st.sampled_from([*RATES, Rate(1, 1, 1), Rate(3, 4, 1)]))
    steps = st.tuples(st.integers(0, 800), st.integers(1, rate.burst * 3))
    near = st.tuples(st.integers(0, 4), st.integers(1, max(1, rate.burst // 4)))
    return rate, draw(st.lists(st.one_of(steps, near), max_size=60))


@given(histories())
def test_a_rate_is_a_token_bucket(history: tuple[Rate, list[tuple[int, int]]]) -> None:
    rate, steps = history
    # Eighths, and intervals that are powers of two or whole: floats are exact.
    eighths = 8_000
    limiter, bucket = RateLimiter(rate, 10), TokenBucket(rate, Fraction(eighths, 8))
    for passed, amount in steps:
        eighths += passed
        exact = Fraction(eighths, 8)
        bucket.pass_time(exact)
        assert limiter.available(KEY, eighths / 8) == max(0, bucket.free // 1)
        assert limiter.take(KEY, amount, eighths / 8) == bucket.take(amount, exact)


@given(histories())
def test_after_the_time_that_was_told_it_passes_and_no_sooner(history: tuple[Rate, list[tuple[int, int]]]) -> None:
    rate, steps = history
    now = 1000.0
    limiter = RateLimiter(rate, 10)
    for passed, amount in steps:
        now += passed / 8
        wait = limiter.take(KEY, amount, now)
        if wait:
            assert limiter.wait(KEY, amount, now + wait / 2) > 0
            now += wait
            assert limiter.take(KEY, amount, now) == 0


@given(histories())
def test_all_of_an_amount_passes_where_so_much_is_available_and_otherwise_nothing(
    history: tuple[Rate, list[tuple[int, int]]],
) -> None:
    rate, steps = history
    eighths = 8_000
    limiter, bucket = RateLimiter(rate, 10), TokenBucket(rate, Fraction(eighths, 8))
    for passed, amount in steps:
        eighths += passed
        bucket.pass_time(Fraction(eighths, 8))
        passes = amount <= bucket.free
        assert limiter.take_all(KEY, amount, eighths / 8) == passes
        if passes:
            bucket.free -= amount
        assert limiter.available(KEY, eighths / 8) == max(0, bucket.free // 1)


@pytest.mark.parametrize("rate", RATES)
def test_the_burst_passes_at_once_and_then_the_rate(rate: Rate) -> None:
    limiter = RateLimiter(rate, 10)
    assert limiter.available(KEY, 50.0) == rate.burst
    assert limiter.take(KEY, rate.burst, 50.0) == 0
    assert limiter.take(KEY, rate.amount, 50.0) == rate.seconds
    assert limiter.take(KEY, rate.amount, 50.0 + rate.seconds) == 0
    assert limiter.take(b"other", rate.burst, 50.0) == 0


def test_the_numbers_of_the_documents() -> None:
    assert [Rate(10, 1, 1), Rate(6, 1, 30), Rate(60, 1, 1), Rate(128 << 20, 2 << 20, 1)] == RATES


def test_more_than_the_burst_passes_once_and_is_owed() -> None:
    limiter = RateLimiter(DEFAULTS.limit_bytes, 10)
    assert limiter.take(KEY, 1 << 30, 0.0) == 0
    assert limiter.take(KEY, 1, 0.0) > 1024 / 2 - 64
    assert limiter.take(KEY, 1 << 30, 511.0) == 1.0
    assert limiter.take(KEY, 1 << 30, 512.0) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=300))
def test_memory_is_bounded_and_what_is_full_again_goes_first(steps: list[tuple[int, int]]) -> None:
    limiter, now = RateLimiter(Rate(5, 1, 1), 16), 0.0
    for key, passed in steps:
        now += passed
        limiter.take(bytes([key]), 1, now)
        assert len(limiter) <= 16


def test_keys_that_are_full_again_are_forgotten_as_others_come() -> None:
    limiter = RateLimiter(Rate(60, 1, 1), 100_000)
    limiter.take(b"in debt", 60, 0.0)
    for number in range(1000):
        limiter.take(number.to_bytes(2, "big"), 1, 0.0)
    for number in range(1000):
        limiter.take((5000 + number).to_bytes(2, "big"), 1, 10.0)
    assert len(limiter) <= 1001
    assert limiter.wait(b"in debt", 60, 10.0) == 50.0, "it did not go with the others"


def test_where_none_is_full_the_oldest_key_goes() -> None:
    limiter = RateLimiter(Rate(60, 1, 1), 100)
    for number in range(1000):
        assert limiter.take(number.to_bytes(2, "big"), 60, 0.0) == 0
    assert len(limiter) == 100
    newest = (999).to_bytes(2, "big")
    assert limiter.take(newest, 1, 0.0) == 1.0


def limits(**changes: object) -> Limits:
    return Limits(DEFAULTS._replace(**changes), b"s" * 32)  # type: ignore[arg-type]


def connected(limits: Limits, network: str = HERE, now: float = 0.0) -> Allowance:
    allowance = limits.connected(network, now, with_handshake=False)
    assert allowance is not None
    return allowance


def run(*sizes: int) -> PipelinedSends:
    frames = [encode(SendRequest(ALICE, BOB, 3, bytes(size))) for size in sizes]
    return PipelinedSends(ALICE, [BOB] * len(sizes), b"".join(frames))


def too_fast(seconds: int) -> Refused:
    return Refused(RefusalReason.TOO_FAST, seconds)


def test_an_address_has_so_many_connections_at_a_time() -> None:
    mine = limits(limit_connections=2)
    first = connected(mine)
    connected(mine)
    assert mine.connected(HERE, 0.0, with_handshake=False) is None
    connected(mine, THERE)
    first.ended()
    connected(mine)
    assert mine.connected(HERE, 0.0, with_handshake=False) is None


def test_handshakes_of_an_address() -> None:
    mine = limits()
    for _ in range(10):
        assert mine.connected(HERE, 0.0, with_handshake=True) is not None
    assert mine.connected(HERE, 0.9, with_handshake=True) is None
    assert mine.connected(THERE, 0.9, with_handshake=True) is not None
    assert mine.connected(HERE, 0.9, with_handshake=False) is not None
    assert mine.connected(HERE, 1.0, with_handshake=True) is not None


def test_registrations_count_for_the_address() -> None:
    mine = limits()
    one, other = connected(mine), connected(mine)
    assert [one.register(0.0) for _ in range(3)] + [other.register(0.0) for _ in range(3)] == [None] * 6
    assert one.register(0.0) == other.register(0.0) == too_fast(30)
    assert connected(mine, THERE).register(0.0) is None
    assert one.register(29.5) == too_fast(1)
    assert one.register(30.0) is None


def test_messages_count_for_the_user_on_whatever_connection() -> None:
    mine = limits()
    here, there = connected(mine), connected(mine, THERE)
    assert [here.send(ALICE, 0.0) for _ in range(60)] == [None] * 60
    assert here.send(ALICE, 0.0) == there.send(ALICE, 0.5) == too_fast(1)
    assert there.send(BOB, 0.5) is None
    assert there.send(ALICE, 1.0) is None


def test_without_a_proof_messages_count_for_the_address() -> None:
    mine = limits()
    here, beside = connected(mine), connected(mine)
    for _ in range(30):
        assert here.send(None, 0.0) is None
        assert beside.send(None, 0.0) is None
    assert here.send(None, 0.0) == too_fast(1)
    assert here.send(ALICE, 0.0) is None, "nobody else can use up what a user has"
    assert connected(mine, THERE).send(None, 0.0) is None


def test_what_is_refused_for_its_bytes_counts_as_no_message() -> None:
    one = connected(limits(limit_bytes=Rate(1000, 100, 1)))
    assert one.upload(ALICE, 900, 0.0) is None
    assert [one.upload(ALICE, 200, 0.0) for _ in range(100)] == [too_fast(1)] * 100
    assert one.upload(ALICE, 600, 0.0) == too_fast(5)
    assert one.upload(ALICE, 100, 0.0) is None


def test_an_upload_counts_as_a_message_and_is_charged_nothing_where_it_is_one_too_many() -> None:
    one = connected(limits(limit_messages=Rate(2, 1, 8)))
    assert one.upload(ALICE, 1 << 20, 0.0) is None
    assert one.send(ALICE, 0.0) is None
    assert [one.upload(ALICE, 100 << 20, 0.0) for _ in range(5)] == [too_fast(8)] * 5
    assert one.upload(ALICE, 127 << 20, 8.0) is None


def test_a_time_that_an_answer_has_no_room_for_is_cut() -> None:
    one = connected(limits(limit_bytes=Rate(1, 1, 100_000)))
    assert one.upload(ALICE, 1 << 30, 0.0) is None
    assert one.upload(ALICE, 1 << 30, 0.0) == too_fast(0xFFFFFFFF)


def test_a_short_message_passes_behind_a_large_content() -> None:
    one = connected(limits())
    assert one.upload(ALICE, 1 << 30, 0.0) is None
    assert one.upload(ALICE, 70_000, 0.0) == too_fast(449)
    assert one.send(ALICE, 0.0) is None


def test_of_a_run_the_first_ones_pass() -> None:
    one = connected(limits())
    whole = run(*[5] * 64)
    passing, beyond = one.divide(ALICE, whole, 0.0)
    assert passing == run(*[5] * 60)
    assert beyond == RefusedRequests(4, too_fast(1))
    assert one.divide(ALICE, whole, 0.5) == (run(), RefusedRequests(64, too_fast(1)))
    assert one.divide(ALICE, whole, 2.0) == (run(5, 5), RefusedRequests(62, too_fast(1)))
    assert one.divide(None, run(5, 6), 2.0) == (run(5, 6), None)


def test_a_run_of_642s_is_divided_at_a_message() -> None:
    frames = [encode(SendRequest(ALICE, BOB, 3, bytes(n), Token(bytes([n]) * 16))) for n in range(64)]
    whole = PipelinedSends(ALICE, [BOB] * 64, b"".join(frames), once=True)
    passing, beyond = connected(limits()).divide(ALICE, whole, 0.0)
    assert passing == PipelinedSends(ALICE, [BOB] * 60, b"".join(frames[:60]), once=True)
    assert beyond == RefusedRequests(4, too_fast(1))


@given(
    st.lists(
        st.tuples(st.integers(0, 80), st.lists(st.integers(0, 9), min_size=1, max_size=64)), min_size=1, max_size=20
    )
)
def test_a_run_passes_as_its_messages_would_one_by_one(steps: list[tuple[int, list[int]]]) -> None:
    in_runs, one_by_one = (connected(limits(limit_messages=Rate(16, 4, 1))) for _ in range(2))
    now = 0.0
    for eighths, sizes in steps:
        now += eighths / 8
        passing, beyond = in_runs.divide(ALICE, run(*sizes), now)
        single = [one_by_one.send(ALICE, now) for _ in sizes]
        count = single.count(None)
        assert passing == run(*sizes[:count])
        assert single[count:] == ([] if beyond is None else [beyond.refused] * beyond.number)


def test_one_time_keys_of_one_user_are_for_many() -> None:
    settings = Settings(limit_claims=Rate(100, 1, 1), limit_claimed=Rate(5, 1, 60), limit_claims_of_pair=Rate(2, 1, 60))
    limits = Limits(settings, bytes(32))
    allowance = limits.connected(HERE, 0.0, with_handshake=False)
    assert allowance is not None
    others = [bytes([number]) * 16 for number in range(10)]
    given = [(other, allowance.claim(other, BOB, 0.0)) for other in others for _ in range(3)]
    # Two each, until five are given; what is refused is not charged.
    assert [other[0] for other, is_given in given if is_given] == [0, 0, 1, 1, 2]
    assert allowance.claim(others[2], ALICE, 0.0)
    assert [allowance.claim(others[2], BOB, now) for now in (59.0, 60.0, 60.0)] == [False, True, False]
    assert [allowance.claim(others[0], BOB, now) for now in (60.0, 120.0)] == [False, True]
