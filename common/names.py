"""Names of users: two kinds, their spellings, and what a client of the published protocol sees.

Owns: the form of a name that may be beyond ASCII; its normal form, which users need not type; and
its ASCII form, under which published clients know it.
Promises: pure. A name in ASCII is checked as `common.values.username` does. `ascii_form` and
`from_ascii_form` are inverses. Whether a name may be registered depends on more than its form: see
`common.name_rule`.
Exposure: fed with bytes and names of strangers.

Source: docs/client-protocol.md, "Names beyond ASCII".
"""

import unicodedata
from typing import Final

from common.errors import ValueRejected
from common.values import MAX_NAME_LENGTH, Username, username

ASCII_FORM: Final = "xn--"
"""What the ASCII form of a name beyond ASCII begins with; its Punycode (RFC 3492) follows."""
_UNPRINTABLE: Final = "a name has no control, invisible or unassigned characters"


def normal_form(text: str) -> str:
    """A name as it is registered, for one as it was typed: composed, full width letters narrow."""
    return unicodedata.normalize("NFKC", text)


def any_username(text: str) -> Username:
    """Check the form of a name, which may be beyond ASCII. Raises `ValueRejected` that says why."""
    if text.isascii():
        if not text.isprintable():
            raise ValueRejected(_UNPRINTABLE)
        return username(text)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ValueRejected("a name must be text, and this one has bytes that are not characters") from error
    if size > MAX_NAME_LENGTH:
        raise ValueRejected(f"a name has at most {MAX_NAME_LENGTH} bytes of UTF-8, not {size}")
    if not text.isprintable():
        raise ValueRejected(_UNPRINTABLE)
    if text[0] == " " or text[-1] == " ":
        raise ValueRejected("a name neither begins nor ends with a space")
    if normal_form(text) != text:
        raise ValueRejected("a name is written in its normal form (NFKC)")
    if len(ascii_form(Username(text))) > MAX_NAME_LENGTH:
        raise ValueRejected(f"a name's ASCII form has at most {MAX_NAME_LENGTH} characters")
    return Username(text)


def ascii_form(name: Username) -> str:
    """What published clients see of a name: the name itself if it is ASCII."""
    return name if name.isascii() else ASCII_FORM + name.encode("punycode").decode("ascii")


def from_ascii_form(text: str) -> Username | None:
    """The name beyond ASCII with this ASCII form, or None if there is none."""
    if not text.startswith(ASCII_FORM):
        return None
    try:
        name = any_username(text.removeprefix(ASCII_FORM).encode("ascii").decode("punycode"))
    except (UnicodeError, ValueRejected):
        return None
    return name if not name.isascii() and ascii_form(name) == text else None
