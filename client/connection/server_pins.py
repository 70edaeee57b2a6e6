"""The server's accepted certificates: pins of the address, and pins that this home remembers.

Owns: the pins in the home's store, and when one is accepted, kept, replaced or dropped.
Promises: a home that has an account and knows a pin of its server never reaches it without one,
whatever an address says. Pins are on disk before a byte is sent under them. Pins of a link, for an
account that has signed in, are stored only once the server has shown that it is the same one.
Exposure: addresses are pasted by people; the list of pins is the server's own, over a connection
that a pin has vouched for.

    what the home knows      the address names      accepted
    ─────────────────────    ───────────────────    ─────────────────────────────────────────────
    nothing                  no pin                 plain TCP
    nothing                  pins                   those
    pins                     no pin                 PlainRefused
    pins                     one of them, or one    the known ones, and what the link adds
                             that was given up
    pins                     others alone           those: a person has pasted a new link

Source: docs/decisions/0015-a-pinned-certificate.md.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from client.connection import server_file
from client.errors import PlainRefused, WrongCertificate
from client.identity import identity_files
from client.store.home_store import Store
from common.errors import InfoFileError, ValueRejected
from common.server_address import MOST_PINS, Pin, ServerAddress, parse_pin, pin_text

_KNOWN: Final = "server_pins"
_GIVEN_UP: Final = "server_pins_given_up"
"""Settings of the store: pins as a link has them, separated by commas."""
OF_SERVER: Final = (_KNOWN, _GIVEN_UP)
_MOST_GIVEN_UP: Final = 32


class Pins(Protocol):
    """Decides which certificates a connection may have."""

    def accepted(self, address: ServerAddress) -> tuple[Pin, ...]:
        """The accepted pins; none means plain TCP. Raises `PlainRefused`."""

    def met(self, address: ServerAddress, presented: Pin) -> None:
        """Called when the server at an address has shown one of them. Nothing was sent yet."""


class PinsOfAddress:
    """Those that the address names."""

    def accepted(self, address: ServerAddress) -> tuple[Pin, ...]:
        """See `Pins`."""
        return address.pins

    def met(self, address: ServerAddress, presented: Pin) -> None:
        """Keep nothing."""


class ServerPins:
    """Those of one home."""

    def __init__(self, home: Path, store: Store, tell: Callable[[str], None]) -> None:
        self._home = home
        self._store = store
        self._tell = tell
        self._unconfirmed: tuple[Pin, ...] = ()

    @property
    def known(self) -> tuple[Pin, ...]:
        """Return the pins that this home remembers, the one in use first."""
        return self._read(_KNOWN)

    def accepted(self, address: ServerAddress) -> tuple[Pin, ...]:
        """See `Pins`."""
        known = self.known
        if not known:
            return address.pins
        if not self._is_bound():
            # Left by a registration at another server that was not completed.
            self._keep(())
            return address.pins
        if not address.pins:
            raise plain_refused(address, known)
        if self._is_new(address.pins):
            return address.pins
        given_up = self._read(_GIVEN_UP)
        return _united(known, (one for one in address.pins if one not in given_up))

    def met(self, address: ServerAddress, presented: Pin) -> None:
        """See `Pins`."""
        wanted = _united((presented,), self.accepted(address))
        if set(wanted) == set(self.known):
            self._unconfirmed = ()
        elif self._store.server.known() is not None and (not self.known or self._is_new(address.pins)):
            # A wrong link must not lock this home out of its own server.
            self._unconfirmed = wanted
        else:
            self._keep(wanted)

    def proven(self) -> None:
        """Called when the account has signed in on this connection, so it is the same server."""
        unconfirmed, self._unconfirmed = self._unconfirmed, ()
        if unconfirmed:
            self._keep(unconfirmed)
            self._tell(
                f"From now on this account reaches its server over TLS alone, with the pin {pin_text(unconfirmed[0])}."
            )

    def learn(self, address: ServerAddress, presented: Pin, listed: Sequence[Pin]) -> None:
        """Take over the server's own list, the one in use first.

        A pin that is not listed any more is let go only if the connection was made under one that
        is.
        """
        known = self.known
        pins = _united(listed, ()) if presented in listed else _united(known, listed)
        if pins == known:
            return
        self._keep(pins)
        with suppress(InfoFileError):
            # The store decides; the file is for people to whom it is given, and for the next home.
            server_file.renew(self._home, address, pins[:MOST_PINS], {*known, *pins})

    def _is_bound(self) -> bool:
        """Whether there is an account, or a registration was begun."""
        return identity_files.exists(self._home) or (self._home / identity_files.PENDING).exists()

    def _is_new(self, pins: Iterable[Pin]) -> bool:
        """Whether none of these pins was ever known here."""
        return {*self.known, *self._read(_GIVEN_UP)}.isdisjoint(pins)

    def _keep(self, pins: tuple[Pin, ...]) -> None:
        given_up = [one for one in _united(self.known, self._read(_GIVEN_UP)) if one not in pins]
        if not self._is_bound():
            given_up = []
        # Checked first: a home never forgets a pin that it has used.
        self._write(_GIVEN_UP, given_up[:_MOST_GIVEN_UP])
        self._write(_KNOWN, pins)

    def _read(self, name: str) -> tuple[Pin, ...]:
        return read_pins(self._store, name)

    def _write(self, name: str, pins: Iterable[Pin]) -> None:
        text = ",".join(map(pin_text, pins))
        if text != (self._store.settings.get(name) or ""):
            self._store.settings.put(name, text)


def route(address: ServerAddress) -> str:
    """Return how a server is reached, in words."""
    return f"TLS, pin {' or '.join(map(pin_text, address.pins))}" if address.pins else "plain TCP, not encrypted"


def read_pins(store: Store, name: str = _KNOWN) -> tuple[Pin, ...]:
    """Return the pins that a store remembers, without unreadable ones."""
    found: list[Pin] = []
    for text in (store.settings.get(name) or "").split(","):
        with suppress(ValueRejected):
            found.append(parse_pin(text))
    return tuple(found)


def wrong_certificate(address: ServerAddress, expected: Sequence[Pin], presented: Pin) -> WrongCertificate:
    """The error for a server with another certificate."""
    texts = tuple(map(pin_text, expected))
    return WrongCertificate(
        f"The server at {address.place} has the certificate with the pin {pin_text(presented)}, and not the pinned "
        f"one, {' or '.join(texts)}; nothing was sent to it.",
        "Somebody may be between you and the server. If its operator has changed the certificate, get the new link "
        "from the operator and give it once with --server.",
        expected=texts,
        presented=pin_text(presented),
    )


def plain_refused(address: ServerAddress, known: Sequence[Pin]) -> PlainRefused:
    """The error for an address without a pin in a home that knows one."""
    return PlainRefused(
        f"This home knows its server by a pin, and {address.place} names none; nothing was sent to it unprotected.",
        f"Use the server's link: {address._replace(pins=tuple(known[:MOST_PINS]))}. For an account without TLS use "
        "another home.",
    )


def _united(first: Iterable[Pin], second: Iterable[Pin]) -> tuple[Pin, ...]:
    return tuple(dict.fromkeys((*first, *second)))
