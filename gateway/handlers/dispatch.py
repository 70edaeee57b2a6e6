"""What a request leads to: an operation that is submitted at once, a handler that takes over the
connection, or a refusal.

Owns: the table of requests: type -> handler, who may ask, and, for pipelined operations, their cost
and the response to each outcome; and the rule that an authenticated connection acts for its user
alone.
Promises: every request has a row, or this module can't be imported. Pure but for what a
`RequestHandler` does when it is made, and what `gateway.limits` charges.
Exposure: every value comes from strangers; what only the worker can know is left to it.

The codes and layouts of requests are `common.client_protocol.requests`' table.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, get_args

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
from common.client_protocol.responses import (
    BLOCK_SET,
    encode_about,
    encode_key_claimed,
    encode_keys_kept,
    encode_public_key,
    encode_registered,
    encode_stored,
)
from common.client_protocol.server_connection import Event, PipelinedSends
from common.storage_protocol.operations import (
    AboutServer,
    ClaimKey,
    Done,
    GetAbout,
    GetPublicKey,
    KeyClaimed,
    KeyFound,
    KeysKept,
    Operation,
    Outcome,
    PublishKeys,
    Refused,
    Register,
    Registered,
    SetBlock,
    Stored,
    StoreMessage,
)
from common.tables import complete
from common.values import NO_CLIENT, RefusalReason
from gateway.audit import limit_refused
from gateway.handlers.account import DeleteAccountHandler
from gateway.handlers.base import HandlerContext, RequestHandler
from gateway.handlers.certificates import CertificatesHandler
from gateway.handlers.hello import HelloHandler
from gateway.handlers.list_users import ListUsersHandler
from gateway.handlers.mail import FetchHandler, PullHandler
from gateway.handlers.prove import ProveHandler
from gateway.handlers.upload import UploadHandler
from gateway.limits import RefusedRequests

FOREIGN: Final = Refused(RefusalReason.PROOF_NEEDED)
"""The answer on an authenticated connection to a request in another user's name."""
SEND_COST: Final = 1024
"""What one message of a run of sends counts as, beside its frame, in what is in flight and in a
turn's work.

All costs are bytes. What takes the worker longer than its bytes would counts as more, in
proportion, so that one bound is good for both."""
MALFORMED_COST: Final = 4096
_REGISTER_COST: Final = 65536
_OPERATION_COST: Final = 4096
_PROOF_COUNTS: Final = 3
"""Requests: a signature is checked, which takes as long as some of them. All 128 connections of an
address may come back at once."""

Flowing = StoreMessage | Register | GetPublicKey | GetAbout | SetBlock | PublishKeys | ClaimKey
"""Operations that leave as soon as they are asked for, and may leave beside those before them."""
Asked = TypeVar("Asked")
Sent = TypeVar("Sent", StoreMessage, Register, GetPublicKey, GetAbout, SetBlock, PublishKeys, ClaimKey)
Answer = TypeVar("Answer")


class FlowingRow(NamedTuple):
    """A pipelined operation. `cost` in bytes, see `SEND_COST`; `belongs_to`: the user whose shard
    does it, None for the directory; `encode`: makes the response.
    """

    operation: type[Any]
    cost: Callable[[Any], int]
    belongs_to: Callable[[Any], bytes | None]
    outcome: type[Any]
    encode: Callable[[Any, Any], bytes]


def _flowing(
    operation: type[Sent],
    cost: Callable[[Sent], int],
    belongs_to: Callable[[Sent], bytes | None],
    outcome: type[Answer],
    encode: Callable[[Sent, Answer], bytes],
) -> FlowingRow:
    """A row, whose functions fit its types."""
    return FlowingRow(operation, cost, belongs_to, outcome, encode)


FLOWING: Final[Mapping[type[Operation], FlowingRow]] = complete(
    "FLOWING of gateway/handlers/dispatch.py",
    {
        row.operation: row
        for row in (
            _flowing(
                StoreMessage,
                lambda message: _OPERATION_COST + len(message.content),
                lambda message: message.recipient,
                Stored,
                lambda message, stored: encode_stored(message.recipient, stored.sequence),
            ),
            _flowing(
                Register,
                lambda _: _REGISTER_COST,
                lambda _: None,
                Registered,
                lambda _, found: encode_registered(found.client_id),
            ),
            _flowing(
                GetPublicKey,
                lambda _: _OPERATION_COST,
                lambda asked: asked.requester,
                KeyFound,
                lambda _, found: encode_public_key(found.client_id, found.public_key),
            ),
            _flowing(
                GetAbout,
                lambda _: _OPERATION_COST,
                lambda _: None,
                AboutServer,
                lambda _, about: encode_about(
                    about.expire_days,
                    about.largest_message,
                    about.mailbox_messages,
                    about.mailbox_bytes,
                    about.registration,
                    about.text,
                ),
            ),
            _flowing(
                SetBlock,
                lambda _: _OPERATION_COST,
                lambda asked: asked.requester,
                Done,
                lambda _, _done: BLOCK_SET,
            ),
            _flowing(
                PublishKeys,
                lambda publish: _OPERATION_COST + len(publish.bundle) + len(publish.one_time_keys),
                lambda publish: publish.requester,
                KeysKept,
                lambda _, kept: encode_keys_kept(kept.kept),
            ),
            _flowing(
                ClaimKey,
                lambda _: _OPERATION_COST,
                lambda claim: claim.subject,
                KeyClaimed,
                lambda _, claimed: encode_key_claimed(claimed.bundle, claimed.one_time_key),
            ),
        )
    },
    get_args(Flowing),
)


def cost_of(operation: Operation) -> int:
    """The cost of a pipelined operation; see `SEND_COST`."""
    return FLOWING[type(operation)].cost(operation)


def belongs_to(operation: Operation) -> bytes | None:
    """The user whose shard does a pipelined operation; None for the directory."""
    return FLOWING[type(operation)].belongs_to(operation)


def response_to(operation: Operation, outcome: Outcome) -> bytes | None:
    """The response to a pipelined operation; None if the outcome is not one of its own."""
    row = FLOWING[type(operation)]
    return row.encode(operation, outcome) if type(outcome) is row.outcome else None


class RequestRow(NamedTuple):
    """What a request leads to. `flows`: an operation of `FLOWING`, submitted at once; otherwise a
    handler takes over the connection.

    `counts`: as how many it counts in the limit of requests; 0 if another limit holds, or none.
    `may_ask`: whether a connection that is authenticated as this user may make the request.
    """

    request: type[Any]
    flows: bool
    counts: int
    may_ask: Callable[[bytes, Any], bool]
    begin: Callable[[HandlerContext, Any], Flowing | RequestHandler | Refused]


def _flows(
    request: type[Asked],
    counts: int,
    may_ask: Callable[[bytes, Asked], bool],
    operation: Callable[[HandlerContext, Asked], Flowing | Refused],
) -> RequestRow:
    """A row, whose functions fit its type."""
    return RequestRow(request, True, counts, may_ask, operation)


def _takes_connection(
    request: type[Asked],
    counts: int,
    may_ask: Callable[[bytes, Asked], bool],
    handler: Callable[[HandlerContext, Asked], RequestHandler],
) -> RequestRow:
    """The same."""
    return RequestRow(request, False, counts, may_ask, handler)


def _in_own_name(authenticated_as: bytes, request: Request | PipelinedSends) -> bool:
    return request.requester == authenticated_as


def _always(_authenticated_as: bytes, _request: object) -> bool:
    return True


def _never(_authenticated_as: bytes, _request: object) -> bool:
    return False


def _store_message(connection: HandlerContext, request: SendRequest) -> StoreMessage | Refused:
    if connection.allowance is not None:
        refused = connection.allowance.send(connection.authenticated_as, connection.context.loop.now)
        if refused is not None:
            return refused
    requester, recipient, kind, content, token = request
    return StoreMessage(requester, connection.authenticated_as is not None, recipient, kind, content, token)


def _register(connection: HandlerContext, request: RegisterRequest) -> Register | Refused:
    refused = _too_many_registrations(connection)
    if refused is not None:
        return refused
    return Register(request.name, request.public_key, connection.greeted, _wanted_id(connection, request.requester))


def _register_invited(connection: HandlerContext, request: RegisterInvitedRequest) -> Register | Refused:
    # Each guess of an invitation is one, too.
    refused = _too_many_registrations(connection)
    if refused is not None:
        return refused
    requester, name, public_key, invitation = request
    return Register(name, public_key, True, _wanted_id(connection, requester), invitation)


def _too_many_registrations(connection: HandlerContext) -> Refused | None:
    return None if connection.allowance is None else connection.allowance.register(connection.context.loop.now)


def _wanted_id(connection: HandlerContext, requester: bytes) -> bytes | None:
    """The id that a client who has greeted had before a backup was restored."""
    return requester if connection.greeted and requester != NO_CLIENT else None


def _about(_connection: HandlerContext, _request: AboutRequest) -> GetAbout:
    return GetAbout()


def _get_public_key(connection: HandlerContext, request: PublicKeyRequest) -> GetPublicKey:
    return GetPublicKey(request.requester, connection.authenticated_as is not None, request.subject)


def _set_block(connection: HandlerContext, request: BlockRequest) -> SetBlock:
    return SetBlock(request.requester, connection.authenticated_as is not None, request.sender, request.blocked)


def _publish_keys(connection: HandlerContext, request: PublishKeysRequest) -> PublishKeys:
    requester, forget, bundle, one_time_keys = request
    return PublishKeys(requester, connection.authenticated_as is not None, forget, bundle, one_time_keys)


def _claim_key(connection: HandlerContext, request: ClaimKeyRequest) -> ClaimKey:
    user = connection.authenticated_as
    allowance, now = connection.allowance, connection.context.loop.now
    one_time = user is not None and (allowance is None or allowance.claim(user, request.subject, now))
    return ClaimKey(request.requester, user is not None, request.subject, one_time)


def _upload(connection: HandlerContext, request: LargeSendRequest) -> UploadHandler:
    refused = None
    if connection.authenticated_as is not None and not _in_own_name(connection.authenticated_as, request):
        refused = FOREIGN
    elif connection.allowance is not None:
        refused = connection.allowance.upload(connection.authenticated_as, request.size, connection.context.loop.now)
        if refused is not None:
            limit_refused("contents", connection.authenticated_as, 1)
    return UploadHandler(connection, request, refused)


def _list_users(connection: HandlerContext, request: ListUsersRequest) -> ListUsersHandler:
    return ListUsersHandler(connection, request.requester)


def _pull(connection: HandlerContext, request: PullRequest) -> PullHandler:
    return PullHandler(connection, request.requester)


HANDLERS: Final[Mapping[type[Request], RequestRow]] = complete(
    "HANDLERS of gateway/handlers/dispatch.py",
    {
        row.request: row
        for row in (
            _flows(RegisterRequest, 0, _never, _register),
            _takes_connection(ListUsersRequest, 1, _in_own_name, _list_users),
            _flows(PublicKeyRequest, 1, _in_own_name, _get_public_key),
            _flows(SendRequest, 0, _in_own_name, _store_message),
            # A content is read to its end in any case: the handler itself refuses.
            _takes_connection(LargeSendRequest, 0, _always, _upload),
            _takes_connection(PullRequest, 1, _in_own_name, _pull),
            # Whose greeting is refused takes the server for one of the published protocol alone.
            _takes_connection(HelloRequest, 0, _always, HelloHandler),
            _takes_connection(ProveRequest, _PROOF_COUNTS, _in_own_name, ProveHandler),
            _takes_connection(FetchRequest, 1, _in_own_name, FetchHandler),
            _flows(PublishKeysRequest, 1, _in_own_name, _publish_keys),
            _flows(ClaimKeyRequest, 1, _in_own_name, _claim_key),
            _flows(RegisterInvitedRequest, 0, _never, _register_invited),
            _takes_connection(DeleteAccountRequest, 1, _in_own_name, DeleteAccountHandler),
            _flows(AboutRequest, 1, _always, _about),
            _takes_connection(CertificatesRequest, 1, _always, CertificatesHandler),
            _flows(BlockRequest, 1, _in_own_name, _set_block),
        )
    },
    get_args(Request),
)
"""Every request."""
_FLOWING_EVENTS: Final[dict[type, Callable[[bytes, Any], bool]]] = {
    PipelinedSends: _in_own_name,
    **{request: row.may_ask for request, row in HANDLERS.items() if row.flows},
}


def flows(connection: HandlerContext, event: Event | RefusedRequests) -> bool:
    """Whether `event` becomes an operation at once, so that it may be submitted before earlier ones
    are answered.
    """
    may_ask = _FLOWING_EVENTS.get(type(event))
    return may_ask is not None and (connection.authenticated_as is None or may_ask(connection.authenticated_as, event))


def begin(connection: HandlerContext, request: Request) -> Flowing | RequestHandler | Refused:
    """Begin a request. An authenticated connection acts only for its user, and every connection
    within its limits.
    """
    row = HANDLERS[type(request)]
    connection.context.counts.request(request)
    if connection.authenticated_as is not None and not row.may_ask(connection.authenticated_as, request):
        return FOREIGN
    if row.counts and connection.allowance is not None:
        refused = connection.allowance.ask(connection.authenticated_as, row.counts, connection.context.loop.now)
        if refused is not None:
            return refused
    return row.begin(connection, request)
