"""Requests as values, and their bytes: one table, code -> layout -> type -> replay class.

Owns: the codes of requests, their layouts and one value per code; encoding (for clients); decoding
of whole payloads (for the server); what a repeat of each request does.
Promises: part 1's codes are the published ones, the others codes that no known MessageU program
uses. 605 is never used: one public server deletes the account on it. Every code has a row, or this
module can't be imported. A decoded request is valid as far as that can be known without the store;
the length was checked before.
Exposure: `FixedLayout.decode` is fed with strangers' bytes; a rejection is `ValueRejected`, nothing
else.

The table in `gateway.handlers.dispatch` says which handler serves a request, and the one in
`torture.impersonation` how it is attacked.

Source: docs/client-protocol.md, "Requests".
"""

from collections.abc import Callable, Mapping
from enum import Enum, IntEnum, auto
from struct import Struct
from typing import Any, Final, NamedTuple, TypeVar, get_args

from common.client_protocol.fields import REQUEST_HEADER, pack_name, unpack_name
from common.client_protocol.versions import CLIENT_VERSION
from common.errors import ValueRejected
from common.tables import complete
from common.values import (
    CLIENT_ID_SIZE,
    LONGEST_BUNDLE,
    MOST_PUBLISHED,
    ONE_TIME_KEY_SIZE,
    ClientId,
    Invitation,
    PublicKey,
    Token,
    Username,
)


class RequestCode(IntEnum):
    """The codes of requests."""

    REGISTER = 600
    LIST_USERS = 601
    PUBLIC_KEY = 602
    SEND = 603
    PULL = 604
    HELLO = 640
    PROVE = 641
    SEND_ONCE = 642
    FETCH = 643
    PUBLISH_KEYS = 644
    CLAIM_KEY = 645
    REGISTER_INVITED = 646
    DELETE_ACCOUNT = 647
    ABOUT = 648
    CERTIFICATES = 649
    BLOCK = 651


REGISTER: Final = Struct("<255s160s")
"""name field, public key"""
REGISTER_INVITED: Final = Struct("<255s160s16s")
"""name field, public key, invitation"""
SEND_HEAD: Final = Struct("<16sBI")
"""recipient, kind, content size"""
SEND_REQUEST: Final = Struct("<16sBHI16sBI")
"""a whole 603 up to its content: the header, then `SEND_HEAD`"""
SEND_ONCE_HEAD: Final = Struct("<16s16sBI")
"""token, recipient, kind, content size"""
SEND_ONCE_REQUEST: Final = Struct("<16sBHI16s16sBI")
"""a whole 642 up to its content: the header, then `SEND_ONCE_HEAD`"""
HELLO: Final = Struct("<II")
"""extension version, features"""
FETCH: Final = Struct("<QIH")
"""ack, max bytes, wait seconds"""
BLOCK: Final = Struct("<B16s")
"""1 to block, 0 to take that back; client id"""
SIGNATURE_SIZE: Final = 128
PUBLISH_KEYS_HEAD: Final = Struct("<BH")
"""flags, bundle size; the bundle follows, then the one-time keys behind their count"""
KEY_COUNT: Final = Struct("<H")
"""count of the one-time keys that follow"""
FLAG_FORGET_KEPT: Final = 1
"""The one-time keys that the server keeps of the user are dropped."""
_AROUND_BUNDLE: Final = PUBLISH_KEYS_HEAD.size + KEY_COUNT.size
PUBLISH_KEYS_SIZES: Final = range(
    _AROUND_BUNDLE + 1, _AROUND_BUNDLE + LONGEST_BUNDLE + MOST_PUBLISHED * ONE_TIME_KEY_SIZE + 1
)
"""Sizes that a 644's payload may have, in bytes."""


class RegisterRequest(NamedTuple):
    """600. On a connection that has greeted, the header's client id is the one that the client
    wants; otherwise it is ignored.
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
    """603, or 642 if `token` is set."""

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


class PublishKeysRequest(NamedTuple):
    """644: the user's bundle, of 1 to `LONGEST_BUNDLE` bytes, and at most `MOST_PUBLISHED` one-time
    keys of `ONE_TIME_KEY_SIZE` bytes, one behind the other.

    `forget`: those that the server keeps are dropped.
    """

    requester: ClientId
    forget: bool
    bundle: bytes
    one_time_keys: bytes


class ClaimKeyRequest(NamedTuple):
    """645: the bundle of `subject`, and one of their one-time keys."""

    requester: ClientId
    subject: ClientId


class RegisterInvitedRequest(NamedTuple):
    """646. The header's client id is as in 600."""

    requester: ClientId
    name: Username
    public_key: PublicKey
    invitation: Invitation


class DeleteAccountRequest(NamedTuple):
    """647. `confirmed`: the id of the account once more."""

    requester: ClientId
    confirmed: ClientId


class AboutRequest(NamedTuple):
    """648. The header's client id is ignored."""

    requester: ClientId


class CertificatesRequest(NamedTuple):
    """649. The header's client id is ignored."""

    requester: ClientId


class BlockRequest(NamedTuple):
    """651: whether messages of `sender` are to be kept from the requester's mailbox."""

    requester: ClientId
    blocked: bool
    sender: ClientId


FixedRequest = (
    RegisterRequest
    | ListUsersRequest
    | PublicKeyRequest
    | PullRequest
    | HelloRequest
    | ProveRequest
    | FetchRequest
    | PublishKeysRequest
    | ClaimKeyRequest
    | RegisterInvitedRequest
    | DeleteAccountRequest
    | AboutRequest
    | CertificatesRequest
    | BlockRequest
)
Request = FixedRequest | SendRequest | LargeSendRequest


class Replay(Enum):
    """What repeating a request does when its first answer was lost."""

    READS = auto()
    """Neither of the two changes anything that is stored."""
    SAME = auto()
    """Nothing: what the first one did is done once."""
    AGAIN = auto()
    """It is done again: a second message is stored, a name is taken already, other messages
    come.
    """


class FixedLayout(NamedTuple):
    """A request that is decoded at once, from a payload of one of `sizes` bytes, which is one size
    for most. `decode` may raise `ValueRejected`.
    """

    code: RequestCode
    request: type[FixedRequest]
    sizes: range
    decode: Callable[[ClientId, bytes], FixedRequest]
    payload: Callable[[Any], bytes]
    replay: Replay


class ContentLayout(NamedTuple):
    """A request with a head and a content. `request`: with the whole content; `large`: the content
    follows.
    """

    code: RequestCode
    request: type[SendRequest]
    large: type[LargeSendRequest]
    head: Struct
    replay: Replay


Fixed = TypeVar(
    "Fixed",
    RegisterRequest,
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    HelloRequest,
    ProveRequest,
    FetchRequest,
    PublishKeysRequest,
    ClaimKeyRequest,
    RegisterInvitedRequest,
    DeleteAccountRequest,
    AboutRequest,
    CertificatesRequest,
    BlockRequest,
)


def _fixed(
    code: RequestCode,
    request: type[Fixed],
    size: int | range,
    decode: Callable[[ClientId, bytes], Fixed],
    payload: Callable[[Fixed], bytes],
    replay: Replay,
) -> FixedLayout:
    """A row. Its functions are checked against its type."""
    sizes = size if isinstance(size, range) else range(size, size + 1)
    return FixedLayout(code, request, sizes, decode, payload, replay)


def _content(code: RequestCode, head: Struct, replay: Replay) -> ContentLayout:
    return ContentLayout(code, SendRequest, LargeSendRequest, head, replay)


def _decode_register(requester: ClientId, payload: bytes) -> RegisterRequest:
    name_field, key = REGISTER.unpack(payload)
    return RegisterRequest(requester, unpack_name(name_field), PublicKey(key))


def _decode_register_invited(requester: ClientId, payload: bytes) -> RegisterInvitedRequest:
    name_field, key, invitation = REGISTER_INVITED.unpack(payload)
    return RegisterInvitedRequest(requester, unpack_name(name_field), PublicKey(key), Invitation(invitation))


def _decode_publish_keys(requester: ClientId, payload: bytes) -> PublishKeysRequest:
    flags, bundle_size = PUBLISH_KEYS_HEAD.unpack_from(payload)
    if flags & ~FLAG_FORGET_KEPT:
        raise ValueRejected(f"flags that nobody knows: {flags:#x}")
    if not 1 <= bundle_size <= LONGEST_BUNDLE:
        raise ValueRejected(f"a bundle has 1 to {LONGEST_BUNDLE} bytes, not {bundle_size}")
    at = PUBLISH_KEYS_HEAD.size + bundle_size
    keys_at = at + KEY_COUNT.size
    if len(payload) < keys_at:
        raise ValueRejected("the bundle is cut off")
    (count,) = KEY_COUNT.unpack_from(payload, at)
    keys = payload[keys_at:]
    if count > MOST_PUBLISHED or len(keys) != count * ONE_TIME_KEY_SIZE:
        raise ValueRejected(f"{count} one-time keys in {len(keys)} bytes, at most {MOST_PUBLISHED} at a time")
    return PublishKeysRequest(requester, flags == FLAG_FORGET_KEPT, payload[PUBLISH_KEYS_HEAD.size : at], keys)


def _publish_keys_payload(request: PublishKeysRequest) -> bytes:
    head = PUBLISH_KEYS_HEAD.pack(FLAG_FORGET_KEPT if request.forget else 0, len(request.bundle))
    count = KEY_COUNT.pack(len(request.one_time_keys) // ONE_TIME_KEY_SIZE)
    return b"".join((head, request.bundle, count, request.one_time_keys))


def _decode_block(requester: ClientId, payload: bytes) -> BlockRequest:
    action, sender = BLOCK.unpack(payload)
    if action not in {0, 1}:
        raise ValueRejected(f"the action is 1 (block) or 0 (unblock), not {action}")
    return BlockRequest(requester, action == 1, ClientId(sender))


ROWS: Final[tuple[FixedLayout | ContentLayout, ...]] = (
    _fixed(
        RequestCode.REGISTER,
        RegisterRequest,
        REGISTER.size,
        _decode_register,
        lambda request: REGISTER.pack(pack_name(request.name), request.public_key),
        Replay.AGAIN,
    ),
    _fixed(
        RequestCode.LIST_USERS,
        ListUsersRequest,
        0,
        lambda requester, _payload: ListUsersRequest(requester),
        lambda _request: b"",
        Replay.READS,
    ),
    _fixed(
        RequestCode.PUBLIC_KEY,
        PublicKeyRequest,
        CLIENT_ID_SIZE,
        lambda requester, payload: PublicKeyRequest(requester, ClientId(payload)),
        lambda request: request.subject,
        Replay.READS,
    ),
    _content(RequestCode.SEND, SEND_HEAD, Replay.AGAIN),
    # What was answered is deleted once it is known to be read: a second one brings other messages.
    _fixed(
        RequestCode.PULL,
        PullRequest,
        0,
        lambda requester, _payload: PullRequest(requester),
        lambda _request: b"",
        Replay.AGAIN,
    ),
    _fixed(
        RequestCode.HELLO,
        HelloRequest,
        HELLO.size,
        lambda requester, payload: HelloRequest(requester, *HELLO.unpack(payload)),
        lambda request: HELLO.pack(request.extension_version, request.features),
        Replay.READS,
    ),
    _fixed(
        RequestCode.PROVE, ProveRequest, SIGNATURE_SIZE, ProveRequest, lambda request: request.signature, Replay.SAME
    ),
    _content(RequestCode.SEND_ONCE, SEND_ONCE_HEAD, Replay.SAME),
    _fixed(
        RequestCode.FETCH,
        FetchRequest,
        FETCH.size,
        lambda requester, payload: FetchRequest(requester, *FETCH.unpack(payload)),
        lambda request: FETCH.pack(request.ack, request.max_bytes, request.wait),
        Replay.SAME,
    ),
    # The server knows the last publication again: its keys are not kept a second time.
    _fixed(
        RequestCode.PUBLISH_KEYS,
        PublishKeysRequest,
        PUBLISH_KEYS_SIZES,
        _decode_publish_keys,
        _publish_keys_payload,
        Replay.SAME,
    ),
    # A second claim takes a second one-time key.
    _fixed(
        RequestCode.CLAIM_KEY,
        ClaimKeyRequest,
        CLIENT_ID_SIZE,
        lambda requester, payload: ClaimKeyRequest(requester, ClientId(payload)),
        lambda request: request.subject,
        Replay.AGAIN,
    ),
    _fixed(
        RequestCode.REGISTER_INVITED,
        RegisterInvitedRequest,
        REGISTER_INVITED.size,
        _decode_register_invited,
        lambda request: REGISTER_INVITED.pack(pack_name(request.name), request.public_key, request.invitation),
        Replay.SAME,
    ),
    _fixed(
        RequestCode.DELETE_ACCOUNT,
        DeleteAccountRequest,
        CLIENT_ID_SIZE,
        lambda requester, payload: DeleteAccountRequest(requester, ClientId(payload)),
        lambda request: request.confirmed,
        Replay.SAME,
    ),
    _fixed(
        RequestCode.ABOUT,
        AboutRequest,
        0,
        lambda requester, _payload: AboutRequest(requester),
        lambda _request: b"",
        Replay.READS,
    ),
    _fixed(
        RequestCode.CERTIFICATES,
        CertificatesRequest,
        0,
        lambda requester, _payload: CertificatesRequest(requester),
        lambda _request: b"",
        Replay.READS,
    ),
    _fixed(
        RequestCode.BLOCK,
        BlockRequest,
        BLOCK.size,
        _decode_block,
        lambda request: BLOCK.pack(request.blocked, request.sender),
        Replay.SAME,
    ),
)
LAYOUTS: Final[Mapping[RequestCode, FixedLayout | ContentLayout]] = complete(
    "LAYOUTS of common/client_protocol/requests.py", {row.code: row for row in ROWS}, RequestCode
)
"""Every request."""
FIXED: Final[dict[int, FixedLayout]] = {row.code: row for row in ROWS if isinstance(row, FixedLayout)}
"""Those without a content of their own, for a code as it came."""
LARGEST_FIXED: Final = max(row.sizes.stop - 1 for row in FIXED.values())
"""Bytes of the largest payload of these."""
_BY_TYPE: Final[Mapping[type[FixedRequest], FixedLayout]] = complete(
    "ROWS of common/client_protocol/requests.py", {row.request: row for row in FIXED.values()}, get_args(FixedRequest)
)


def encode(request: Request, version: int = CLIENT_VERSION) -> bytes:
    """A request's bytes, header and payload; for a `LargeSendRequest` everything before the
    content.
    """
    if isinstance(request, SendRequest):
        return _send_head(request, version, len(request.content)) + request.content
    if isinstance(request, LargeSendRequest):
        return _send_head(request, version, request.size)
    layout = _BY_TYPE[type(request)]
    payload = layout.payload(request)
    return REQUEST_HEADER.pack(request.requester, version, layout.code, len(payload)) + payload


def _send_head(request: SendRequest | LargeSendRequest, version: int, size: int) -> bytes:
    requester, recipient, kind, token = request.requester, request.recipient, request.kind, request.token
    if token is None:
        header = REQUEST_HEADER.pack(requester, version, RequestCode.SEND, SEND_HEAD.size + size)
        return header + SEND_HEAD.pack(recipient, kind, size)
    header = REQUEST_HEADER.pack(requester, version, RequestCode.SEND_ONCE, SEND_ONCE_HEAD.size + size)
    return header + SEND_ONCE_HEAD.pack(token, recipient, kind, size)
