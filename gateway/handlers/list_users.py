"""601: the list of users, page by page.

Owns: one running 2101. Promises: its length is fixed by the first page; users who register later
are not in it. If what follows does not fit it, because a user was deleted meanwhile or the one who
asks may no longer ask, the connection is reset. A client of the published protocol gets names in
ASCII.
Exposure: whoever knows a client id may ask for it.
"""

from common.client_protocol.responses import USER, ResponseCode, encode_head, encode_users
from common.storage_protocol.operations import ListUsers, Operation, Outcome, Refused, UsersPage
from gateway.handlers.base import HandlerContext


class ListUsersHandler:
    """A `RequestHandler` and a `Waiter`."""

    __slots__ = ("_asked", "_connection", "_gone", "_last", "_left", "_page_size", "_pages", "_requester", "_until")

    def __init__(self, connection: HandlerContext, requester: bytes) -> None:
        self._connection = connection
        self._pages = connection.context.pages.directory
        self._page_size = connection.context.settings.users_page
        self._requester = requester
        self._last = 0
        self._left = 0
        self._until = 0
        self._asked = False
        self._gone = False
        self._ask()

    def _ask(self) -> None:
        self._asked = True
        authenticated = self._connection.authenticated_as is not None
        operation = ListUsers(self._requester, authenticated, self._last, self._until)
        self._pages.ask(operation, self, self._page_size)

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """A page, or a refusal, which is a response only where it is the first answer."""
        self._came()
        if self._gone:
            return
        match outcome:
            case Refused(reason, retry_after) if not self._until:
                self._connection.refuse(reason, retry_after)
                self._connection.done()
            case UsersPage(count, last, until, users):
                if self._until == 0:
                    self._left = count
                    self._begin(count * USER.size)
                self._last, self._until = last, until
                self._left -= len(users)
                if self._left < 0 or (last >= until and self._left):
                    # The next response would be taken for a part of this one.
                    self._connection.abort()
                    return
                named = ((user.client_id, user.name) for user in users)
                self._connection.write(encode_users(named, published=not self._connection.greeted))
                if last >= until:
                    self._connection.done()
            case _:
                self._connection.abort()

    def _begin(self, payload_size: int) -> None:
        connection = self._connection
        connection.write(encode_head(ResponseCode.USERS, payload_size))
        if connection.allowance is not None:
            connection.allowance.answer(connection.authenticated_as, payload_size, connection.context.loop.now)

    def unknown(self, operation: Operation) -> None:
        """The list can't be completed."""
        self._came()
        if not self._gone:
            self._connection.abort()

    def _came(self) -> None:
        if self._asked:
            self._asked = False
            self._pages.came(self._page_size)

    def resume_output(self) -> None:
        """The previous page was written: ask for the next."""
        if not self._asked:
            self._ask()

    def input_came(self) -> None:
        """Later requests wait."""

    input_ended = input_came

    def abandon(self) -> None:
        """The connection is gone."""
        self._gone = True
        self._pages.forget(self)
