"""Olm, by `vodozemac`: the only module that imports it.

Owns: accounts and sessions as pickles, text to text; what an error of the library means.
Promises: a pickle that was given is never changed; a new one comes back only with a success.
Randomness is the operating system's: the library takes none from outside. Processes never draw the
same, also if one was forked from the other. The pickles' own encryption has a constant key and
protects nothing; the home's store seals them like every secret.
Exposure: opens what strangers sent; any bytes end in a value. A pickle that somebody has altered in
the home raises `StoreUnusable`.

Source: docs/suite-1.md, "Olm".
"""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from client.suite1.state_codec import unusable
from client.suite1.values import Identity

if TYPE_CHECKING:
    import vodozemac

PICKLE_KEY: Final = bytes(32)
PRE_KEY: Final = 0
NORMAL: Final = 1
_MESSAGE_VERSION: Final = b"\x03"
SESSION_ID_SIZE: Final = 16

Account = str
"""A pickle of an account: private halves of identity keys, one-time keys and fallback keys."""


_Given = ParamSpec("_Given")
_Drawn = TypeVar("_Drawn")
_forks: Final[list[int]] = []
"""Not empty in a process that was forked."""
os.register_at_fork(after_in_child=lambda: _forks.append(os.getpid()))


def _drawing(function: Callable[_Given, _Drawn]) -> Callable[_Given, _Drawn]:
    """Mark what makes keys. The library has a generator of random numbers for each thread, with
    some numbers in store: a child that was forked and its parent would both make keys of these. A
    new thread has a new one.
    """

    @functools.wraps(function)
    def drawn(*given: _Given.args, **named: _Given.kwargs) -> _Drawn:
        if not _forks:
            return function(*given, **named)
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        with ThreadPoolExecutor(1) as fresh:
            return fresh.submit(function, *given, **named).result()

    return drawn


class OlmFailure(Enum):
    """Why Olm did not open a message."""

    OTHER_IDENTITY = auto()
    ONE_TIME_KEY_UNKNOWN = auto()
    KEY_USED = auto()
    NOT_OPENED = auto()


class OlmMessage(NamedTuple):
    """One message of Olm: its type, 0 or 1, and its bytes."""

    kind: int
    data: bytes


class OlmSession(NamedTuple):
    """A session: its pickle, and the first 16 bytes of its id."""

    pickle: str
    session_id: bytes


class _WithFallback(Protocol):
    """What the library's type stubs leave out of its account."""

    @property
    def fallback_key(self) -> dict[str, vodozemac.Curve25519PublicKey]: ...

    def generate_fallback_key(self) -> object: ...


@_drawing
def new_account() -> Account:
    """Make an account with new identity keys."""
    import vodozemac  # noqa: PLC0415

    return vodozemac.Account().pickle(PICKLE_KEY)


def identity_of(account: Account) -> Identity:
    """Return an account's public identity keys."""
    opened = _account(account)
    return Identity(_raw(opened.ed25519_key.to_base64()), opened.curve25519_key.to_bytes())


def signer(account: Account) -> Callable[[bytes], bytes]:
    """Return what signs with an account's ed25519 key: 64 bytes each. To read an account with
    thousands of one-time keys takes tens of milliseconds, and is done once.
    """
    opened = _account(account)
    return lambda message: _raw(opened.sign(message).to_base64())


@_drawing
def with_fallback_key(account: Account) -> tuple[Account, bytes]:
    """Make a new fallback key; return its public half. The private half of the one before is kept,
    older ones are gone.
    """
    opened = _account(account)
    fallback = cast("_WithFallback", opened)
    fallback.generate_fallback_key()
    (key,) = fallback.fallback_key.values()
    opened.mark_keys_as_published()
    return opened.pickle(PICKLE_KEY), key.to_bytes()


@_drawing
def with_one_time_keys(account: Account, count: int) -> tuple[Account, tuple[bytes, ...]]:
    """Make one-time keys; return their public halves. Each is returned only once."""
    opened = _account(account)
    opened.generate_one_time_keys(count)
    keys = tuple(key.to_bytes() for key in opened.one_time_keys.values())
    opened.mark_keys_as_published()
    return opened.pickle(PICKLE_KEY), keys


@_drawing
def outbound(account: Account, curve25519: bytes, one_time_key: bytes) -> OlmSession | None:
    """Start a session; None if one of the other side's keys can't be used."""
    import vodozemac  # noqa: PLC0415

    try:
        session = _account(account).create_outbound_session(
            vodozemac.Curve25519PublicKey.from_bytes(curve25519), vodozemac.Curve25519PublicKey.from_bytes(one_time_key)
        )
    except ValueError:
        return None
    return _session(session)


def is_well_formed(message: OlmMessage) -> bool:
    """Whether it is a message of Olm of that type, in message version 3."""
    import vodozemac  # noqa: PLC0415

    # The library knows a version 4 too, which this suite does not use.
    if message.kind not in {PRE_KEY, NORMAL} or message.data[:1] != _MESSAGE_VERSION:
        return False
    try:
        vodozemac.AnyOlmMessage.from_parts(message.kind, message.data)
    except ValueError:
        return False
    return True


def session_id_of(data: bytes) -> bytes:
    """Return the id of the session that a well-formed pre-key message belongs to."""
    return _short(_pre_key(data).session_id())


def inbound(account: Account, curve25519: bytes, data: bytes) -> tuple[Account, OlmSession, bytes] | OlmFailure:
    """Start a session from a well-formed pre-key message; return it with the account, which has
    lost the one-time key, and the plain text.
    """
    import vodozemac  # noqa: PLC0415

    opened = _account(account)
    identity = vodozemac.Curve25519PublicKey.from_bytes(curve25519)
    try:
        session, plain = opened.create_inbound_session(identity, _pre_key(data))
    except vodozemac.SessionCreationException as error:
        return _creation_failure(str(error))
    return opened.pickle(PICKLE_KEY), _session(session), bytes(plain)


@_drawing
def encrypt(session: OlmSession, plain: bytes) -> tuple[OlmSession, OlmMessage]:
    """Encrypt a text; its message key is used up in the session that comes back."""
    opened = _opened(session)
    kind, data = opened.encrypt(plain).to_parts()
    return session._replace(pickle=opened.pickle(PICKLE_KEY)), OlmMessage(kind, data)


def decrypt(session: OlmSession, message: OlmMessage) -> tuple[OlmSession, bytes] | OlmFailure:
    """Decrypt a well-formed message; its key is used up in the session that comes back."""
    import vodozemac  # noqa: PLC0415

    parsed = vodozemac.AnyOlmMessage.from_parts(message.kind, message.data)
    opened = _opened(session)
    try:
        plain = opened.decrypt(parsed)
    except vodozemac.OlmDecryptionException as error:
        # The library has one exception for all, and tells them apart by this text alone.
        is_used = str(error).startswith("The message key with the given key can't be created")
        return OlmFailure.KEY_USED if is_used else OlmFailure.NOT_OPENED
    return session._replace(pickle=opened.pickle(PICKLE_KEY)), bytes(plain)


def _creation_failure(text: str) -> OlmFailure:
    if text.startswith("The given identity key doesn't match"):
        return OlmFailure.OTHER_IDENTITY
    if text.startswith("The pre-key message contained an unknown one-time key"):
        return OlmFailure.ONE_TIME_KEY_UNKNOWN
    return OlmFailure.NOT_OPENED


def _pre_key(data: bytes) -> vodozemac.PreKeyMessage:
    import vodozemac  # noqa: PLC0415

    message = vodozemac.AnyOlmMessage.from_parts(PRE_KEY, data).to_pre_key()
    assert message is not None
    return message


def _account(pickle: Account) -> vodozemac.Account:
    import vodozemac  # noqa: PLC0415

    try:
        return vodozemac.Account.from_pickle(pickle, PICKLE_KEY)
    except ValueError as error:
        raise unusable("account") from error


def _opened(session: OlmSession) -> vodozemac.Session:
    import vodozemac  # noqa: PLC0415

    try:
        return vodozemac.Session.from_pickle(session.pickle, PICKLE_KEY)
    except ValueError as error:
        raise unusable("session") from error


def _session(session: vodozemac.Session) -> OlmSession:
    return OlmSession(session.pickle(PICKLE_KEY), _short(session.session_id))


def _short(session_id: str) -> bytes:
    return _raw(session_id)[:SESSION_ID_SIZE]


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
