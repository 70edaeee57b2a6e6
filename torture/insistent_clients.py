"""Clients of both parts of the protocol that never give up, one thing at a time, and remember what
they did.

Owns: how each operation of the server looks from outside; the messages that were sent and received
by it.
Promises: what may be done twice is repeated until it is answered; what may not (603) is tried once.
Exposure: talk to a server that dies and comes back.
"""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from struct import Struct
from typing import BinaryIO, Final, TypeVar

from common.client_protocol.requests import LargeSendRequest, PullRequest, RequestCode, encode
from common.client_protocol.responses import ErrorResponse, ResponseCode
from common.values import ClientId
from torture.caller import Account, Caller, Mail, Refused, new_key, persistently, public_half, token_of
from torture.checker import Verdict, judge
from torture.drill import examples
from torture.drill_messages import DrillMessage, parse_content
from torture.one_time_keys import BUNDLE, OneTimeKeys

SMALL: Final = 200
"""Bytes of content that travel inside a batch."""
LARGE: Final = 200_000
"""Bytes of content that travel in a chunk."""
HUGE: Final = 700_000
"""Bytes of content that need several chunks, and several pages when they are fetched."""
_ABRUPT: Final = Struct("ii").pack(1, 0)
"""SO_LINGER with no time to linger: closing resets the connection."""
_BIG_SEND: Final = Struct(">16sBHI16sBI")
"""A 603 up to its content, as a client writes it whose numbers are big-endian."""
_BIG_SEND_HEAD: Final = 21
"""Bytes of its payload up to the content."""
_BIG_HEADER: Final = Struct(">BHI")
_BIG_STORED: Final = Struct(">16sI")
"""The payload of a 2103 for such a client: recipient, message id."""
_KEY: Final = new_key("everybody")

Result = TypeVar("Result")


class Clients:
    """`sender` and `receiver` sign in and use the extension, `writer` and `reader` do neither.
    `foreigner` writes to the reader, and its numbers are big-endian.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(1)
        self._connections: dict[str, Caller] = {}
        self._users: dict[str, ClientId] = {}
        self._ack = 0
        self.attempted: list[DrillMessage] = []
        self.acknowledged: list[DrillMessage] = []
        self._fetched: list[DrillMessage] = []
        self._read: list[tuple[int, DrillMessage]] = []
        self.problems: list[str] = []
        self._keys = OneTimeKeys("receiver")
        self._sender, self._receiver, self._writer, self._foreigner, self._reader = map(
            self._new_account, ("sender", "receiver", "writer", "foreigner", "reader")
        )

    def close(self) -> None:
        """Close all connections."""
        for caller in self._connections.values():
            caller.close()

    # --- connections
    # --------------------------------------------------------------------------------------------

    def _once(self, action: Callable[[Caller], Result]) -> Result:
        """On a connection for this alone, again until it is done."""

        def attempt() -> Result:
            with Caller(self._port) as caller:
                return action(caller)

        return persistently(attempt)

    def _insist(self, account: Account, action: Callable[[Caller], Result]) -> Result:
        """Over a connection that is kept as long as it holds, again until it is done."""

        def attempt() -> Result:
            try:
                return action(self._connection(account))
            except OSError:
                self._drop(account)
                raise

        return persistently(attempt)

    def _connection(self, account: Account) -> Caller:
        caller = self._connections.get(account.name)
        if caller is None:
            caller = self._connections[account.name] = Caller(self._port)
            if account in (self._sender, self._receiver):
                caller.prove(account)
        return caller

    def _drop(self, account: Account) -> None:
        caller = self._connections.pop(account.name, None)
        if caller is not None:
            caller.close()

    # --- users
    # ----------------------------------------------------------------------------------------------

    def _new_account(self, name: str) -> Account:
        """640, 600, again until there is an answer; then once more: the same id."""

        def action(caller: Caller) -> ClientId:
            caller.hello()
            return caller.register(name, public_half(_KEY))

        client_id = self._once(action)
        if self._once(action) != client_id:
            self.problems.append(f"{name} got two ids")
        self._users[name] = client_id
        return Account(client_id, name, _KEY.export_key("DER"))

    def register(self) -> None:
        """640, 600."""
        self._new_account(f"user {next(self._numbers)}")

    def list_users(self) -> None:
        """601: everybody who ever got an id, once."""
        listed = self._insist(self._writer, lambda caller: caller.users(self._writer.client_id))
        expected = Counter((name, client_id) for name, client_id in self._users.items() if name != "writer")
        if Counter((user.name, user.client_id) for user in listed) != expected:
            self.problems.append("the list of users is not what was registered")

    def public_key(self) -> None:
        """602."""
        me, subject = self._writer.client_id, self._receiver.client_id
        if self._insist(self._writer, lambda caller: caller.public_key(me, subject)) != public_half(_KEY):
            self.problems.append("another public key than was registered")

    def prove(self) -> None:
        """640, 641, for a user who never did."""
        account = self._new_account(f"prover {next(self._numbers)}")
        self._once(lambda caller: caller.prove(account))

    def block(self) -> None:
        """651, twice: the receiver wants nothing of the writer, and then does again."""
        me, other = self._receiver.client_id, self._writer.client_id
        for blocked in (True, False):
            self._insist(self._receiver, partial(Caller.block, me=me, sender=other, blocked=blocked))

    # --- keys
    # ----------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """644, the same bytes until they are answered."""
        me, keys = self._receiver.client_id, self._keys.fresh()
        self._look_at_keys(self._insist(self._receiver, lambda caller: caller.publish(me, BUNDLE, keys)))

    def claim(self) -> None:
        """645 until it is answered: an answer that is lost takes its one-time key along."""

        def action(caller: Caller) -> bytes:
            try:
                return caller.claim(self._sender.client_id, self._receiver.client_id).one_time_key
            except OSError:
                self._keys.lost_answers += 1
                raise

        key = self._insist(self._sender, action)
        if key:
            self._keys.claimed(key)

    def _look_at_keys(self, kept: int) -> None:
        self.problems += self._keys.problems(kept)

    # --- mail of the extension
    # ----------------------------------------------------------------------------------

    def send(self, size: int) -> None:
        """642, again with its token until it is acknowledged."""
        message = DrillMessage("sender", "receiver", next(self._numbers))
        self.attempted.append(message)
        content, token = message.content(size), token_of(str(message))
        me, recipient = self._sender.client_id, self._receiver.client_id
        self._insist(self._sender, lambda caller: caller.send(me, recipient, content, token=token))
        self.acknowledged.append(message)

    def fetch(self) -> None:
        """643 until nothing is left, acknowledging what came."""
        me = self._receiver.client_id
        while mail := self._insist(self._receiver, lambda caller: caller.fetch(me, self._ack)):
            self._fetched += [_message(one) for one in mail]
            self._ack = mail[-1].number

    # --- mail of the published protocol
    # -------------------------------------------------------------------------

    def write(self, size: int) -> None:
        """603, once: if the connection breaks nobody knows whether it was stored."""
        message = DrillMessage("writer", "reader", next(self._numbers))
        caller = self._insist(self._writer, lambda caller: caller)
        self.attempted.append(message)
        try:
            caller.send(self._writer.client_id, self._reader.client_id, message.content(size))
        except OSError:
            self._drop(self._writer)
        else:
            self.acknowledged.append(message)

    def write_big_endian(self, size: int) -> None:
        """The same by a client of the other byte order, whose messages never travel in runs."""
        message = DrillMessage("foreigner", "reader", next(self._numbers))
        # A connection for this alone: its first code decides the byte order of all of it.
        caller = persistently(lambda: Caller(self._port))
        self.attempted.append(message)
        with caller, suppress(OSError):
            _send_big_endian(caller, self._foreigner.client_id, self._reader.client_id, message.content(size))
            self.acknowledged.append(message)

    def begin_and_leave(self) -> None:
        """Half of a large 603, then the end of the connection: nothing of it may ever arrive."""
        head = encode(LargeSendRequest(self._writer.client_id, self._reader.client_id, 4, HUGE))
        self._once(lambda caller: caller.post(head + bytes(HUGE // 2)))

    def read(self) -> None:
        """604 until nothing is left; each next request proves that the mail before it is here."""
        me = self._reader.client_id
        while mail := self._insist(self._reader, lambda caller: caller.pull(me)):
            self._read += [(one.number, _message(one)) for one in mail]

    def read_and_reset(self) -> None:
        """604, a part of the answer, and a reset: all of it waits again."""

        def action(caller: Caller) -> None:
            caller.post(PullRequest(self._reader.client_id))
            caller.socket.recv(8)
            caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)

        self._once(action)

    # --- the end
    # ----------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """What the checker says of all mail.

        The published protocol's may come again, as the same message; the same message as another
        message was stored twice, which is never right.
        """
        messages = list(dict.fromkeys(self._read))
        return judge(
            self.attempted,
            self.acknowledged,
            {"receiver": self._fetched, "reader": [message for _number, message in messages]},
        )

    @property
    def repeats(self) -> int:
        """How often mail of the published protocol came again."""
        return len(self._read) - len(set(self._read))

    def check(self, after: str) -> None:
        """Fetch all there is, and let the checker look."""
        self.fetch()
        self.read()
        me = self._receiver.client_id
        self._look_at_keys(self._insist(self._receiver, lambda caller: caller.publish(me, BUNDLE)))
        verdict = self.verdict()
        if not verdict.spotless:
            self.problems.append(f"after {after}: {examples(verdict)}")


def _send_big_endian(caller: Caller, sender: ClientId, recipient: ClientId, content: bytes) -> None:
    """603 on a connection that has had no request, deliberately independent of the product's
    code. Raises `Refused`, `OSError`.
    """
    size = _BIG_SEND_HEAD + len(content)
    caller.post(_BIG_SEND.pack(sender, 2, RequestCode.SEND, size, recipient, 3, len(content)) + content)
    with caller.socket.makefile("rb") as answers:
        _version, code, left = _BIG_HEADER.unpack(_whole(answers, _BIG_HEADER.size))
        if code == ResponseCode.ERROR:
            raise Refused(ErrorResponse())
        assert (code, left) == (ResponseCode.STORED, _BIG_STORED.size), f"the server talks nonsense: {code}, {left}"
        told, _number = _BIG_STORED.unpack(_whole(answers, left))
    assert told == recipient, "the server tells of another recipient"


def _whole(answers: BinaryIO, size: int) -> bytes:
    data = answers.read(size)
    if len(data) < size:
        raise ConnectionResetError("the server ended the connection")
    return data


def _message(mail: Mail) -> DrillMessage:
    return parse_content(mail.content) or DrillMessage("damaged", "damaged", 0)
