"""The library for asyncio: a `Messenger` in a thread of its own.

Owns: that thread, and what happens when a task is cancelled.
Promises: every call of one `AsyncMessenger` runs in one thread, one after the other, and never
blocks the event loop. A cancelled call that has not begun never begins. One that has begun is
interrupted as if the connection had broken, and the cancellation continues when it has ended; what
it was sending is in the outbox, if the account signs in. The messenger can be used after that.
Exposure: as `client.messenger`.

    import asyncio
    from client.async_messenger import AsyncMessenger

    async def main() -> None:
        async with AsyncMessenger.from_environment() as robot:
            await robot.ensure_registered("robot")
            await robot.send("alice", "the build is done")
            async for message in robot.messages(wait=60):
                print(message.sender_name, message.content)

    asyncio.run(main())

Source: docs/library.md.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from typing import Self, TypeVar

from client.connection.handshake import Consent, Tell, if_registered_here
from client.connection.server_link import Progress
from client.identity.identity_files import Ask, Identity, nobody_asked
from client.mail.message_iterator import Messages
from client.messages import Received, Sent
from client.messenger import Contact, Messenger
from client.open_home import tell_nobody
from common.server_address import ServerAddress

__all__ = ["AsyncMessages", "AsyncMessenger"]

_Result = TypeVar("_Result")


class AsyncMessenger:
    """One user's side of MessageU for asyncio: `async with AsyncMessenger.open(...) as messenger`.

    `tell`, `consent`, `passphrase` and `progress` are called in its thread. Any task may use it;
    calls take turns.
    """

    def __init__(self, open_messenger: Callable[[], Messenger]) -> None:
        """`open_messenger` opens the home, in the thread, when the `async with` begins."""
        self._open = open_messenger
        self._opened: Messenger | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="messageu")
        self._guard = threading.Lock()
        self._at_work: object = None
        """What the thread does now; None between two calls."""
        self._interrupted: object = None

    @classmethod
    def open(
        cls,
        home: str | PathLike[str],
        server: ServerAddress | str,
        save_dir: str | PathLike[str] | None = None,
        *,
        published_only: bool | None = None,
        consent: Consent = if_registered_here,
        tell: Tell = tell_nobody,
        passphrase: Ask = nobody_asked,
    ) -> Self:
        """Name a home, which `async with` opens. That raises what `Messenger.open` raises."""
        return cls(
            lambda: Messenger.open(
                home, server, save_dir, published_only=published_only, consent=consent, tell=tell, passphrase=passphrase
            )
        )

    @classmethod
    def from_environment(
        cls,
        *,
        home: str | PathLike[str] | None = None,
        server: ServerAddress | str | None = None,
        save_dir: str | PathLike[str] | None = None,
        published_only: bool | None = None,
        consent: Consent = if_registered_here,
        tell: Tell = tell_nobody,
    ) -> Self:
        """Name the home that the command would use, which `async with` opens. That raises what
        `Messenger.from_environment` raises.
        """
        return cls(
            lambda: Messenger.from_environment(
                home=home, server=server, save_dir=save_dir, published_only=published_only, consent=consent, tell=tell
            )
        )

    async def __aenter__(self) -> Self:
        try:
            await self._in_thread(self._begin)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """When the running call has ended, close the connection and the store, and end the
        thread.
        """
        opened, self._opened = self._opened, None
        try:
            if opened is not None:
                await self._in_thread(opened.close)
        finally:
            self._worker.shutdown(wait=False)

    async def call(self, do: Callable[[Messenger], _Result]) -> _Result:
        """Call any function with the `Messenger`, in its thread: `await robot.call(lambda m:
        m.users())`.

        Raises what `do` raises.
        """
        return await self._in_thread(functools.partial(do, self._messenger()))

    async def ensure_registered(self, name: str) -> Identity:
        """Register this home under a name, unless it is already. Raises what
        `Messenger.ensure_registered` raises.
        """
        return await self.call(lambda messenger: messenger.ensure_registered(name))

    async def users(self) -> list[Contact]:
        """Ask the server for everybody else who is registered. Raises what `Messenger.users`
        raises.
        """
        return await self.call(lambda messenger: messenger.users())

    async def send(self, name: str, content: str | PathLike[str] | bytes, *, progress: Progress | None = None) -> Sent:
        """Send a text (`str`), a file (a path), or the contents of a file (`bytes`). Raises what
        `Messenger.send` raises.
        """
        return await self.call(lambda messenger: messenger.send(name, content, progress=progress))

    def messages(self, wait: float | None = 0.0) -> "AsyncMessages":
        """Iterate over messages as they arrive, as `Messenger.messages` does."""
        return AsyncMessages(self, self._messenger().messages(wait))

    def _messenger(self) -> Messenger:
        if self._opened is None:
            raise RuntimeError("an AsyncMessenger is used within its `async with`")
        return self._opened

    async def _in_thread(self, do: Callable[[], _Result]) -> _Result:
        """Run a function in the thread. If this is cancelled, the function has ended, or never
        begins, when this raises.
        """
        token = object()
        future = self._worker.submit(self._work, token, do)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel():
                self._interrupt(token)
                await _ended(future)
            raise

    def _begin(self) -> None:
        # Here, so that what was opened is closed even if nobody waits for it any more.
        self._opened = self._open()

    def _work(self, token: object, do: Callable[[], _Result]) -> _Result:
        with self._guard:
            self._at_work = token
        try:
            return do()
        finally:
            with self._guard:
                self._at_work = None
                interrupted = self._interrupted is token
            if interrupted and self._opened is not None:
                self._opened.resume()

    def _interrupt(self, token: object) -> None:
        with self._guard:
            if self._at_work is token and self._opened is not None:
                self._interrupted = token
                self._opened.interrupt()


class AsyncMessages(AsyncIterator[Received]):
    """Like `Messages`, for `async for` and `async with`; the same rules say when a message counts
    as received.

    If waiting for the next message is cancelled, the previous one is acknowledged, and one that
    arrived at that moment is given again.
    """

    def __init__(self, owner: AsyncMessenger, messages: Messages) -> None:
        self._owner = owner
        self._messages = messages

    async def __anext__(self) -> Received:
        """Acknowledge the previous message, and return the next one. Raises what
        `Messenger.receive` raises.
        """
        try:
            message = await self._owner.call(lambda _: next(self._messages, None))
        except asyncio.CancelledError:
            # Perhaps one came, which nobody got.
            await self.close()
            raise
        if message is None:
            raise StopAsyncIteration
        return message

    async def acknowledge(self) -> None:
        """Mark the last message as received. Raises `StoreUnusable`."""
        await self._owner.call(lambda _: self._messages.acknowledge())

    async def close(self) -> None:
        """Let other processes receive. The last message, unless it was acknowledged, is given
        again.
        """
        await self._owner.call(lambda _: self._messages.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.acknowledge()
        else:
            await self.close()


async def _ended(future: "Future[_Result]") -> None:
    """Wait until a call has ended, whatever its result; further cancellations change nothing."""
    ended = asyncio.wrap_future(future)
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            continue
    if not ended.cancelled():
        ended.exception()
