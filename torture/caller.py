"""A client for drills: one connection, one request at a time, every answer checked for its form.

Owns: a blocking socket and its unread input. Promises: every answer is complete or an `OSError` is
raised; nothing is sent twice, nothing is kept.
Exposure: talks to the server under test, which may be dying.
"""

import hashlib
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Self, TypeVar

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from common.client_protocol.client_connection import (
    ClientConnection,
    ContentPart,
    Event,
    ListBegins,
    ListEnd,
    MessageEnd,
)
from common.client_protocol.requests import (
    BlockRequest,
    ClaimKeyRequest,
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PublishKeysRequest,
    PullRequest,
    RegisterRequest,
    Request,
    SendRequest,
    encode,
)
from common.client_protocol.responses import (
    AuthenticatedResponse,
    BlockSetResponse,
    ErrorResponse,
    HelloResponse,
    KeyClaimedResponse,
    KeysKeptResponse,
    MessageHead,
    PublicKeyResponse,
    RegisteredResponse,
    StoredResponse,
    UserListed,
)
from common.client_protocol.versions import EXTENSION_VERSION, Feature
from common.errors import ResponseMalformed
from common.values import NO_CLIENT, ClientId, PublicKey, RefusalReason, Token, Username
from torture.patience import HANG_SECONDS

FEATURES: Final = Feature.SEND_ONCE | Feature.FETCH | Feature.REASONS
LARGEST_FETCH: Final = 2**32 - 1
_READ_SIZE: Final = 1 << 18


class Refused(Exception):
    """9000 or 9001, if the caller counted on something else."""

    def __init__(self, answer: ErrorResponse) -> None:
        super().__init__(f"refused, reason {answer.reason}")
        self.reason = answer.reason


class Mail(NamedTuple):
    """One received message."""

    sender: ClientId
    number: int
    kind: int
    content: bytes
    token: Token | None = None
    authenticated: bool = False


class Account(NamedTuple):
    """A registered user with the key for proofs. `key_der`: the private key in DER."""

    client_id: ClientId
    name: str
    key_der: bytes


Result = TypeVar("Result")


def new_key(seed: str) -> RSA.RsaKey:
    """A key pair of the protocol's form, always the same for the same seed."""
    return RSA.generate(1024, randfunc=random.Random(seed).randbytes, e=17)  # noqa: S505 - the protocol has it so


def public_half(key: RSA.RsaKey) -> PublicKey:
    """The public key in the form of a registration."""
    return PublicKey(key.public_key().export_key("DER"))


NO_BINDING: Final = bytes(32)


def signed_string(server_id: bytes, nonce: bytes, client_id: bytes, binding: bytes = NO_BINDING) -> bytes:
    """What a proof signs, deliberately independent of the product's code."""
    return b"MessageU prove 1\0" + server_id + nonce + client_id + binding


def sign(key_der: bytes, text: bytes) -> bytes:
    """RSASSA-PSS with SHA-256 and a salt of 32 bytes."""
    return pss.new(RSA.import_key(key_der), salt_bytes=32).sign(SHA256.new(text))


def token_of(label: str) -> Token:
    """A token that a client can make again after it died."""
    return Token(hashlib.sha256(label.encode()).digest()[:16])


@contextmanager
def _whole_or_broken() -> Iterator[None]:
    """An invalid response is a bug of the server, never a broken connection."""
    try:
        yield
    except ResponseMalformed as error:
        raise AssertionError(f"the server talks nonsense: {error}") from error


class Caller:
    """A connection to 127.0.0.1. `patience`: seconds to wait for any byte. `binding`: what its
    proofs are bound to.
    """

    binding = NO_BINDING

    def __init__(self, port: int, patience: float = HANG_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._patience = patience
        self._connection = ClientConnection()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def abort(self) -> None:
        """From another thread: a call that waits for an answer gets an `OSError`."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    # --- bytes and events
    # ---------------------------------------------------------------------------------------

    def post(self, data: bytes | Request) -> None:
        """Send without waiting for the answer."""
        self.socket.sendall(data if isinstance(data, bytes) else encode(data))

    def wait_at_most(self, seconds: float) -> None:
        """Set how long any byte may take from now on."""
        self.socket.settimeout(seconds)

    def event(self) -> Event:
        """The next event. Raises `OSError` if the connection ends or nothing comes."""
        while True:
            with _whole_or_broken():
                event = self._connection.next_event()
            if event is not None:
                return event
            data = self.socket.recv(_READ_SIZE)
            if not data:
                raise ConnectionResetError("the server ended the connection")
            self._connection.receive_data(data)

    def mail(self, first: Event) -> list[Mail]:
        """The messages of a list whose beginning is `first`."""
        if isinstance(first, ErrorResponse):
            raise Refused(first)
        assert isinstance(first, ListBegins), first
        found: list[Mail] = []
        head: MessageHead | None = None
        content: list[bytes] = []
        while not isinstance(event := self.event(), ListEnd):
            match event:
                case MessageHead():
                    head, content = event, []
                case ContentPart(data):
                    content.append(data)
                case MessageEnd() if head is not None:
                    found.append(
                        Mail(
                            head.sender,
                            head.number,
                            head.kind,
                            b"".join(content),
                            head.token,
                            head.sender_authenticated,
                        )
                    )
                case _:
                    raise AssertionError(f"{event} inside a list of mail")
        return found

    # --- requests
    # ----------------------------------------------------------------------------------------------

    def ask(self, request: bytes | Request) -> Event:
        """Send a request; the first event of its answer."""
        self.post(request)
        return self.event()

    def _expect(self, request: Request, kind: type[Result]) -> Result:
        answer = self.ask(request)
        if isinstance(answer, ErrorResponse):
            raise Refused(answer)
        assert isinstance(answer, kind), answer
        return answer

    def register(self, name: str, public_key: PublicKey) -> ClientId:
        """600."""
        return self._expect(RegisterRequest(NO_CLIENT, Username(name), public_key), RegisteredResponse).client_id

    def users(self, requester: ClientId) -> list[UserListed]:
        """601."""
        first = self.ask(ListUsersRequest(requester))
        if isinstance(first, ErrorResponse):
            raise Refused(first)
        assert isinstance(first, ListBegins), first
        found: list[UserListed] = []
        while not isinstance(event := self.event(), ListEnd):
            assert isinstance(event, UserListed), event
            found.append(event)
        return found

    def public_key(self, requester: ClientId, subject: ClientId) -> PublicKey:
        """602."""
        return self._expect(PublicKeyRequest(requester, subject), PublicKeyResponse).public_key

    def send(
        self, sender: ClientId, recipient: ClientId, content: bytes, kind: int = 3, token: Token | None = None
    ) -> int:
        """603, or 642 with a token; the message id."""
        return self._expect(SendRequest(sender, recipient, kind, content, token), StoredResponse).message_id

    def pull(self, requester: ClientId) -> list[Mail]:
        """604."""
        return self.mail(self.ask(PullRequest(requester)))

    def hello(self, features: int = FEATURES) -> HelloResponse:
        """640."""
        return self._expect(HelloRequest(NO_CLIENT, EXTENSION_VERSION, features), HelloResponse)

    def publish(self, me: ClientId, bundle: bytes, one_time_keys: bytes = b"", *, forget: bool = False) -> int:
        """644; how many one-time keys are kept."""
        return self._expect(PublishKeysRequest(me, forget, bundle, one_time_keys), KeysKeptResponse).kept

    def claim(self, me: ClientId, subject: ClientId) -> KeyClaimedResponse:
        """645."""
        return self._expect(ClaimKeyRequest(me, subject), KeyClaimedResponse)

    def block(self, me: ClientId, sender: ClientId, *, blocked: bool) -> None:
        """651."""
        self._expect(BlockRequest(me, blocked, sender), BlockSetResponse)

    def prove(self, account: Account, hello: HelloResponse | None = None) -> None:
        """641, after a 640 of our own unless one is given.

        Without one given it is tried once more with a new nonce: a nonce expires after 30 s, and a
        gateway may be stopped for that long between the two.
        """
        if hello is None:
            try:
                self.prove(account, self.hello())
            except Refused as refused:
                if refused.reason != RefusalReason.PROOF_NEEDED:
                    raise
                self.prove(account, self.hello())
            return
        text = signed_string(hello.server_id, hello.nonce, account.client_id, self.binding)
        signature = sign(account.key_der, text)
        self._expect(ProveRequest(account.client_id, signature), AuthenticatedResponse)

    def fetch(self, requester: ClientId, ack: int, wait: int = 0, max_bytes: int = LARGEST_FETCH) -> list[Mail]:
        """643."""
        self.wait_at_most(wait + self._patience)
        try:
            return self.mail(self.ask(FetchRequest(requester, ack, max_bytes, wait)))
        finally:
            self.wait_at_most(self._patience)


class TlsCaller(Caller):
    """The same over TLS, by Python's own client. It compares no pin: a drill knows its server."""

    def __init__(self, port: int, patience: float = HANG_SECONDS) -> None:
        super().__init__(port, patience)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.tls = context.wrap_socket(self.socket)
        self.socket = self.tls
        certificate = self.tls.getpeercert(binary_form=True)
        assert certificate is not None
        self.binding = hashlib.sha256(certificate).digest()

    def end(self) -> None:
        """Say close_notify, wait for the server's, and close. Raises `OSError`."""
        self.tls.unwrap()
        self.close()


def new_account(port: int, name: str) -> Account:
    """Register a user with a key of its own. Raises `Refused`, `OSError`."""
    key = new_key(name)
    with Caller(port) as caller:
        return Account(caller.register(name, public_half(key)), name, key.export_key("DER"))


def persistently(action: Callable[[], Result], seconds: float = HANG_SECONDS) -> Result:
    """Repeat what a dying server may break, until it works. Only for what may be done twice."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
