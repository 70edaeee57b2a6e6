"""Whatever comes between, what was sent under a token is answered as it was the first time."""

import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from common.storage_protocol.message_format import pack_frame_once
from common.storage_protocol.operations import (
    MarkAuthenticated,
    MessagesStored,
    Operation,
    Outcome,
    Refused,
    Register,
    Registered,
    SetBlock,
    Stored,
    StoreMessage,
    StoreMessagesOnce,
)
from common.values import RefusalReason
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS
from storage_worker.rules.admission import Limits
from tests.postgres import PostgresServer
from tests.storage_worker.rules.asking import after
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, SqliteWorker, pieces

KEPT = 8
"""Tokens of a sender, in place of 1,024."""
NOBODY = bytes(16)


class Sent(NamedTuple):
    """One message, as it is asked for."""

    sender: bytes
    token: bytes
    recipient: bytes
    kind: int
    content: bytes


class Use(NamedTuple):
    """A message that was accepted."""

    sent: Sent
    sequence: int
    at: int


class Believed:
    """What a server has to answer, and to hand out."""

    def __init__(self, blocked: tuple[bytes, bytes]) -> None:
        self.blocked = blocked
        self.uses: defaultdict[bytes, list[Use]] = defaultdict(list)
        self.mail: defaultdict[bytes, list[tuple[int, bytes, bytes]]] = defaultdict(list)
        self.highest = 0

    def hear(self, sent: Sent, outcome: Outcome, now_ms: int) -> None:
        """Compare an answer, and note what it says."""
        if sent.recipient == NOBODY:
            assert outcome == Refused(RefusalReason.RECIPIENT_UNKNOWN)
            return
        if sent.kind > 5:
            assert outcome == Refused(RefusalReason.MALFORMED)
            return
        known = [use for use in self.uses[sent.sender][-KEPT:] if use.sent.token == sent.token]
        if known and now_ms - known[-1].at <= TOKEN_LIFE_MS:
            same = known[-1].sent == sent
            assert outcome == (Stored(known[-1].sequence) if same else Refused(RefusalReason.TOKEN_REUSED))
            return
        assert isinstance(outcome, Stored)
        assert outcome.sequence > self.highest
        self.highest = outcome.sequence
        self.uses[sent.sender].append(Use(sent, outcome.sequence, now_ms))
        if (sent.recipient, sent.sender) != self.blocked:
            self.mail[sent.recipient].append((outcome.sequence, sent.token, sent.content))


def one_by_one(operation: Operation, outcome: Outcome, count: int) -> list[Outcome]:
    """The outcomes of the messages of an operation."""
    if not isinstance(operation, StoreMessagesOnce):
        return [outcome]
    assert isinstance(outcome, MessagesStored)
    others: dict[int, Outcome] = {one.index: Refused(one.reason, one.retry_after) for one in outcome.refused}
    assert not others.keys() & {one.index for one in outcome.repeated}
    others |= {one.index: Stored(one.sequence) for one in outcome.repeated}
    sequences = iter(range(outcome.first, outcome.first + count))
    return [others[index] if index in others else Stored(next(sequences)) for index in range(count)]


LIMITS = Limits(mailbox_messages=100_000)
Open = Callable[[int, int], SqliteWorker | PostgresWorker]


@pytest.fixture(params=[("sqlite", 2), ("sqlite", 100), ("postgres", 100)])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A worker of the same store, with a seed, at a time. Of so many senders it keeps marks."""
    engine, senders = request.param
    for module in ("paged", engine):
        monkeypatch.setattr(f"storage_worker.engine.{module}.send_tokens.TOKENS_PER_SENDER", KEPT)
    monkeypatch.setattr("storage_worker.engine.paged.send_tokens.SENDERS_KEPT", senders)
    if engine == "sqlite":
        return lambda seed, now_ms: SqliteWorker(tmp_path, limits=LIMITS, seed=seed, now_ms=now_ms)
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.empty_database()
    # Several turns go by while a flush is under way.
    return lambda seed, now_ms: PostgresWorker(url, limits=LIMITS, seed=seed, now_ms=now_ms, patience=3)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_between_a_token_is_answered_as_the_first_time(seed: int, opened: Open) -> None:
    chance = random.Random(seed)
    worker = opened(0, 1_000_000)
    gateway = Gateway(worker)
    users = list(gateway.register("alice", "bob", "carol"))
    gateway.ask(*[MarkAuthenticated(user) for user in users], SetBlock(users[0], True, users[1], True))
    believed = Believed((users[0], users[1]))
    earlier: list[Sent] = []

    def sent() -> Sent:
        if earlier and chance.random() < 0.5:
            again = chance.choice(earlier[-3 * KEPT :])
            if chance.random() < 0.8:
                return again
            return again._replace(recipient=chance.choice(users), content=chance.choice([again.content, b"other"]))
        token = chance.randbytes(16)
        recipient = chance.choice([*users, *users, NOBODY])
        new = Sent(chance.choice(users), token, recipient, chance.choice([2, 3, 4, 4, 9]), chance.randbytes(20))
        earlier.append(new)
        return new

    for step in range(120):
        match chance.randrange(12):
            case 0:
                worker.engine.log.flush(worker.now_ms)
            case 1:
                worker.kill() if chance.random() < 0.5 else worker.close()
                worker = opened((step + 1) * 10**6, worker.now_ms)
                gateway.worker = worker
                gateway = Gateway(worker, incarnation=os.urandom(16))
            case 2:
                worker.now_ms += chance.choice([3_600_000, 3_600_000, TOKEN_LIFE_MS // 2, TOKEN_LIFE_MS + 1])
            case _:
                asked: list[tuple[Operation, list[Sent]]] = []
                for _ in range(chance.randint(1, 3)):
                    run = [sent() for _ in range(chance.choice([1, 2, 5, 12]))]
                    frames = [pack_frame_once(*one) for one in run]
                    if chance.random() < 0.3:
                        one = run[0]
                        asked.append(
                            (StoreMessage(one.sender, True, one.recipient, one.kind, one.content, one.token), [one])
                        )
                    else:
                        asked.append((StoreMessagesOnce(True, b"".join(frames)), run))
                # What registers is a transaction of the tables.
                registers = [Register(f"user {step}", bytes(160))] * (chance.random() < 0.2)
                outcomes = gateway.ask(*[operation for operation, _ in asked], *registers)
                if chance.random() < 0.3:
                    if chance.random() < 0.5:
                        worker.kill()
                        worker = opened((step + 1) * 10**6, worker.now_ms)
                        gateway.worker = worker
                    assert gateway.resend() == outcomes
                if registers:
                    assert isinstance(outcomes.pop(), Registered)
                for (operation, run), outcome in zip(asked, outcomes, strict=True):
                    for one, its in zip(run, one_by_one(operation, outcome, len(run)), strict=True):
                        believed.hear(one, its, worker.now_ms)
    for user in users:
        mail = pieces(after(gateway, user, 0, page_bytes=2**30).page)
        assert [(piece.sequence, piece.token, piece.content) for piece in mail] == believed.mail[user]
    worker.kill()
