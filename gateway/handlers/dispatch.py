"""What a request becomes: an operation that leaves at once, something that takes the connection for
itself, or no.

Owns: the table of requests, and the rule that a proven connection acts for its user alone.
Promises: pure but for what a `RequestHandler` does when it is made.
Exposure: every value comes from strangers; what the worker alone can know is left to it.
"""

from typing import Final

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    LargeSendRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    Request,
    SendRequest,
)
from common.client_protocol.server_connection import Event, PipelinedSends
from common.storage_protocol.operations import GetPublicKey, Operation, Refused, Register, StoreMessage
from common.values import NO_CLIENT, RefusalReason
from gateway.handlers.base import HandlerContext, RequestHandler
from gateway.handlers.hello import HelloHandler
from gateway.handlers.list_users import ListUsersHandler
from gateway.handlers.mail import FetchHandler, PullHandler
from gateway.handlers.prove import ProveHandler
from gateway.handlers.upload import UploadHandler

FOREIGN: Final = Refused(RefusalReason.PROOF_NEEDED)
"""The answer on a proven connection to a request in another user's name."""
_FLOWING: Final = (PipelinedSends, SendRequest, RegisterRequest, PublicKeyRequest)
SEND_COST: Final = 1024
"""What one message of a run of sends counts as, beside its frame, in what is under way and in a
turn's work.

All costs are bytes. What takes the worker longer than its bytes would counts as more, in
proportion, so that one bound is good for both."""
MALFORMED_COST: Final = 4096
_REGISTER_COST: Final = 65536
_OPERATION_COST: Final = 4096

Flowing = StoreMessage | Register | GetPublicKey


def cost_of(operation: Operation) -> int:
    """What an operation that flows counts as; see `SEND_COST`."""
    match operation:
        case StoreMessage():
            return _OPERATION_COST + len(operation.content)
        case Register():
            return _REGISTER_COST
        case _:
            return _OPERATION_COST


def may_ask(host: HandlerContext, event: Request | PipelinedSends) -> bool:
    """Whether the connection may act for the id in the header: a proven one acts for one
    user alone.
    """
    if host.proven_as is None:
        return True
    return event.requester == host.proven_as and not isinstance(event, RegisterRequest)


def flows(host: HandlerContext, event: Event) -> bool:
    """Whether `event` becomes an operation at once, so that it may leave beside those before it."""
    return isinstance(event, _FLOWING) and may_ask(host, event)


def begin(host: HandlerContext, request: Request) -> Flowing | RequestHandler | Refused:
    """Begin what is asked for."""
    match request:
        case HelloRequest():
            return HelloHandler(host, request)
        case LargeSendRequest():
            # Its content is read to the end in any case.
            return UploadHandler(host, request, None if may_ask(host, request) else FOREIGN)
        case _ if not may_ask(host, request):
            return FOREIGN
        case SendRequest(requester, recipient, kind, content, token):
            return StoreMessage(requester, host.proven_as is not None, recipient, kind, content, token)
        case RegisterRequest(requester, name, public_key):
            wanted = requester if host.greeted and requester != NO_CLIENT else None
            return Register(name, public_key, host.greeted, wanted)
        case PublicKeyRequest(requester, subject):
            return GetPublicKey(requester, host.proven_as is not None, subject)
        case ListUsersRequest(requester):
            return ListUsersHandler(host, requester)
        case PullRequest(requester):
            return PullHandler(host, requester)
        case FetchRequest():
            return FetchHandler(host, request)
        case ProveRequest():
            return ProveHandler(host, request)
