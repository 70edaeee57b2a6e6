"""What cipher suite 1 needs around receiving: the keys of new senders, and what failures lead to.

Owns: when senders are asked for their keys, when others are asked to send again, when our old outer
keys are dropped.
Promises: nothing of it stands in the way of receiving: what fails is tried again with the next
mail.
Exposure: senders are who the server says.

Source: docs/suite-1.md, "Opening", "A home's own keys".
"""

from collections.abc import Callable
from contextlib import suppress

from client.errors import CipherError, ClientError
from client.mail.opening import Opening
from client.mail.outbox import Outbox
from client.mail.suite_choice import SuiteChoice
from client.store.home_store import Store
from client.trust.suite_keys import SuiteKeys
from common.values import ClientId


class SuiteReceiving:
    """Suite 1 in one home that receives."""

    def __init__(
        self,
        store: Store,
        opening: Opening,
        choice: SuiteChoice,
        keys: SuiteKeys,
        outbox: Outbox,
        me: Callable[[], ClientId],
    ) -> None:
        self._store = store
        self._opening = opening
        self._choice = choice
        self._keys = keys
        self._outbox = outbox
        self._me = me

    def meet_strangers(self) -> None:
        """Ask for the keys of senders who have sent something under suite 1 and are not known by
        any.
        """
        if self._choice.is_on():
            for sender in self._store.inbox.sealed_by_strangers():
                with suppress(ClientError):
                    self._choice.claim(sender)

    def open_waiting(self) -> None:
        """Open whatever was fetched and not shown yet, as long as this home has the id that it was
        sealed for. What can't be opened says so when it is shown.
        """
        self.meet_strangers()
        for number in self._store.inbox.unopened():
            row = self._store.inbox.numbered(number)
            if row is not None:
                with suppress(CipherError):
                    self._opening.reveal(row)

    def all_shown(self, *, send: bool, empty: bool) -> None:
        """Do what follows from messages that were opened, or could not be. `send`: the server can
        be asked now. `empty`: everything that waited was fetched.
        """
        may_send = send and self._choice.is_on() and self._have_published()
        is_asking = self._opening.ask_again()
        if may_send and (is_asking or self._opening.has_repeated):
            self._opening.has_repeated = False
            with suppress(ClientError):
                self._outbox.flush(self._me(), wait=False)
        if empty and self._store.inbox.next_unread(0) is None:
            self._keys.drop_expired()

    def _have_published(self) -> bool:
        """What was not opened may have replaced our keys, and who is asked answers with those that
        are published. Whether the connection is still good.
        """
        try:
            self._choice.publish_replaced()
        except ClientError:
            return False
        return True
