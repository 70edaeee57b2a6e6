"""The own identity and other users: register, whoami, users, key, config.

Owns: what these commands print.
Promises: whoami and config ask no server.

Source: docs/client.md.
"""

import contextlib
import hashlib
from pathlib import Path

from client.cli.output import Output, Value
from client.cli.server_route import fields, pinned_address
from client.connection import about
from client.connection.handshake import PUBLISHED_ONLY
from client.connection.server_pins import route
from client.errors import ClientError
from client.identity.home import convert, home_sentence, open_store
from client.identity.identity_files import Identity
from client.open_home import OpenHome
from client.settings import Settings
from client.store.home_store import STORE_FILE
from client.terminal.sanitize import visible_line
from client.trust.trust import block
from common.errors import MessageUError


def register(home: OpenHome, output: Output, name: str, settings: Settings) -> int:
    """Register under a name; print where the home is if the user did not name it."""
    identity = home.registration.register(name)
    output.say(f"Registered as {identity.name}.")
    told = about.ask_quietly(home.link, home.greeting)
    # Nothing is printed about an open server that keeps mail and has no operator's text.
    if told is not None and (told.registration or told.expire_days or told.text.strip()):
        output.say(f"About this server: {about.sentence(told)}.")
        if told.text.strip():
            output.say(f"Its operator says: {about.operators_text(told)}")
    if settings.home_by_default():
        output.say(home_sentence(settings.home))
    show_identity(output, identity, proven=home.greeting.has_signed_in, link=None, **fields(settings))
    return 0


def whoami(home: OpenHome, output: Output, settings: Settings) -> int:
    """Print who this home's user is."""
    link = home.directory.own_link()
    show_identity(
        output, home.account.identity(), proven=home.greeting.has_signed_in,
        link=None if link is None else str(link), **fields(settings),
    )  # fmt: skip
    return 0


def show_identity(output: Output, identity: Identity, *, proven: bool, link: str | None = None, **more: Value) -> None:
    """Print somebody's identity and key, and the link that verifies them if they have one; `more`
    goes only to `--json`.
    """
    key = hashlib.sha256(identity.private_key.public_key()).hexdigest()
    line = (
        f"{identity.name}\nid: {identity.client_id.hex()}\n{block('public key', grouped(key))}\n"
        f"signed in: {_yes(proven)}"
    )
    if link is not None:
        line = f"{line}\nlink:\n    {link}"
        more["link"] = link
    output.data(
        "identity", line, name=identity.name, id=identity.client_id.hex(), fingerprint=key, proven=proven, **more
    )


def users(home: OpenHome, output: Output) -> int:
    """List everybody else who is registered."""
    listed = home.directory.users()
    for user in listed:
        verified = home.directory.is_verified(user)
        suite = home.directory.suite_of(user)
        line = f"{home.contacts.shown(user)}{' (suite 1)' if suite else ''}"
        output.data("user", line, name=user.name, id=user.client_id.hex(), verified=verified, suite=suite)
    if not listed:
        output.say("Nobody else is registered.")
    return 0


def key(home: OpenHome, output: Output, name: str) -> int:
    """Fetch a user's public key and show its fingerprint."""
    contact = home.directory.fetch_public_key(name).contact
    # If it has changed, this raises.
    fingerprint = home.directory.fingerprint(name)
    verified = home.directory.is_verified(contact)
    line = f"{home.contacts.shown(contact)}\nid: {contact.client_id.hex()}\n{block('public key', grouped(fingerprint))}"
    output.data(
        "key",
        f"{line}\nverified: {_yes(verified)}",
        name=contact.name,
        id=contact.client_id.hex(),
        fingerprint=fingerprint,
        verified=verified,
    )
    return 0


def config_show(settings: Settings, output: Output) -> int:
    """Show every setting, and where it comes from."""
    with contextlib.suppress(ClientError, OSError):
        # `doctor` reports an unusable store.
        convert(settings.home, output.say, to_read=True)
    for name, value, source in settings.all():
        if name == "published_only" and value is None:
            value, source = _remembered(settings.home) or (value, source)  # noqa: PLW2901
        line = f"{name} = {visible_line(value or '(not set)')}  ({visible_line(source)})"
        output.data("setting", line, name=name, value=value, source=source)
        if name == "server":
            _show_transport(settings, output)
    return 0


def _show_transport(settings: Settings, output: Output) -> None:
    try:
        address = pinned_address(settings)
    except MessageUError:
        return
    source = "the pins of the address and of the home" if address.pins else "no pin is known"
    output.data(
        "setting", f"transport = {route(address)}  ({source})", name="transport", value=route(address), source=source
    )


def _remembered(home: Path) -> tuple[str, str] | None:
    """The setting `published_only` of the home's store, and where it is; None if it is not set, or
    the store can't be used.
    """
    with contextlib.suppress(ClientError, OSError):
        if (home / STORE_FILE).exists():
            store = open_store(home, to_read=True)
            try:
                found = store.settings.get(PUBLISHED_ONLY)
            finally:
                store.close()
            if found is not None:
                return str(found == "1").lower(), f"remembered in {home / STORE_FILE}"
    return None


def grouped(fingerprint: str) -> str:
    """Return a fingerprint in groups that can be compared by eye."""
    return " ".join(fingerprint[at : at + 8] for at in range(0, len(fingerprint), 8))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
