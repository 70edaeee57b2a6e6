"""Layouts of the client protocol: headers, fixed parts, the name field.

Owns: every `struct` layout of the protocol, all little-endian, and the sizes that follow from them.
Promises: sizes are computed from the layouts, never written twice.
Exposure: `unpack_name` is fed with strangers' bytes.

Source: docs/client-protocol.md, "Layouts".
"""

from struct import Struct
from typing import Final

from common.errors import ValueRejected
from common.values import NAME_FIELD_SIZE, Username, username

REQUEST_HEADER: Final = Struct("<16sBHI")
"""client id, version, code, payload size"""
RESPONSE_HEADER: Final = Struct("<BHI")
"""version, code, payload size"""
REGISTER: Final = Struct("<255s160s")
"""name field, public key"""
SEND_HEAD: Final = Struct("<16sBI")
"""recipient, kind, content size"""
SEND_REQUEST: Final = Struct("<16sBHI16sBI")
"""a whole 603 up to its content: the header, then `SEND_HEAD`"""
SEND_ONCE_HEAD: Final = Struct("<16s16sBI")
"""token, recipient, kind, content size"""
USER: Final = Struct("<16s255s")
"""client id, name field"""
KEY_REPLY: Final = Struct("<16s160s")
"""client id, public key"""
STORED: Final = Struct("<16sI")
"""recipient, message id"""
WAITING_HEAD: Final = Struct("<16sIBI")
"""sender, message id, kind, content size"""
FETCHED_HEAD: Final = Struct("<16s16sQQBBI")
"""sender, token, sequence, accepted at (Unix ms), flags, kind, content size"""
HELLO: Final = Struct("<II")
"""extension version, features"""
HELLO_REPLY: Final = Struct("<IIII16sQ32s")
"""extension version, features, max payload, idle seconds, server id, store generation, nonce"""
FETCH: Final = Struct("<QIH")
"""ack, max bytes, wait seconds"""
REASON: Final = Struct("<HI")
"""reason, retry after (seconds)"""
SIGNATURE_SIZE: Final = 128
NONCE_SIZE: Final = 32
FLAG_SENDER_AUTHENTICATED: Final = 1
LARGEST_CONTENT: Final = 2**32 - 1 - FETCHED_HEAD.size
"""Bytes: what both 2104 and 2143 can carry in their u32 payload size."""


def pack_name(name: Username) -> bytes:
    """A name as its 255-byte field: ASCII, NUL-terminated, zero-padded."""
    return name.encode("ascii").ljust(NAME_FIELD_SIZE, b"\0")


def unpack_name(field: bytes) -> Username:
    """The name in a 255-byte field: what stands before the first NUL. Raises `ValueRejected`.

    What follows the NUL is ignored: some clients leave it uninitialised.
    """
    raw, nul, _rest = field.partition(b"\0")
    if not nul:
        raise ValueRejected("a name field ends with a NUL")
    try:
        return username(raw.decode("ascii"))
    except UnicodeDecodeError as error:
        raise ValueRejected("a name is made of printable ASCII characters only") from error


def message_id(sequence: int) -> int:
    """The u32 that part 1 shows for a sequence: 1, 2, 3 …, around again after
    4,294,967,295, never 0.
    """
    return (sequence - 1) % 0xFFFFFFFF + 1
