"""640: the server's identity, and a nonce for the client's proof.

Owns: one 2140. Promises: answers with what the gateway learnt when it greeted the worker; if it has
not greeted yet, the client waits for a while, and then gets no reply.
Exposure: anybody may ask, any number of times.
"""

from typing import Final

from common.client_protocol.requests import SEND_HEAD, HelloRequest
from common.client_protocol.responses import NONCE_SIZE, encode_hello
from common.client_protocol.versions import EXTENSION_VERSION, SERVER_FEATURES, TLS_FEATURES
from common.storage_protocol.batch_sender import DEADLINE
from gateway.connection.transport import NO_BINDING
from gateway.handlers.base import HandlerContext

_NEVER_IDLE: Final = 0


class HelloHandler:
    """A `RequestHandler`."""

    __slots__ = ("_connection", "_context", "_over", "_request", "_timer")

    def __init__(self, connection: HandlerContext, request: HelloRequest) -> None:
        self._connection = connection
        self._request = request
        self._over = False
        self._context = context = connection.context
        if context.link.facts is None:
            context.waiters.wait_for_greeting(self)
            self._timer = context.call_at(context.loop.now + DEADLINE, self._give_up, connection)
        else:
            # The caller first has to learn that this is going on: answer at the end of the turn.
            self._timer = context.call_at(context.loop.now, self.greeted, connection)

    def greeted(self) -> None:
        """The worker's facts are known: answer."""
        facts = self._context.link.facts
        if self._over or facts is None:
            return
        self._end()
        connection, context = self._connection, self._context
        nonce = context.random_bytes(NONCE_SIZE)
        connection.challenge.issue(nonce, context.loop.now)
        connection.greeted = True
        known = self._request.extension_version == EXTENSION_VERSION
        offered = SERVER_FEATURES if connection.binding == NO_BINDING else TLS_FEATURES
        connection.features = self._request.features & offered if known else 0
        connection.write(
            encode_hello(
                EXTENSION_VERSION,
                offered,
                context.settings.largest_content + SEND_HEAD.size,
                _NEVER_IDLE,
                facts.server_id,
                facts.generation,
                nonce,
            )
        )
        connection.done()

    def abort(self) -> None:
        """Close the connection."""
        self._connection.abort()

    def _give_up(self) -> None:
        if not self._over:
            self._connection.abort()

    def _end(self) -> None:
        """Unregister, so that nothing refers to this handler."""
        self._over = True
        self._timer.cancel()
        self._context.waiters.forget_greeting(self)

    def resume_output(self) -> None:
        """There is no output to resume."""

    def input_came(self) -> None:
        """Later requests wait."""

    input_ended = input_came

    def abandon(self) -> None:
        """The connection is gone: stop waiting for the greeting."""
        self._end()
