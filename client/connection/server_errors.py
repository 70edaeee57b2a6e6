"""What an error answer most likely means, and what to do next.

Owns: the sentences behind 9000 and 9001.
Promises: every request and every reason has its sentence, or this module can't be imported. A 9000,
which carries no reason, gets the likely reasons for the refused request. A text that the server
added is quoted on one line, shortened and sanitized.

Source: docs/client-protocol.md, "Errors".
"""

from collections.abc import Mapping
from typing import Final

from client.errors import InvalidServerResponse, ServerAnsweredError
from client.terminal.sanitize import visible_line
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ErrorResponse, Whole
from common.tables import complete
from common.values import RefusalReason

_LONGEST_QUOTE: Final = 300
"""Characters of a server's text that are shown."""
_LIST_USERS: Final = "`messageu users`, or 120 in the console, lists everybody the server knows."
_NOT_STORED: Final = (
    "Most likely the content is too large, the recipient's mailbox or the server is full, "
    "or the server does not know the recipient or this account.",
    "It was not stored. Try something smaller, or again later; `messageu users` lists the users that the server knows.",
)
_LIKELY: Final[Mapping[RequestCode, tuple[str, str]]] = complete(
    "_LIKELY of client/connection/server_errors.py",
    {
        RequestCode.REGISTER: (
            "Most likely the name is taken already.",
            "Choose another name.",
        ),
        RequestCode.LIST_USERS: (
            "Most likely the server does not know this account.",
            "Check that server.info leads to the server where it was registered.",
        ),
        RequestCode.PUBLIC_KEY: (
            "Most likely the server does not know that user, or this account.",
            _LIST_USERS,
        ),
        RequestCode.SEND: _NOT_STORED,
        RequestCode.SEND_ONCE: _NOT_STORED,
        RequestCode.PULL: (
            "Most likely the server does not know this account.",
            "Check that server.info leads to the server where it was registered.",
        ),
        RequestCode.HELLO: (
            "Most likely the server speaks only the published protocol.",
            "Start again with --published-only.",
        ),
        RequestCode.PROVE: (
            "Most likely the server does not know this account, or has another key for it.",
            "Check that server.info leads to the server where it was registered.",
        ),
        RequestCode.FETCH: (
            "Most likely the server does not know this account.",
            "Check that server.info leads to the server where it was registered.",
        ),
        RequestCode.PUBLISH_KEYS: (
            "Most likely the server is of an earlier version, or full.",
            "Ask its operator.",
        ),
        RequestCode.CLAIM_KEY: (
            "Most likely that user has published no keys for the modern cipher suite.",
            "Wait until that user's program has signed in.",
        ),
        RequestCode.REGISTER_INVITED: (
            "Most likely the invitation is not good any more, or the name is taken already.",
            "Ask whoever gave you the link for another one, or choose another name.",
        ),
        RequestCode.DELETE_ACCOUNT: (
            "Most likely this connection has not proven the account.",
            "Start again with --no-published-only.",
        ),
        RequestCode.ABOUT: (
            "Most likely the server is of an earlier version, or of another program.",
            "Ask its operator.",
        ),
        RequestCode.BLOCK: (
            "Most likely the server does not know that user, or as many are blocked as may be (1,000).",
            "`messageu blocked` lists them; `messageu unblock NAME` makes room.",
        ),
        RequestCode.CERTIFICATES: (
            "Most likely this connection is not over TLS.",
            "Check that the server's address begins with messageu://.",
        ),
    },
    RequestCode,
)
_REASONS: Final[Mapping[int, tuple[str, str]]] = complete(
    "_REASONS of client/connection/server_errors.py",
    {
        RefusalReason.MALFORMED: (
            "The server could not make sense of the request.",
            "Check that both sides are up to date.",
        ),
        RefusalReason.REQUESTER_UNKNOWN: (
            "The server does not know this account.",
            "Check that server.info leads to the server where it was registered.",
        ),
        RefusalReason.RECIPIENT_UNKNOWN: ("The server does not know that user.", _LIST_USERS),
        RefusalReason.PROOF_NEEDED: (
            "This account has signed in before, and this connection has not.",
            "Start again with --no-published-only.",
        ),
        RefusalReason.TOO_LARGE: ("The content is too large for this server.", "Send something smaller."),
        RefusalReason.MAILBOX_FULL: ("The recipient's mailbox is full.", "Wait until the recipient has fetched."),
        RefusalReason.TOO_FAST: ("The server was asked too much in a short time.", "Wait a little."),
        RefusalReason.STORAGE_FULL: ("The server's storage is full.", "Wait until its operator has made room."),
        RefusalReason.TOKEN_REUSED: (
            "The server has another message under the same token.",
            "Send it again as a new message.",
        ),
        RefusalReason.NAME_TAKEN: ("The name is taken, or looks like one that is.", "Choose another name."),
        RefusalReason.SENDER_SHARE: (
            "The recipient's mailbox is filling up, and holds as much from you as one sender may have.",
            "Wait until the recipient has fetched.",
        ),
        RefusalReason.DAMAGED: (
            "The server has what this needs, but damaged on its disk.",
            "Its operator has to repair it; the server's log names the problem. Then try again.",
        ),
        RefusalReason.INVITATION: (
            "The server registers whoever has an invitation, and this was none that is good: there is none in the "
            "address, or it was used up or revoked, or its time is over.",
            "Ask the operator for a link with an invitation, and give it with --server.",
        ),
        RefusalReason.REGISTRATION_CLOSED: (
            "The server takes no registrations at present.",
            "Ask its operator.",
        ),
        RefusalReason.DISABLED: (
            "The server's operator has disabled this account; what is sent to it is kept.",
            "Ask the operator.",
        ),
        RefusalReason.NO_KEYS: (
            "The user has published no keys for the modern cipher suite.",
            "Wait until that user's program has signed in.",
        ),
        RefusalReason.UNAVAILABLE: (
            "The server can't do this at present: a part of it is down.",
            "Try again a little later.",
        ),
    },
    RefusalReason,
)


def refused(request: RequestCode, answer: ErrorResponse) -> ServerAnsweredError:
    """Put an error answer into words."""
    if answer.reason is not None:
        sentence, advice = _REASONS.get(
            answer.reason, (f"The server gave the reason {answer.reason}.", "Try again later.")
        )
        if answer.retry_after:
            advice += f" It asks to wait {answer.retry_after} s."
    else:
        sentence, advice = _LIKELY[request]
        sentence += quoted(answer.text)
    return ServerAnsweredError(sentence, advice, answer.reason, answer.retry_after)


def quoted(text: str) -> str:
    """The text that a server added to its refusal, as a sentence; empty if there was none."""
    # Cut before it is examined character by character.
    words = " ".join(text[: 4 * _LONGEST_QUOTE].split())
    if not words:
        return ""
    shown = visible_line(words.replace("\\", "\\\\").replace('"', '\\"'))
    is_cut = len(shown) > _LONGEST_QUOTE or len(text) > 4 * _LONGEST_QUOTE
    return f' The server says: "{shown[:_LONGEST_QUOTE]}{"…" if is_cut else ""}"'


def unexpected(answer: Whole) -> InvalidServerResponse:
    """Make the error for an answer that belongs to no request of ours."""
    return InvalidServerResponse(
        f"The server gave the answer to another request ({type(answer).__name__}).",
        "Check that server.info leads to a MessageU server.",
    )
