"""What the storage worker answers an operator, between two turns.

Owns: which request does what. Promises: numbers are those of the last turn that was committed.
Every request gets exactly one answer: one that can't be decoded, or fails unexpectedly, gets a
refusal. Each takes a bounded part of the loop's time.
Exposure: whoever may enter the link's folder. Answers have names and ids, and no content or key.

Source: docs/storage-protocol.md, "Administration".
"""

import logging
from pathlib import Path
from typing import Final, assert_never

from common.errors import FrameUndecodable
from common.rare_log import RareLog
from common.storage_protocol.administration import (
    Account,
    Accounts,
    AdminAnswer,
    AdminRequest,
    Backup,
    BeginBackup,
    DrainServer,
    Expire,
    Expiry,
    GetBackup,
    GetExpiry,
    GetMailboxes,
    GetTotals,
    ListAccounts,
    Mailboxes,
    NotDone,
    Obeyed,
    Pending,
    SetDisabled,
    SetLogLevel,
    Totals,
    UsersChanged,
    decode_request,
)
from common.storage_protocol.frames import Drain, LogLevel, Order
from storage_worker.engine.interface import Engine
from storage_worker.rules.rules import Rules
from storage_worker.server.own_turn import own_turn

log = logging.getLogger("storage_worker")
rarely: Final = RareLog(log)

ACCOUNTS_AT_ONCE: Final = 200
"""Users in one answer: their mailboxes are looked up one by one, for which everybody waits."""


class Administration:
    """Answers for `engine` and what `rules` have in memory."""

    def __init__(self, engine: Engine, rules: Rules) -> None:
        self._engine = engine
        self._rules = rules
        self._orders: list[Order] = []

    def take_orders(self) -> list[Order]:
        """The orders for gateways since the last call."""
        orders, self._orders = self._orders, []
        return orders

    def answer(self, frame: bytes, now_ms: int) -> AdminAnswer:
        """Answer a frame, outside of a turn. `now_ms`: Unix milliseconds. Raises `StoreFailed`."""
        try:
            request = decode_request(frame)
        except FrameUndecodable as error:
            rarely.write(logging.WARNING, "invalid request from an operator: %s", error)
            return NotDone("this storage worker does not know the request: it is of another version")
        try:
            with self._engine.reading():
                return self._done(request, now_ms)
        except Exception as error:
            if self._engine.is_failure(error):
                raise
            damage = self._engine.damage(error)
            if damage is not None:
                return NotDone(damage)
            log.exception("an operator's request failed unexpectedly")
            return NotDone("the storage worker failed at it, which is a bug: see its log")

    def _done(self, request: AdminRequest, now_ms: int) -> AdminAnswer:
        _server_id, _generation, shard, shards = self._engine.identity
        if shard and isinstance(request, ListAccounts | SetDisabled):
            return NotDone(f"this worker has shard {shard} of {shards}, and users are with the worker of shard 0")
        match request:
            case GetMailboxes(rows):
                pending = self._engine.mailboxes.pending
                return Mailboxes(shard, shards, [Pending(*pending(row)) for row in rows])
            case ListAccounts(after):
                return self._accounts(after)
            case GetTotals():
                return self._totals()
            case BeginBackup(folder):
                problem = self._engine.begin_backup(Path(folder), now_ms)
                return Backup(*self._engine.backup) if problem is None else NotDone(problem)
            case GetBackup():
                return Backup(*self._engine.backup)
            case Expire(days):
                expiry = self._rules.expiry
                if expiry.goes_on:
                    return NotDone("mail expires already: try again later")
                expiry.begin(days, now_ms)
                return Expiry(*expiry.state)
            case GetExpiry():
                return Expiry(*self._rules.expiry.state)
            case SetDisabled(name, disabled):
                return self._disable(name, now_ms, disabled=disabled)
            case UsersChanged():
                self._engine.look_again()
                problem = own_turn(self._engine, self._rules, now_ms, self._rules.end_deleted)
                return Obeyed() if problem is None else NotDone(problem)
            case SetLogLevel(level):
                logging.getLogger().setLevel(level.upper())
                log.log(logging.getLogger().level, "the log level is %s now", level)
                self._orders.append(LogLevel(level))
                return Obeyed()
            case DrainServer():
                log.info("draining: gateways finish what is in flight and end")
                self._orders.append(Drain())
                return Obeyed()
            case _:
                assert_never(request)

    def _disable(self, name: str, now_ms: int, *, disabled: bool) -> AdminAnswer:
        known = False

        def act() -> None:
            nonlocal known
            known = self._rules.disable(name, disabled=disabled)

        problem = own_turn(self._engine, self._rules, now_ms, act)
        if problem is not None:
            return NotDone(problem)
        if not known:
            return NotDone(f"there is no user named {name!r}")
        log.info("a user is %s, as the operator asked", "disabled" if disabled else "enabled")
        return Obeyed()

    def _accounts(self, after: int) -> Accounts:
        found = self._engine.users.accounts(after, ACCOUNTS_AT_ONCE)
        last = found[-1].row if len(found) == ACCOUNTS_AT_ONCE else 0
        pending = self._engine.mailboxes.pending
        accounts = [
            Account(*one[:4], *pending(one.row), one.registered, one.seen, one.is_disabled, one.one_time_keys)
            for one in found
        ]
        return Accounts(last, accounts)

    def _totals(self) -> Totals:
        found = self._engine.totals()
        uploads = self._rules.unfinished
        return Totals(
            found.users,
            found.authenticated,
            found.mailboxes,
            found.messages,
            found.content_bytes,
            uploads.messages,
            uploads.content_bytes,
            found.accepted,
            found.accepted_exactly,
            found.unused_bytes,
            self._engine.identity.generation,
            found.starts,
            found.with_keys,
            found.one_time_keys,
        )
