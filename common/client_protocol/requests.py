"""Requests as values, and their bytes.

Owns: one value per request code; encoding (for clients); decoding of payloads of fixed size (for
the server).
Promises: a decoded request is valid in all that can be known without the store; the length was
checked before.
Exposure: `decode_fixed` is fed with strangers' bytes; a rejection is `ValueRejected`, nothing else.

Source: docs/client-protocol.md, "Requests".
"""

from typing import Final, NamedTuple

from common.client_protocol.codes import CLIENT_VERSION, RequestCode
from common.client_protocol.fields import (
    FETCH,
    HELLO,
    REGISTER,
    REQUEST_HEADER,
    SEND_HEAD,
    SEND_ONCE_HEAD,
    SIGNATURE_SIZE,
    pack_name,
    unpack_name,
)
from common.values import ClientId, PublicKey, Token, Username


class RegisterRequest(NamedTuple):
    """600. On a connection that was greeted the header's client id is the one that is
    wanted; else it is ignored.
    """

    requester: ClientId
    name: Username
    public_key: PublicKey


class ListUsersRequest(NamedTuple):
    """601."""

    requester: ClientId


class PublicKeyRequest(NamedTuple):
    """602."""

    requester: ClientId
    subject: ClientId


class SendRequest(NamedTuple):
    """603, or 642 where `token` is set."""

    requester: ClientId
    recipient: ClientId
    kind: int
    content: bytes
    token: Token | None = None


class LargeSendRequest(NamedTuple):
    """603 or 642 with a content of `size` bytes that follows in `ContentData` events."""

    requester: ClientId
    recipient: ClientId
    kind: int
    size: int
    token: Token | None = None


class PullRequest(NamedTuple):
    """604."""

    requester: ClientId


class HelloRequest(NamedTuple):
    """640. The header's client id is ignored."""

    requester: ClientId
    extension_version: int
    features: int


class ProveRequest(NamedTuple):
    """641: a signature of 128 bytes."""

    requester: ClientId
    signature: bytes


class FetchRequest(NamedTuple):
    """643. `ack`: a sequence; `max_bytes` of payload; `wait` in seconds."""

    requester: ClientId
    ack: int
    max_bytes: int
    wait: int


FixedRequest = (
    RegisterRequest | ListUsersRequest | PublicKeyRequest | PullRequest | HelloRequest | ProveRequest | FetchRequest
)
Request = FixedRequest | SendRequest | LargeSendRequest

FIXED_SIZES: Final[dict[int, int]] = {
    RequestCode.REGISTER: REGISTER.size,
    RequestCode.LIST_USERS: 0,
    RequestCode.PUBLIC_KEY: 16,
    RequestCode.PULL: 0,
    RequestCode.HELLO: HELLO.size,
    RequestCode.PROVE: SIGNATURE_SIZE,
    RequestCode.FETCH: FETCH.size,
}
"""Payload sizes of the requests whose payload has one size only."""


def decode_fixed(requester: bytes, code: int, payload: bytes) -> FixedRequest:
    """A request whose payload has exactly `FIXED_SIZES[code]` bytes. Raises
    `ValueRejected` (600's name).
    """
    sender = ClientId(requester)
    if code == RequestCode.PULL:
        return PullRequest(sender)
    if code == RequestCode.LIST_USERS:
        return ListUsersRequest(sender)
    if code == RequestCode.PUBLIC_KEY:
        return PublicKeyRequest(sender, ClientId(payload))
    if code == RequestCode.REGISTER:
        name_field, key = REGISTER.unpack(payload)
        return RegisterRequest(sender, unpack_name(name_field), PublicKey(key))
    if code == RequestCode.FETCH:
        return FetchRequest(sender, *FETCH.unpack(payload))
    if code == RequestCode.HELLO:
        return HelloRequest(sender, *HELLO.unpack(payload))
    return ProveRequest(sender, payload)


def encode(request: Request, version: int = CLIENT_VERSION) -> bytes:
    """A request's bytes, header and payload; for a `LargeSendRequest` all that goes
    before the content.
    """
    match request:
        case RegisterRequest(requester, name, key):
            return _frame(requester, version, RequestCode.REGISTER, REGISTER.pack(pack_name(name), key))
        case ListUsersRequest(requester):
            return _frame(requester, version, RequestCode.LIST_USERS, b"")
        case PublicKeyRequest(requester, subject):
            return _frame(requester, version, RequestCode.PUBLIC_KEY, subject)
        case PullRequest(requester):
            return _frame(requester, version, RequestCode.PULL, b"")
        case HelloRequest(requester, extension_version, features):
            return _frame(requester, version, RequestCode.HELLO, HELLO.pack(extension_version, features))
        case ProveRequest(requester, signature):
            return _frame(requester, version, RequestCode.PROVE, signature)
        case FetchRequest(requester, ack, max_bytes, wait):
            return _frame(requester, version, RequestCode.FETCH, FETCH.pack(ack, max_bytes, wait))
        case SendRequest(requester, recipient, kind, content, token):
            return _send_head(requester, version, recipient, kind, len(content), token) + content
        case LargeSendRequest(requester, recipient, kind, size, token):
            return _send_head(requester, version, recipient, kind, size, token)


def _frame(requester: ClientId, version: int, code: int, payload: bytes) -> bytes:
    return REQUEST_HEADER.pack(requester, version, code, len(payload)) + payload


def _send_head(
    requester: ClientId, version: int, recipient: ClientId, kind: int, size: int, token: Token | None
) -> bytes:
    if token is None:
        header = REQUEST_HEADER.pack(requester, version, RequestCode.SEND, SEND_HEAD.size + size)
        return header + SEND_HEAD.pack(recipient, kind, size)
    header = REQUEST_HEADER.pack(requester, version, RequestCode.SEND_ONCE, SEND_ONCE_HEAD.size + size)
    return header + SEND_ONCE_HEAD.pack(token, recipient, kind, size)
