"""Mail of type 5 is for 643 alone: a 604 gets what lies between, all of it, and deletes nothing
else.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    MarkAuthenticated,
    PublishKeys,
    Pull,
    Pulled,
    Refused,
    Release,
    Settle,
    Stored,
    StoreMessage,
)
from storage_worker.engine.memory import Disk
from storage_worker.engine.values import Identity
from storage_worker.rules import sealed_mail
from tests.storage_worker.rules.asking import after, contents, fetch
from tests.storage_worker.worker_under_test import Gateway, MemoryWorker

END = 2**63 - 1
LARGE = 300_000


def with_keys(gateway: Gateway) -> bytes:
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice), PublishKeys(alice, True, False, b"bundle", b""))
    return alice


def put(gateway: Gateway, user: bytes, kinds: str) -> None:
    """Messages of these types, one digit each; their contents are their numbers."""
    for kind in kinds:
        number = gateway.worker.rules.highest + 1
        token = number.to_bytes(16, "big")
        message = StoreMessage(user, True, user, int(kind), b"%d" % number, token)
        assert gateway.one(message) == Stored(number)


def settle(gateway: Gateway, user: bytes, found: Pulled, lease: int) -> None:
    gateway.ask(Settle(lease, user, True, found.first, found.last))


def drain(gateway: Gateway, user: bytes) -> list[list[bytes]]:
    """What 604s get, one after the other, each of them settled, until one is empty."""
    all_found: list[list[bytes]] = []
    for lease in range(1, 100):
        found = fetch(gateway, user, lease, authenticated=True)
        if not found.count:
            return all_found
        all_found.append(contents(found.page))
        assert len(all_found[-1]) == found.count
        settle(gateway, user, found, lease)
    raise AssertionError("it never ended")


def test_a_604_ends_where_it_begins_and_the_next_one_goes_on_behind_it(gateway: Gateway) -> None:
    alice = with_keys(gateway)
    put(gateway, alice, "3553435")
    assert drain(gateway, alice) == [[b"1"], [b"4", b"5", b"6"]]
    assert contents(after(gateway, alice, 0).page) == [b"2", b"3", b"7"]
    put(gateway, alice, "35")
    assert drain(gateway, alice) == [[b"8"]]
    assert contents(after(gateway, alice, 0).page) == [b"2", b"3", b"7", b"9"]


def test_what_is_leased_is_passed(gateway: Gateway) -> None:
    alice = with_keys(gateway)
    put(gateway, alice, "535353")
    first, second, third, none = [fetch(gateway, alice, lease, authenticated=True) for lease in (1, 2, 3, 4)]
    assert [contents(one.page) for one in (first, second, third)] == [[b"2"], [b"4"], [b"6"]]
    assert none.count == 0
    # The same lease again is the same interval.
    assert fetch(gateway, alice, 2, authenticated=True) == second
    gateway.ask(Release(2))
    settle(gateway, alice, first, 1)
    assert contents(fetch(gateway, alice, 5, authenticated=True).page) == [b"4"]
    assert contents(after(gateway, alice, 0).page) == [b"1", b"3", b"4", b"5", b"6"]


def test_a_large_one_of_either_kind(gateway: Gateway) -> None:
    alice = with_keys(gateway)
    for number, kind in enumerate((5, 4, 5, 4), 1):
        gateway.ask(
            BeginUpload(number, alice, True, alice, kind, LARGE, bytes([number]) * 16),
            Chunk(number, bytes(LARGE)),
            CommitUpload(number),
        )
    for sequence in (2, 4):
        found = fetch(gateway, alice, sequence, authenticated=True)
        assert (found.first, found.last, found.count, found.content_bytes) == (sequence, sequence, 1, LARGE)
        settle(gateway, alice, found, sequence)
    assert fetch(gateway, alice, authenticated=True).count == 0


def test_a_look_is_bounded_and_the_next_one_goes_on(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_mail, "MOST_SKIPPED", 3 * 65)
    monkeypatch.setattr(sealed_mail, "MOST_HANDED_OUT", 2 * 65)
    alice = with_keys(gateway)
    put(gateway, alice, "5555555" + "333")
    found = [contents(fetch(gateway, alice, lease, authenticated=True).page) for lease in range(1, 6)]
    assert found == [[], [], [b"8", b"9"], [b"10"], []]


def test_what_a_failed_turn_brought_is_not_passed() -> None:
    worker = MemoryWorker(Disk(Identity(bytes(16), 1)))
    gateway = Gateway(worker)
    alice = with_keys(gateway)
    worker.disk.room = 0
    outcomes = gateway.ask(
        StoreMessage(alice, True, alice, 5, b"no room", bytes(16)), Pull(1, alice, True, 1000, 25, 1000)
    )
    assert [type(one) for one in outcomes] == [Refused, Pulled]
    worker.disk.room = 1000
    gateway.store(alice, alice, b"in its place", authenticated=True)
    assert contents(fetch(gateway, alice, 2, authenticated=True).page) == [b"in its place"]


def test_who_has_no_keys_gets_all_at_once(gateway: Gateway) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, *[b"x"] * 300)
    assert fetch(gateway, alice).count == 300


@settings(max_examples=60)
@given(
    st.text("35", min_size=1, max_size=30),
    st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=30),
)
def test_all_of_it_comes_and_nothing_else_goes(kinds: str, steps: list[tuple[bool, int]]) -> None:
    gateway = Gateway(MemoryWorker(Disk(Identity(bytes(16), 1))))
    alice = with_keys(gateway)
    put(gateway, alice, kinds)
    plain = [b"%d" % number for number, kind in enumerate(kinds, 1) if kind == "3"]
    taken: list[bytes] = []
    held: list[tuple[int, Pulled]] = []
    for lease, (settles, messages) in enumerate(steps, 1):
        found = fetch(gateway, alice, lease, max_bytes=messages * 30, authenticated=True)
        if found.count:
            held.append((lease, found))
        if held:
            number, oldest = held.pop(0)
            if settles:
                taken += contents(oldest.page)
                settle(gateway, alice, oldest, number)
            else:
                gateway.ask(Release(number))
    for number, _found in held:
        gateway.ask(Release(number))
    for run in drain(gateway, alice):
        taken += run
    assert sorted(taken, key=int) == plain
    left = after(gateway, alice, 0)
    assert contents(left.page) == [b"%d" % number for number, kind in enumerate(kinds, 1) if kind == "5"]
    assert contents(after(gateway, alice, END and left.last).page) == []
