"""Which cipher suite a message to somebody goes under.

Owns: the choice, and asking the server for somebody's keys where they are not known yet.
Promises: whoever has shown keys once gets nothing of the published suite again, whatever the server
says or offers. Before somebody is first known by keys, the mail that waits is fetched: what they
sent under the published suite until then is believed as before.
Exposure: the server says whether somebody has keys; at a first contact it can lie, and a link with
a fingerprint prevents that.

Source: docs/suite-1.md, "No downgrade"; docs/security.md.
"""

import contextlib
from collections.abc import Callable

from client.connection.handshake import Greeting
from client.connection.server_link import ServerLink
from client.errors import ClientError
from client.identity.account import Account
from client.store.settings import ServerRow
from client.trust.suite_keys import SuiteKeys
from common.client_protocol.versions import Feature
from common.values import ClientId


class SuiteChoice:
    """The choice for every recipient."""

    def __init__(
        self,
        account: Account,
        link: ServerLink,
        greeting: Greeting,
        keys: SuiteKeys,
        fetch: Callable[[], None],
        server: Callable[[], ServerRow | None],
    ) -> None:
        self._account = account
        self._link = link
        self._greeting = greeting
        self._keys = keys
        self._fetch = fetch
        self._server = server

    def is_on(self) -> bool:
        """Whether the present connection has suite 1."""
        return self._greeting.offers(Feature.KEYS) and self._greeting.offers(Feature.SEND_ONCE)

    def is_known(self, client_id: ClientId) -> bool:
        """Whether somebody is known by keys: then it is suite 1. Asks no server."""
        return self._keys.knows(client_id)

    def uses(self, client_id: ClientId, *, again: bool = False) -> bool:
        """Whether a message to somebody goes under suite 1; who is not known by keys is asked for,
        if the present connection has this suite. `again`: also if that was done just now.

        Raises what `claim` raises.
        """
        me = self._account.identity().client_id
        if self.is_known(client_id):
            return True
        if not self.is_on() or not (client_id == me or again or self._keys.may_use(client_id)):
            return False
        with contextlib.suppress(ClientError):
            # If another process receives, it has what waits.
            self._fetch()
        return self.claim(client_id)

    def uses_now(self, client_id: ClientId) -> bool:
        """As `uses`, on a connection that is opened for it; if there is none, what is known."""
        if self._greeting.has_signed_in and not self.is_known(client_id):
            with contextlib.suppress(ClientError):
                self._link.connect()
        return self.uses(client_id)

    def claim(self, client_id: ClientId) -> bool:
        """Ask for somebody's keys, whatever is known of them; return whether there are any.

        Raises `KeysWithheld`, `KeyChanged`, and what `ServerLink.ask` raises.
        """
        return self._keys.claim(self._link, self._account.identity().client_id, client_id)

    def publish_replaced(self) -> None:
        """Publish our keys if a failure has replaced them, before others are to use them.

        Raises what `ServerLink.connect` raises, and `OutcomeUnknown`.
        """
        self._link.connect()
        server = self._server()
        if server is not None and self.is_on():
            me = self._account.identity().client_id
            self._keys.publish_replaced(self._link, me, server.server_id, server.generation)

    def expect(self, client_id: ClientId, fingerprint: bytes) -> None:
        """Believe, of somebody who is not known by keys, only those with this fingerprint, and ask
        for them.

        Raises what `claim` raises.
        """
        self._keys.expect(client_id, fingerprint)
        if self.is_on():
            self.claim(client_id)
