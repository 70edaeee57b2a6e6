"""The beginning of a connection: the extension's hello, and the proof of our identity.

Owns: whether a connection speaks the extension, when falling back to the published protocol is
allowed, and which server this identity belongs to.
Promises: an identity that has signed in signs for that server alone and never falls back;
nothing is signed before the user was warned.
Exposure: talks to whoever answers at the address. On plain TCP a middleman can pass the proof on
and then act on this connection; the proof keeps other users out, not the middleman. Over TLS the
proof is bound to the server's certificate, and a silence or a cut, which a middleman can make, is
no reason to fall back; an answer, or an ending of TLS, is the server's own.

    what answers 640                       never signed in         has signed in
    ────────────────────────────────────   ─────────────────────   ──────────────────────────
    2140, the known server                 –                       prove
    2140, another server                   prove, and remember it  WrongServer
    9000, or what can't be parsed          fall back, tell once    WrongServer
    the end of the connection              fall back, tell once    OutcomeUnknown
    silence                                the same, and for an    OutcomeUnknown
                                           hour it is not asked

Source: docs/client-protocol.md, part 2.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from client.connection.patience import Patience
from client.connection.server_errors import refused
from client.connection.server_link import REPLY_TIMEOUT, ServerLink
from client.connection.server_pins import ServerPins
from client.errors import InvalidServerResponse, OutcomeUnknown, ServerAnsweredError, WrongServer
from client.identity.identity_files import Identity
from client.store.home_store import Store
from client.terminal.sanitize import command
from common.client_protocol.requests import BlockRequest, CertificatesRequest, HelloRequest, ProveRequest, RequestCode
from common.client_protocol.responses import (
    AuthenticatedResponse,
    BlockSetResponse,
    CertificatesResponse,
    ErrorResponse,
    HelloResponse,
    Whole,
)
from common.client_protocol.versions import CLIENT_VERSION, EXTENSION_VERSION, VERSIONS, Feature
from common.server_address import pin
from common.values import NO_CLIENT, ClientId, RefusalReason

HELLO_TIMEOUT: Final = 3.0
"""Seconds of silence after which a server is taken to speak only the published protocol."""
WANTED: Final = Feature.SEND_ONCE | Feature.FETCH | Feature.KEYS | Feature.REASONS | Feature.ACCOUNTS | Feature.BLOCKING
WARNING: Final = (
    "This account now signs in to the server: nobody else can act in its name, "
    "and other MessageU programs will no longer work for it (--published-only prevents that)."
)
_LARGEST_GENERATION: Final = 2**63 - 1
"""The largest number that SQLite can store; no honest server comes near it."""
PUBLISHED_ONLY: Final = "published_only"
"""The setting of the store that remembers it: "1" or "0"."""
_REGISTERED_HERE: Final = "registered_here"
_TOLD: Final = "told_of_published_server"
_SILENT: Final = "silent_to_hello"
"""The setting that remembers a server's silence: its address, and the Unix ms of it."""
_VERSION: Final = "request_version"
"""The setting that remembers which version byte a server of the published protocol
wanted: its address, the version.
"""
OF_SERVER: Final = (_REGISTERED_HERE, _TOLD, _SILENT, _VERSION)
"""Settings that say something of the present server, and of no other one."""
_ASKED_AGAIN_AFTER: Final = 3_600_000
"""Milliseconds. A server that was silent may have been busy, or be another one since."""

Tell = Callable[[str], None]
"""Shows a sentence to the user."""

Publish = Callable[[ServerLink, ClientId, bytes, int], None]
"""Publishes our keys of cipher suite 1 on a connection that has just signed in: our id, and the
server's id and generation. Raises `OutcomeUnknown`.
"""

Consent = Callable[[bool], bool | None]
"""Asked before the first proof, told whether the account was registered from this home. True or
False: remembered; None: not now."""


class Session(NamedTuple):
    """The result of the greeting on the current connection."""

    features: Feature
    max_payload: int
    authenticated: bool
    server_id: bytes


class Greeting:
    """Greets the server on every new connection."""

    def __init__(
        self,
        store: Store,
        identity: Callable[[], Identity | None],
        consent: Consent,
        tell: Tell,
        now: Callable[[], int],
        pins: ServerPins,
        *,
        says_lost: bool = True,
        publish: Publish | None = None,
    ) -> None:
        """`says_lost`: report what is possibly lost as soon as it is marked."""
        self._publish = publish
        self._store = store
        self._identity = identity
        self._consent = consent
        self._tell = tell
        self._now = now
        self._pins = pins
        self._says_lost = says_lost
        self._fell_back = False
        self._ask_anyway = False
        self._not_now = False
        self._proves = True
        self.session: Session | None = None

    def offers(self, feature: Feature) -> bool:
        """Whether the current connection is authenticated and has a feature."""
        return self.session is not None and self.session.authenticated and bool(self.session.features & feature)

    @property
    def has_signed_in(self) -> bool:
        """Whether this identity has ever signed in; it then never falls back to part 1."""
        return self._store.server.known() is not None

    def registered_here(self) -> None:
        """Note that this home's account was registered from this home: no other program uses it."""
        self._store.settings.put(_REGISTERED_HERE, "1")

    def published_only(self, *, wanted: bool) -> None:
        """Remember whether the account keeps to the published protocol."""
        self._store.settings.put(PUBLISHED_ONLY, "1" if wanted else "0")

    def greet(self, link: ServerLink) -> bool:
        """Greet; return whether the connection can be used now. If not, another one is opened
        without a greeting.

        Raises `WrongServer`, `OutcomeUnknown`, `ServerAnsweredError`.
        """
        self.session = None
        link.version = self._version_for(link)
        if self._fell_back or self._store.settings.get(PUBLISHED_ONLY) == "1":
            return True
        known = self._store.server.known()
        protected = link.protected
        if known is None and not protected and not self._ask_anyway and self._was_silent(link):
            self._fall_back(link)
            return True
        wanted = WANTED | Feature.CERTIFICATES if protected else WANTED
        if self._publish is None:
            wanted &= ~Feature.KEYS
        hello = HelloRequest(NO_CLIENT, EXTENSION_VERSION, wanted)
        answer: Whole | None
        try:
            answer = link.exchange(hello, HELLO_TIMEOUT if known is None and not protected else REPLY_TIMEOUT)
        except InvalidServerResponse as error:
            if known is not None:
                raise _wrong(link, "does not speak the extension any more") from error
            answer = None
        else:
            if answer is None and (known is not None or link.was_cut):
                raise _silent(link, "does not greet us")
        if not isinstance(answer, HelloResponse) or answer.extension_version != EXTENSION_VERSION:
            if known is not None:
                raise _wrong(link, "does not speak the extension any more")
            self._fall_back(link)
            if link.fell_silent:
                self._store.settings.put(_SILENT, f"{link.address.place} {self._now()}")
            return isinstance(answer, ErrorResponse) and link.is_open()
        if answer.generation > _LARGEST_GENERATION:
            raise InvalidServerResponse(
                "The generation of the server's store is beyond all bounds.", "Check server.info."
            )
        if known is not None and known.server_id != answer.server_id:
            raise _wrong(link, "is not the one that this account has signed in to")
        link.version = CLIENT_VERSION
        if self._store.settings.get(_SILENT) is not None:
            self._store.settings.drop(_SILENT)
        self.session = Session(
            Feature(answer.features & wanted), answer.max_payload, authenticated=False, server_id=answer.server_id
        )
        identity = self._identity()
        if identity is not None and self._proves and (known is not None or self._may_prove()):
            self._prove(link, identity, answer, self.session)
        return True

    def _prove(self, link: ServerLink, identity: Identity, hello: HelloResponse, session: Session) -> None:
        signature = identity.private_key.prove(hello.server_id, hello.nonce, identity.client_id, link.binding)
        proof = ProveRequest(identity.client_id, signature)
        patience = Patience(link.rest, self._tell)
        while isinstance(answer := link.exchange(proof, REPLY_TIMEOUT), ErrorResponse) and patience.suffices(answer):
            # It was not tried, so the nonce is still good, unless this takes long.
            patience.wait(answer)
        if isinstance(answer, ErrorResponse):
            if answer.reason == RefusalReason.REQUESTER_UNKNOWN and self.has_signed_in:
                raise ServerAnsweredError(
                    "The server does not know this account any more.",
                    f"If it was restored from a backup, {command('register', identity.name)} registers the name and "
                    "the key again.",
                    answer.reason,
                    answer.retry_after,
                )
            raise refused(RequestCode.PROVE, answer)
        if not isinstance(answer, AuthenticatedResponse):
            raise _silent(link, "did not answer our proof")
        lost = self._store.server.remember(hello.server_id, hello.generation, self._now())
        if lost and self._says_lost:
            self._tell(lost_sentence(lost, "`messageu resend`"))
        self.session = session._replace(authenticated=True)
        self._pins.proven()
        if session.features & Feature.CERTIFICATES:
            self._learn_pins(link)
        if session.features & Feature.BLOCKING:
            self._tell_blocks(link, identity.client_id, hello.generation)
        if session.features & Feature.KEYS and self._publish is not None:
            self._publish(link, identity.client_id, hello.server_id, hello.generation)

    def _learn_pins(self, link: ServerLink) -> None:
        """Ask for the server's pins, so that a change of its certificate does not lock this home
        out.

        A refusal changes nothing.
        """
        presented = pin(link.binding)
        answer = link.exchange(CertificatesRequest(NO_CLIENT), REPLY_TIMEOUT)
        if answer is None:
            raise _silent(link, "did not name its certificates")
        if isinstance(answer, CertificatesResponse):
            self._pins.learn(link.address, presented, [pin(digest) for digest in answer.digests])

    def _tell_blocks(self, link: ServerLink, me: ClientId, generation: int) -> None:
        """Tell the server whom the user has blocked or unblocked since it was last told.

        What it refuses is sent again at the next sign-in; until then it applies only in this home.
        """
        for row in self._store.silenced.owed(generation):
            answer = link.exchange(BlockRequest(me, row.blocked, row.client_id), REPLY_TIMEOUT)
            if answer is None:
                raise _silent(link, "did not say whether a sender is blocked")
            # It does not know the sender, so nothing can come from them.
            is_unknown = isinstance(answer, ErrorResponse) and answer.reason == RefusalReason.RECIPIENT_UNKNOWN
            if isinstance(answer, BlockSetResponse) or is_unknown:
                self._store.silenced.was_told(row, generation)

    def _may_prove(self) -> bool:
        if self._not_now:
            return False
        if self._store.settings.get(PUBLISHED_ONLY) == "0":
            # The user has said so.
            return True
        here = self._store.settings.get(_REGISTERED_HERE) == "1"
        consent = self._consent(here)
        if consent is None:
            self._not_now = True
            return False
        if not consent:
            self.published_only(wanted=True)
            return False
        if here:
            self._tell(WARNING)
        return True

    @contextlib.contextmanager
    def without_proof(self) -> Iterator[None]:
        """Inside, connections are greeted without a proof, because the server does not know this
        account.
        """
        self._proves = False
        try:
            yield
        finally:
            self._proves = True

    def ask_again(self) -> None:
        """Greet even a server that was silent before."""
        self._ask_anyway = True

    def keep_version(self, link: ServerLink) -> None:
        """Remember the version byte that this server takes, for every later request of
        this home.
        """
        self._store.settings.put(_VERSION, f"{link.address.place} {link.version}")

    def _version_for(self, link: ServerLink) -> int:
        address, version = _noted(self._store.settings.get(_VERSION))
        return version if address == link.address.place and version in VERSIONS else CLIENT_VERSION

    def _was_silent(self, link: ServerLink) -> bool:
        address, at = _noted(self._store.settings.get(_SILENT))
        # A clock that was set back since makes it older than it can be.
        return address == link.address.place and at is not None and 0 <= self._now() - at < _ASKED_AGAIN_AFTER

    def _fall_back(self, link: ServerLink) -> None:
        self._fell_back = True
        if self._store.settings.get(_TOLD) != link.address.place:
            self._tell(
                f"The server at {link.address.place} speaks only the published protocol: "
                "it does not check who acts in whose name, and what breaks off may be sent twice."
            )
            self._store.settings.put(_TOLD, link.address.place)


def _noted(text: str | None) -> tuple[str, int | None]:
    """What a setting stores about a server: its address, and a number; no number if it can't be
    read.
    """
    address, _, number = (text or "").rpartition(" ")
    return address, int(number) if number.isascii() and number.isdigit() and len(number) < 20 else None


def lost_sentence(count: int, how: str) -> str:
    """Return a sentence on how many acknowledged messages are possibly lost, and how to send them
    again.
    """
    many = "One message" if count == 1 else f"{count} messages"
    that, them = ("is", "it") if count == 1 else ("are", "them")
    return (
        f"The server was put back to an earlier state (a backup). {many} that it had acknowledged, symmetric keys "
        f"included, {that} possibly lost: {how} sends {them} again; `messageu history` marks texts and files."
    )


def if_registered_here(registered_here: bool) -> bool | None:
    """Prove accounts that no other program uses; leave those of other programs as they are."""
    return True if registered_here else None


def _wrong(link: ServerLink, how: str) -> WrongServer:
    return WrongServer(
        f"The server at {link.address.place} {how}; nothing was sent to it.",
        "Check server.info. If the server was set up again, register in a new home.",
    )


def _silent(link: ServerLink, how: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"The server at {link.address.place} {how}.", "Try again a little later.")
