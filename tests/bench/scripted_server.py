"""A small server in a thread that speaks part 1 of the client protocol from memory, and
can be told to misbehave; 642 and 643 too, and a 641 with any signature.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import FETCH, SEND_HEAD, SEND_ONCE_HEAD, RequestCode
from common.client_protocol.responses import (
    AUTHENTICATED,
    ERROR,
    ResponseCode,
    encode_fetched_head,
    encode_head,
    encode_hello,
    encode_pulled_head,
    encode_registered,
    encode_stored,
)
from common.values import NO_CLIENT
from tests.bench.scripted_peer import CLOSE, Read, ScriptedPeer, Send

SERVER_ID: Final = b"server id 16 byt"
NONCE: Final = b"a nonce of thirty-two bytes ....."[:32]

Twist = Callable[[int, bytes], bytes | None]
"""Gets the number of the request (from 1, over all connections) and its right answer; gives what
is sent instead, or `CLOSE`."""


def honest(_number: int, answer: bytes) -> bytes:
    return answer


class ScriptedServer(ScriptedPeer):
    """See `ScriptedPeer`."""

    def __init__(
        self,
        twist: Twist = honest,
        *,
        registering: Twist = honest,
        piece: int = 0,
        page: int = 1_000_000,
        port: int = 0,
    ) -> None:
        """`registering`: the twist of 600s, which count by themselves; `page`: messages
        in one 2104.
        """
        self.mail: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        """(message id, content) by recipient"""
        self.requests = 0
        self.users = 0
        self.tokens: list[bytes] = []
        """Of the 642s, in their order."""
        self.acks: list[tuple[bytes, int]] = []
        """Of the 643s: requester and ack."""
        self.proofs: dict[bytes, bytes] = {}
        """The last signature of each user."""
        self._twist = twist
        self._registering = registering
        self._page = page
        self._message_id = 0
        super().__init__(piece=piece, port=port)

    def put(self, recipient: bytes, *contents: bytes) -> None:
        for content in contents:
            self._message_id += 1
            self.mail[recipient].append((self._message_id, content))

    def converse(self, read: Read, send: Send) -> None:
        while True:
            header = read(REQUEST_HEADER.size)
            if len(header) < REQUEST_HEADER.size:
                return
            requester, _version, code, size = REQUEST_HEADER.unpack(header)
            payload = read(size)
            with self.lock:
                answer: bytes | None = self.right_answer(requester, code, payload)
                assert answer is not None
                if code in {RequestCode.HELLO, RequestCode.PROVE}:
                    pass
                elif code == RequestCode.REGISTER:
                    answer = self._registering(self.users, answer)
                else:
                    self.requests += 1
                    answer = self._twist(self.requests, answer)
            if answer is CLOSE:
                return
            send(answer)

    def right_answer(self, requester: bytes, code: int, payload: bytes) -> bytes:
        match code:
            case RequestCode.REGISTER:
                self.users += 1
                return encode_registered(self.users.to_bytes(16, "big"))
            case RequestCode.SEND:
                recipient, _kind, size = SEND_HEAD.unpack_from(payload)
                assert len(payload) == SEND_HEAD.size + size
                self.put(recipient, payload[SEND_HEAD.size :])
                return encode_stored(recipient, self._message_id)
            case RequestCode.HELLO:
                return encode_hello(1, 0, 0, 0, SERVER_ID, 1, NONCE)
            case RequestCode.PROVE:
                self.proofs[requester] = payload
                return AUTHENTICATED
            case RequestCode.SEND_ONCE:
                token, recipient, _kind, size = SEND_ONCE_HEAD.unpack_from(payload)
                assert len(payload) == SEND_ONCE_HEAD.size + size
                self.tokens.append(token)
                self.put(recipient, payload[SEND_ONCE_HEAD.size :])
                return encode_stored(recipient, self._message_id)
            case RequestCode.FETCH:
                ack, _max_bytes, _wait = FETCH.unpack(payload)
                self.acks.append((requester, ack))
                self.mail[requester] = [one for one in self.mail[requester] if one[0] > ack]
                parts = [
                    encode_fetched_head(NO_CLIENT, bytes(16), number, 0, True, 3, len(text)) + text
                    for number, text in self.mail[requester][: self._page]
                ]
                return encode_head(ResponseCode.FETCHED, sum(map(len, parts))) + b"".join(parts)
            case RequestCode.PULL:
                given, self.mail[requester] = self.mail[requester][: self._page], self.mail[requester][self._page :]
                parts = [encode_pulled_head(NO_CLIENT, number, 3, len(text)) + text for number, text in given]
                return encode_head(ResponseCode.WAITING, sum(map(len, parts))) + b"".join(parts)
            case _:
                return ERROR
