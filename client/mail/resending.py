"""Sending again what was acknowledged, and is possibly lost since the server was restored to an
earlier state.

Owns: what is sent again, in which order, and the sentences about what can't be.
Promises: nothing is sent again unless it was asked for; each message goes under its own token,
oldest first, ahead of what waits. What can't be sent again stays marked.
Exposure: reads the files that were sent, by the paths in the history.

Source: docs/guarantees.md, "After a backup was put back".
"""

from typing import Final

from client.client_context import ClientContext
from client.connection.retry import Retry
from client.connection.server_link import Progress
from client.errors import CipherError, ClientError, FileUnreadable, KeyChanged, OutcomeUnknown, ServerUnreachable
from client.mail.history import History
from client.mail.outbox import MOST_WAITING, Outbox
from client.messages import Resent
from client.store.acknowledged import AcknowledgedRow
from client.terminal import local_time
from client.terminal.sanitize import command, visible_line
from client.trust.contacts import Contacts
from client.trust.trust import Trust
from common.client_protocol.versions import Feature
from common.names import normal_form
from common.values import ClientId

_KEPT: Final = "What was put into the outbox is kept, and is sent before anything else; the rest stays marked."


class Resending:
    """The possibly lost messages of one home."""

    def __init__(
        self, context: ClientContext, contacts: Contacts, trust: Trust, outbox: Outbox, history: History, retry: Retry
    ) -> None:
        self._account, self._store, self._link, self._greeting = context
        self._contacts = contacts
        self._trust = trust
        self._outbox = outbox
        self._history = history
        self._retry = retry

    def count(self) -> int:
        """Return how many messages are possibly lost, symmetric keys and requests for them among
        them.
        """
        return self._store.acknowledged.lost_count()

    def forget(self, name: str | None) -> int:
        """Remove the marks of messages to one user or to all, and send nothing; return how many
        they were.

        Raises `NameUnknown`.
        """
        return sum(self._store.acknowledged.forget_lost(one) for one in self._chosen(name))

    def resend(self, name: str | None, progress: Progress | None = None) -> Resent:
        """Send again what is possibly lost, to one user or to all, oldest first.

        Raises `NameUnknown`, `ServerUnreachable`, `OutcomeUnknown`, `InvalidServerResponse`; then
        what was begun waits in the outbox.
        """
        me = self._account.identity().client_id
        # This connection may be what marks them.
        self._link.connect()
        chosen = self._chosen(name)
        numbers: list[int] = []
        problems: list[str] = []
        after = 0
        while self._greeting.offers(Feature.SEND_ONCE):
            taken, after = self._take_up(chosen, after, problems)
            if not taken:
                break
            numbers += taken
            try:
                # Not reported one by one: there may be hundreds.
                self._retry.do(lambda watch: self._outbox.flush(me, None, watch, told=False), progress)
            except (ServerUnreachable, OutcomeUnknown) as error:
                raise type(error)(str(error), f"{error.advice} {_KEPT}") from error
        outbox, acknowledged = self._store.outbox, self._store.acknowledged
        sent = [one for one in numbers if not outbox.is_there(one) and not acknowledged.is_lost(one)]
        found = [self._history.by_outbox(number) for number in sent]
        waiting = sum(outbox.is_waiting(number) for number in numbers)
        return Resent([one for one in found if one is not None], len(sent), waiting, self.count(), problems)

    def _chosen(self, name: str | None) -> set[ClientId]:
        """Return the chosen users to whom something is possibly lost."""
        recipients = self._store.acknowledged.lost_recipients()
        meant = set() if name is None else {name, normal_form(name)}
        chosen = {one for one in recipients if name is None or self._contacts.name_of(one) in meant}
        if name is not None and not chosen and self._contacts.listed(name) is None:
            raise self._contacts.unknown(name)
        return chosen

    def _take_up(self, chosen: set[ClientId], after: int, problems: list[str]) -> tuple[list[int], int]:
        """Put as many messages as fit into the outbox; return their numbers, and the last number
        that was examined.
        """
        taken: list[int] = []
        room = MOST_WAITING - self._store.outbox.waiting_count()
        while len(taken) < room and (row := self._store.acknowledged.lost(after)) is not None:
            after = row.number
            if row.recipient not in chosen:
                continue
            try:
                present = self._contacts.present_id(row.recipient)
                self._trust.check(present, self._contacts.name_of(row.recipient) or row.recipient.hex())
                large = self._outbox.put_again(row)
            except KeyChanged as error:
                # Reported once; none of the others may be sent either.
                problems.append(error.told())
                chosen.remove(row.recipient)
                continue
            except (CipherError, FileUnreadable) as error:
                problems.append(self._told(row, error))
                continue
            taken.append(row.number)
            if large:
                # It is on disk until it is sent, so only one at a time.
                break
        return taken, after

    def _told(self, row: AcknowledgedRow, error: ClientError) -> str:
        name = self._contacts.name_of(row.recipient) or row.recipient.hex()
        sent = self._history.by_outbox(row.number)
        shown = self._contacts.shown_id(row.recipient)
        if sent is None or sent.path is None:
            of = "" if sent is None else f" of {local_time.shown(sent.queued_at)}"
            return f"A message{of} for {shown} can't be sent again: {error}. {error.advice}".rstrip()
        return (
            f"The file {visible_line(str(sent.path))} for {shown} can't be sent again: {error}. {error.advice} "
            f"{command('send', name, '--file')} and its path send it as a new message."
        )
