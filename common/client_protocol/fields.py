"""What requests and responses have in common: headers, the name field, message ids.

Owns: the layouts of the headers, little-endian like all others. Those of payloads are beside their
codes in `requests` and `responses`.
Promises: sizes are computed from the layouts, never written twice.
Exposure: `unpack_name` is fed with strangers' bytes.

Source: docs/client-protocol.md, "Layouts".
"""

from struct import Struct
from typing import Final

from common.errors import ValueRejected
from common.names import any_username
from common.values import NAME_FIELD_SIZE, Username

REQUEST_HEADER: Final = Struct("<16sBHI")
"""client id, version, code, payload size"""
RESPONSE_HEADER: Final = Struct("<BHI")
"""version, code, payload size"""


def pack_name(name: Username) -> bytes:
    """A name as its 255-byte field: UTF-8, NUL-terminated, zero-padded."""
    return name.encode("utf-8").ljust(NAME_FIELD_SIZE, b"\0")


def unpack_name(field: bytes) -> Username:
    """The name in a 255-byte field: what precedes the first NUL. Raises `ValueRejected`.

    What follows the NUL is ignored: some clients leave it uninitialised. The name may be beyond
    ASCII; whether it is allowed is not decided here.
    """
    raw, nul, _rest = field.partition(b"\0")
    if not nul:
        raise ValueRejected("a name field ends with a NUL")
    try:
        return any_username(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueRejected("a name is text in UTF-8") from error


def message_id(sequence: int) -> int:
    """The u32 that part 1 shows for a sequence: 1, 2, 3 …, starting over after 4,294,967,295, never
    0.
    """
    return (sequence - 1) % 0xFFFFFFFF + 1
