"""What is fed with bytes that others chose, each as one function.

Owns: the targets, and which exceptions each may raise. Promises: anything else that comes out of a
target is a fault. A target keeps nothing between two inputs.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from client.errors import ClientError
from client.identity import archive, identity_files
from client.suite1 import bundles, layout, messages, outer, payloads
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import PayloadMalformed
from client.suite1.peers import Peer
from client.suite1.values import BUNDLE_SIZE, BundleRefused, Pair
from common.client_protocol.client_connection import ClientConnection
from common.client_protocol.requests import LARGEST_FIXED
from common.client_protocol.server_connection import Limits, ServerConnection
from common.errors import FrameUndecodable, MessageUError, ResponseMalformed, SettingRejected, ValueRejected
from common.name_rule import looks, registrable
from common.names import any_username, ascii_form, from_ascii_form, normal_form
from common.rsa_key_form import numbers_of_der, numbers_of_raw
from common.server_address import parse_address
from common.storage_protocol.frames import decode_outcomes, decode_to_gateway, decode_to_worker
from common.values import Username
from gateway import certificate
from gateway.proxy_protocol import HEAD_SIZE, LONGEST_REST, client_address, rest_size
from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.paged.journal_records import decode_records

if TYPE_CHECKING:
    from client.crypto.sealed_storage import ArchiveOpener

Target = Callable[[bytes], None]
LONGEST: Final = 8192
"""Bytes of an input."""
_LIMITS: Final = Limits(2048, inline_content=512, run_messages=8, run_bytes=1024)


@cache
def _folder() -> Path:
    """A folder of this process, for what is read from files."""
    return Path(tempfile.mkdtemp(prefix="messageu-fuzz-"))


def _pieces(data: bytes) -> list[bytes]:
    """The input without its first byte, which says in pieces of how many bytes it comes: mostly of
    many, for each takes its time.
    """
    size, rest = (1 + data[0] ** 2, data[1:]) if data else (1, b"")
    return [rest[at : at + size] for at in range(0, len(rest), size)]


def requests(data: bytes) -> None:
    """A client's bytes at the gateway."""
    connection = ServerConnection(_LIMITS)
    connection.greeted = bool(data) and data[0] % 2 == 1
    for piece in _pieces(data):
        connection.receive_data(piece)
        while connection.next_event() is not None:
            pass
        assert connection.memory <= 2 * (max(_LIMITS.largest_content, LARGEST_FIXED) + 64) + len(piece)
        assert connection.undigested >= 0
    connection.event_on_silence()
    while connection.next_event() is not None:
        pass


def responses(data: bytes) -> None:
    """A server's bytes at the client."""
    connection = ClientConnection()
    with suppress(ResponseMalformed):
        for piece in _pieces(data):
            connection.receive_data(piece)
            while connection.next_event() is not None:
                pass
    connection.take_unparsed()


def link(data: bytes) -> None:
    """Frames of the link, in both directions, and what is kept of them on disk."""
    for decode in (decode_to_worker, decode_to_gateway, decode_outcomes):
        with suppress(FrameUndecodable):
            decode(data)
    with suppress(StoreFailed):
        decode_records(data)


def names(data: bytes) -> None:
    """Names of users."""
    text = data.decode("utf-8", "replace")
    assert 1 <= len(looks(text)) <= 2
    assert normal_form(normal_form(text)) == normal_form(text)
    other = from_ascii_form(text)
    assert other is None or ascii_form(other) == text
    with suppress(ValueRejected):
        name = any_username(text)
        assert name.isascii() or from_ascii_form(ascii_form(name)) == name
    with suppress(ValueRejected):
        assert registrable(text) == Username(text)


def addresses(data: bytes) -> None:
    """Addresses and links."""
    with suppress(ValueRejected):
        address = parse_address(data.decode("utf-8", "replace"))
        assert parse_address(address.link) == address


def keys(data: bytes) -> None:
    """Public keys of users, and headers of proxies."""
    numbers_of_der(data)
    numbers_of_raw(data)
    head = data[:HEAD_SIZE].ljust(HEAD_SIZE, b"\0")
    size = rest_size(head)
    if size is not None:
        assert size <= LONGEST_REST
        client_address(head, data[HEAD_SIZE : HEAD_SIZE + size])


def identities(data: bytes) -> None:
    """me.info and my.info."""
    path = _folder() / identity_files.MY_INFO
    path.write_bytes(data)
    with suppress(MessageUError):
        identity_files.load(path.parent)
    with suppress(MessageUError):
        identity_files.read_foreign(path)


def archives(data: bytes) -> None:
    """The contents of an export, as somebody who knows its passphrase may make them."""
    with tempfile.TemporaryDirectory(dir=_folder()) as into, suppress(MessageUError):
        stream = cast("ArchiveOpener", io.BytesIO(data))
        archive.unpack(archive.Rest(b"", stream), Path("an export"), Path(into))


def sealed(data: bytes) -> None:
    """The head of an export, before its passphrase is tried."""
    with suppress(MessageUError, ClientError):
        # Whoever gets as far as the passphrase has the head right.
        archive.begin(io.BytesIO(data[:8]), Path("an export"), "a passphrase")


def certificates(data: bytes) -> None:
    """The gateway's files with certificates."""
    folder = _folder() / "data"
    path = folder / certificate.FOLDER / "next.pem"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    with suppress(SettingRejected):
        certificate.following(folder)


class _Bob(NamedTuple):
    """A recipient of the vectors of suite 1, before anything has come."""

    keys: OwnKeys
    peer: Peer
    pair: Pair


@cache
def _bob() -> _Bob:
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "suite1.json").read_bytes())
    alice, bob = vectors["conversations"][0]["people"]
    state = {name: base64.b64decode(data) for name, data in bob["state"].items()}
    pair = Pair(bytes.fromhex(alice["id"]), bytes.fromhex(bob["id"]))
    return _Bob(OwnKeys.from_bytes(state["keys"]), Peer.from_bytes(state["peer"]), pair)


def suite1_claims(data: bytes) -> None:
    """What a server answers to a claim: a bundle, and behind it a one-time key."""
    bob = _bob()
    with suppress(BundleRefused):
        bundles.checked_claim(data[:BUNDLE_SIZE], data[BUNDLE_SIZE:], bob.pair.sender, 1_800_000_000_000)


def suite1_messages(data: bytes) -> None:
    """A content; where the first byte is odd, what is inside its outer layer, as who has the
    recipient's bundle can make it; where it is 2, Olm's plain text.
    """
    bob = _bob()
    kind, rest = data[:1], data[1:]
    if kind == b"\2":
        layout.unpacked(rest)
        return
    if kind and kind[0] % 2:
        key = bob.keys.outer[-1].public
        rest = layout.enveloped(key.number, outer.seal(key.public, bob.pair, rest))
    result = messages.open_message(bob.keys, bob.peer, bob.pair, rest)
    # What comes of it can be kept, and read again.
    assert Peer.from_bytes(result.peer.to_bytes()) == result.peer
    assert OwnKeys.from_bytes(result.keys.to_bytes()) == result.keys


def suite1_payloads(data: bytes) -> None:
    """What a peer says."""
    with suppress(PayloadMalformed):
        payloads.decoded(data)


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        requests, responses, link, names, addresses, keys, identities, archives, sealed, certificates,
        suite1_claims, suite1_messages, suite1_payloads,
    )
}  # fmt: skip
