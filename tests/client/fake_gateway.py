"""A scripted server for the client's tests: a TCP peer in a thread, with a small working mailbox
behind it.

It decodes requests with the server's own codec and answers by `Mailroom`, unless a script says
otherwise: an `Answer` of given bytes, a refusal, silence, a closed connection.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from common.client_protocol import responses
from common.client_protocol.requests import (
    AboutRequest,
    BlockRequest,
    CertificatesRequest,
    ClaimKeyRequest,
    DeleteAccountRequest,
    FetchRequest,
    HelloRequest,
    LargeSendRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PublishKeysRequest,
    PullRequest,
    RegisterInvitedRequest,
    RegisterRequest,
    Request,
    SendRequest,
)
from common.client_protocol.responses import ErrorResponse, ResponseCode
from common.client_protocol.server_connection import (
    BigEndian,
    ContentData,
    ContentEnd,
    Limits,
    Malformed,
    Padded,
    PipelinedSends,
    ServerConnection,
)
from common.server_address import ServerAddress
from common.values import NO_CLIENT, ClientId, PublicKey, RefusalReason, Username
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.certificates import Certificate


class Answer(NamedTuple):
    """What to do with a request: these bytes (`b""`: silence), then perhaps the end of
    the connection.
    """

    data: bytes
    close: bool = False


ERROR = Answer(responses.ERROR)
SILENCE = Answer(b"")
CLOSE = Answer(b"", close=True)


class StoredMessage(NamedTuple):
    sender: bytes
    number: int
    kind: int
    content: bytes
    token: bytes = b""


@dataclass
class ConnectionState:
    """What the extension knows of one connection."""

    greeted: bool = False
    reasons: bool = False
    proven_as: bytes | None = None


class Mailroom:
    """Part 1 of the protocol, in memory."""

    ignores_hello = True

    def __init__(self) -> None:
        self.names: dict[ClientId, Username] = {}
        self.keys: dict[ClientId, PublicKey] = {}
        self.boxes: dict[ClientId, list[StoredMessage]] = {}
        self.next_number = 1

    def register(self, name: str, key: bytes = bytes(160)) -> ClientId:
        client_id = ClientId(bytes([max((known[0] for known in self.names), default=0) + 1]) * 16)
        self.names[client_id] = Username(name)
        self.keys[client_id] = PublicKey(key)
        self.boxes[client_id] = []
        return client_id

    def id_of(self, name: str) -> ClientId:
        return next(client_id for client_id, known in self.names.items() if known == name)

    def put(self, sender: bytes, recipient: bytes, kind: int, content: bytes) -> int:
        number = self.next_number
        self.next_number += 1
        self.boxes[ClientId(recipient)].append(StoredMessage(sender, number, kind, content))
        return number

    def answer(self, request: Request, state: ConnectionState) -> bytes:
        match request:
            case RegisterRequest(_, name, key):
                if name in self.names.values():
                    return responses.ERROR
                return responses.encode_registered(self.register(name, key))
            case _ if request.requester not in self.names:
                return responses.ERROR
            case ListUsersRequest(me):
                return user_list([(client_id, name) for client_id, name in self.names.items() if client_id != me])
            case PublicKeyRequest(_, subject) if subject in self.keys:
                return responses.encode_public_key(subject, self.keys[subject])
            case SendRequest(sender, recipient, kind, content) if recipient in self.boxes:
                return responses.encode_stored(recipient, self.put(sender, recipient, kind, content))
            case PullRequest(me):
                waiting, self.boxes[me] = self.boxes[me], []
                return waiting_list(waiting)
        return responses.ERROR


class ExtendedMailroom(Mailroom):
    """Both parts. `proofs` counts good signatures, `reason` refuses every 642."""

    ignores_hello = False

    def __init__(self) -> None:
        super().__init__()
        self.server_id = b"S" * 16
        self.generation = 1
        self.nonce = b"N" * 32
        self.binding = bytes(32)
        self.certificates: list[bytes] = []
        """What a 649 is told, with feature bit 5."""
        self.blocked: set[tuple[bytes, bytes]] = set()
        """Whom 651 has named, behind who asked, with feature bit 6. Messages come all the same."""
        self.block_refusal: ErrorResponse | None = None
        self.features = 11
        """With 16 in it, it knows accounts: 646 to 648."""
        self.invitation = bytes(range(16))
        self.about = b""
        self.largest_content = 16 << 20
        self.proofs = 0
        self.proven: set[bytes] = set()
        self.accepted: dict[tuple[bytes, bytes], int] = {}
        self.reasons: dict[bytes, ErrorResponse] = {}
        """Refusals by recipient."""
        self.acks: list[int] = []
        self.gives_wanted = True
        """Whether a 600 gets the id that it wants."""

    def put(self, sender: bytes, recipient: bytes, kind: int, content: bytes, token: bytes = b"") -> int:
        number = self.next_number
        token = token or number.to_bytes(16, "big")
        super().put(sender, recipient, kind, content)
        box = self.boxes[ClientId(recipient)]
        box[-1] = box[-1]._replace(token=token)
        return number

    def answer(self, request: Request, state: ConnectionState) -> bytes:
        match request:
            case HelloRequest():
                state.greeted, state.reasons = True, bool(request.features & 8)
                return responses.encode_hello(
                    1, self.features, self.largest_content + 21, 0, self.server_id, self.generation, self.nonce
                )
            case AboutRequest():
                return responses.encode_about(0, 1000, 2000, 3000, 1, self.about)
            case BlockRequest(me, blocked, sender) if self.features & 64:
                if self.block_refusal is not None:
                    return responses.encode_reason(self.block_refusal.reason or 0, 0)
                (self.blocked.add if blocked else self.blocked.discard)((me, sender))
                return responses.BLOCK_SET
            case CertificatesRequest() if self.certificates:
                return responses.encode_certificates(self.certificates)
            case ProveRequest(client_id, signature):
                text = b"MessageU prove 1\0" + self.server_id + self.nonce + client_id + self.binding
                try:
                    key = RSA.import_key(self.keys[client_id])
                    pss.new(key, salt_bytes=32).verify(SHA256.new(text), signature)
                except KeyError:
                    return self.refuse(state, RefusalReason.REQUESTER_UNKNOWN)
                except ValueError:
                    return self.refuse(state, RefusalReason.PROOF_NEEDED)
                self.proofs += 1
                self.proven.add(client_id)
                state.proven_as = client_id
                return responses.AUTHENTICATED
            case RegisterRequest(_, name, key) if state.greeted and name in self.names.values():
                known = self.id_of(name)
                if self.keys[known] == key:
                    return responses.encode_registered(known)
                return self.refuse(state, RefusalReason.NAME_TAKEN)
            case RegisterRequest(wanted, name, key) if state.greeted and wanted != NO_CLIENT and self.gives_wanted:
                self.names[wanted], self.keys[wanted], self.boxes[wanted] = name, key, []
                return responses.encode_registered(wanted)
            case RegisterRequest():
                return super().answer(request, state)
            case _ if request.requester in self.proven and state.proven_as != request.requester:
                return self.refuse(state, RefusalReason.PROOF_NEEDED)
            case SendRequest(sender, recipient, kind, content, token) if token is not None:
                if recipient in self.reasons:
                    error = self.reasons[recipient]
                    return (
                        responses.ERROR
                        if error.reason is None
                        else responses.encode_reason(error.reason, error.retry_after)
                    )
                if recipient not in self.boxes:
                    return self.refuse(state, RefusalReason.RECIPIENT_UNKNOWN)
                number = self.accepted.get((sender, token)) or self.put(sender, recipient, kind, content, token)
                self.accepted[sender, token] = number
                return responses.encode_stored(recipient, number)
            case RegisterInvitedRequest(_, name, key, invitation):
                if invitation != self.invitation:
                    return self.refuse(state, RefusalReason.INVITATION)
                return self.answer(RegisterRequest(NO_CLIENT, name, key), state)
            case DeleteAccountRequest(me, confirmed) if me == confirmed:
                del self.names[me], self.keys[me], self.boxes[me]
                return responses.DELETED
            case FetchRequest(me, ack):
                self.acks.append(ack)
                if ack >= self.next_number:
                    return self.refuse(state, RefusalReason.MALFORMED)
                self.boxes[me] = [message for message in self.boxes[me] if message.number > ack]
                return fetched_list(self.boxes[me])
        return super().answer(request, state)

    def refuse(self, state: ConnectionState, reason: RefusalReason) -> bytes:
        return responses.encode_reason(reason, 0) if state.reasons else responses.ERROR


class SuiteMailroom(ExtendedMailroom):
    """With feature bit 2: it keeps keys and gives them out, each one-time key once. 644 and 645."""

    def __init__(self) -> None:
        super().__init__()
        self.features |= 4
        self.bundles: dict[bytes, bytes] = {}
        self.one_time_keys: dict[bytes, list[bytes]] = {}
        self.withheld: set[bytes] = set()
        """Whose keys it says that it does not have."""

    def answer(self, request: Request, state: ConnectionState) -> bytes:
        if not self.features & 4:
            return super().answer(request, state)
        match request:
            case PublishKeysRequest(me, forget, bundle, keys) if state.proven_as == me:
                self.bundles[me] = bundle
                kept = [] if forget else self.one_time_keys.get(me, [])
                added = [keys[at : at + 96] for at in range(0, len(keys), 96)]
                self.one_time_keys[me] = [*kept, *added][-100:]
                return responses.encode_keys_kept(len(self.one_time_keys[me]))
            case ClaimKeyRequest(me, subject) if state.proven_as == me:
                if subject not in self.bundles or subject in self.withheld:
                    return self.refuse(state, RefusalReason.NO_KEYS)
                keys_left = self.one_time_keys.get(subject, [])
                return responses.encode_key_claimed(self.bundles[subject], keys_left.pop(0) if keys_left else b"")
            case SendRequest(_, recipient, 5) if recipient in self.boxes and recipient not in self.bundles:
                return self.refuse(state, RefusalReason.NO_KEYS)
        return super().answer(request, state)


def fetched_list(messages: list[StoredMessage]) -> bytes:
    entries = b"".join(
        responses.encode_fetched_head(m.sender, m.token, m.number, 1_700_000_000_000, True, m.kind, len(m.content))
        + m.content
        for m in messages
    )
    return responses.encode_head(ResponseCode.FETCHED, len(entries)) + entries


def user_list(users: list[tuple[ClientId, Username]]) -> bytes:
    entries = responses.encode_users(users)
    return responses.encode_head(ResponseCode.USERS, len(entries)) + entries


def waiting_list(messages: list[StoredMessage]) -> bytes:
    entries = b"".join(
        responses.encode_pulled_head(m.sender, m.number, m.kind, len(m.content)) + m.content for m in messages
    )
    return responses.encode_head(ResponseCode.WAITING, len(entries)) + entries


class FakeGateway:
    """Serves one connection after the other. Used as a context manager; what broke inside
    is raised at its end.
    """

    def __init__(
        self,
        mailroom: Mailroom | None = None,
        *,
        close_after_reply: bool = False,
        byte_by_byte: bool = False,
        limit: int = 64 << 20,
        certificate: Certificate | None = None,
        port: int = 0,
    ) -> None:
        """With a certificate it speaks TLS alone, and its address has the pin."""
        self.mailroom = mailroom or Mailroom()
        self.endings: list[str] = []
        """How clients ended connections over TLS, handshakes included."""
        self.ends_orderly = True
        self._certificate = certificate
        if certificate is not None and isinstance(self.mailroom, ExtendedMailroom):
            self.mailroom.binding = certificate.pin
        self.requests: list[Request] = []
        self.connections = 0
        self.script: deque[Answer | None] = deque()
        """What to answer to the coming requests; None leaves one to the mailroom."""
        self.on_request: Callable[[Request], None] = lambda request: None
        self._close_after_reply = close_after_reply
        self._byte_by_byte = byte_by_byte
        self._limits = Limits(limit)
        self._listener = socket.create_server(("127.0.0.1", port))
        pins = () if certificate is None else (certificate.pin,)
        self.address = ServerAddress("127.0.0.1", self._listener.getsockname()[1], pins)
        self._stop, self._stopped = socket.socketpair()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        self._listener.close()
        self._stopped.close()
        if self._failure is not None:
            raise self._failure

    def codes(self) -> list[str]:
        return [type(request).__name__.removesuffix("Request") for request in self.requests]

    def _run(self) -> None:
        try:
            serving: dict[socket.socket, _Peer] = {}
            while True:
                ready, _, _ = select.select([self._listener, self._stopped, *serving], [], [])
                if self._stopped in ready:
                    for peer in serving:
                        peer.close()
                    return
                for one in ready:
                    if one is self._listener:
                        accepted = self._accepted()
                        if accepted is not None:
                            serving[accepted] = _Peer(self._limits)
                            self.connections += 1
                    elif not self.serve(one, serving[one]):
                        self._end(one)
                        del serving[one]
        except BaseException as error:
            self._failure = error
            self._listener.close()

    def _accepted(self) -> socket.socket | None:
        accepted, _ = self._listener.accept()
        if self._certificate is None:
            return accepted
        accepted.settimeout(HANG_SECONDS)
        try:
            context = self._certificate.context()
            # As the gateway has it: nothing comes behind the handshake but answers.
            context.num_tickets = 0
            return context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            self.endings.append("handshake")
            accepted.close()
            return None

    def _end(self, connection: socket.socket) -> None:
        if isinstance(connection, ssl.SSLSocket) and self.ends_orderly:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.unwrap()
        connection.close()

    def serve(self, connection: socket.socket, peer: _Peer) -> bool:
        try:
            data = connection.recv(1 << 20)
            while isinstance(connection, ssl.SSLSocket) and connection.pending():
                data += connection.recv(1 << 20)
        except (ConnectionError, ssl.SSLError):
            self.endings.append("cut")
            return False
        if not data:
            self.endings.append("close_notify")
            return False
        peer.protocol.receive_data(data)
        while (request := peer.next_request()) is not None:
            try:
                if not self._answer(connection, request, peer.state):
                    return False
            except (ConnectionError, ssl.SSLError):
                # The client was interrupted, and is gone.
                return False
        return True

    def _answer(self, connection: socket.socket, request: Request | Malformed, state: ConnectionState) -> bool:
        if isinstance(request, Malformed):
            connection.sendall(responses.ERROR)
            if request.fatal:
                connection.shutdown(socket.SHUT_WR)
            return True
        if isinstance(request, HelloRequest) and self.mailroom.ignores_hello:
            # Part of every connection; left out of the books of those who look at part 1.
            connection.sendall(responses.ERROR)
            return True
        self.requests.append(request)
        self.on_request(request)
        scripted = self.script.popleft() if self.script else None
        answer = scripted if scripted is not None else Answer(self.mailroom.answer(request, state))
        if self._byte_by_byte:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in answer.data:
                connection.sendall(bytes([byte]))
        else:
            connection.sendall(answer.data)
        return not (answer.close or self._close_after_reply)


class _Peer:
    def __init__(self, limits: Limits) -> None:
        self.protocol = ServerConnection(limits)
        self.state = ConnectionState()
        self._large: LargeSendRequest | None = None
        self._content = bytearray()
        self._sends: deque[SendRequest] = deque()

    def next_request(self) -> Request | Malformed | None:
        """The next request; a large one with its content in it."""
        if self._sends:
            return self._sends.popleft()
        while (event := self.protocol.next_event()) is not None:
            if isinstance(event, PipelinedSends):
                self._sends += event.requests()
                return self._sends.popleft()
            if isinstance(event, LargeSendRequest):
                self._large = event
                self._content.clear()
            elif isinstance(event, ContentData):
                self._content += event.data
            elif isinstance(event, ContentEnd):
                assert self._large is not None
                head = self._large
                return SendRequest(head.requester, head.recipient, head.kind, bytes(self._content), head.token)
            elif isinstance(event, Malformed):
                return event
            elif isinstance(event, Padded | BigEndian):
                raise AssertionError("our client neither pads nor is big-endian")
            else:
                return event
        return None
