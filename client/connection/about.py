"""What the server says about itself (648), in words.

Owns: the request, and the sentences. Promises: a server without 648 is no error; the operator's
text is sanitized, shortened and put on one line.
Exposure: every value is the server's.

Source: docs/client-protocol.md, "648, about".
"""

from typing import Final

from client.connection.handshake import Greeting
from client.connection.server_link import ServerLink
from client.errors import ClientError
from client.terminal.sanitize import visible_line
from common.client_protocol.requests import AboutRequest
from common.client_protocol.responses import AboutResponse
from common.client_protocol.versions import Feature
from common.values import NO_CLIENT, Registration

_LONGEST: Final = 500
"""Characters of the operator's text that are shown."""
_WHO: Final = {
    Registration.OPEN: "everybody may register",
    Registration.INVITED: "one registers with an invitation",
    Registration.CLOSED: "nobody can register",
}
_UNITS: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def ask(link: ServerLink, greeting: Greeting) -> AboutResponse | None:
    """What the server says about itself; None if it does not support 648. Raises
    `ServerUnreachable`, `OutcomeUnknown`, and what the greeting raises.
    """
    link.connect()
    if greeting.session is None or not greeting.session.features & Feature.ACCOUNTS:
        return None
    answer = link.ask(AboutRequest(NO_CLIENT))
    return answer if isinstance(answer, AboutResponse) else None


def ask_quietly(link: ServerLink, greeting: Greeting) -> AboutResponse | None:
    """The same, but returns None if the server can't be asked."""
    try:
        return ask(link, greeting)
    except ClientError:
        return None


def sentence(about: AboutResponse) -> str:
    """The server's settings, as one sentence."""
    who = _WHO.get(Registration(about.registration)) if about.registration in set(Registration) else None
    kept = f"deleted after {about.expire_days} days" if about.expire_days else "kept until it is fetched"
    return (
        f"{who or 'registration is as its operator says'}; mail is {kept}; up to {size(about.largest_message)} "
        f"a message, and {about.mailbox_messages} messages and {size(about.mailbox_bytes)} waiting for you"
    )


def operators_text(about: AboutResponse) -> str:
    """The operator's text, sanitized; empty if there is none."""
    shown = visible_line(" ".join(about.text.split()))
    return f"{shown[:_LONGEST]}{'…' if len(shown) > _LONGEST else ''}"


def size(number: int) -> str:
    """A number of bytes, rounded down to a common unit."""
    for name, unit in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number} bytes"
