"""The library for asyncio: the same calls in a thread of their own, and what a
cancellation leaves behind.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from client.async_messenger import AsyncMessages, AsyncMessenger
from client.errors import NotRegistered, ServerUnreachable
from client.messenger import KeyReceived, Messages, Messenger, Received, Text
from common.client_protocol.requests import FetchRequest
from common.errors import SettingRejected
from tests.client.fake_gateway import SILENCE, ExtendedMailroom, FakeGateway
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, HANG_SECONDS))


def test_two_who_write(tmp_path: Path, gateway: FakeGateway) -> None:
    async def main() -> None:
        async with (
            AsyncMessenger.open(tmp_path / "alice", gateway.address) as alice,
            AsyncMessenger.from_environment(home=str(tmp_path / "bob"), server=str(gateway.address)) as bob,
        ):
            assert (await alice.ensure_registered("alice")).name == "alice"
            await bob.ensure_registered("bob")
            assert [user.name for user in await bob.users()] == ["alice"]
            # Calls of several tasks take turns.
            await asyncio.gather(*(alice.send("bob", text) for text in ("one", "two", "three")))
            received = [message.content async for message in bob.messages()]
            assert received == [KeyReceived(), Text("one"), Text("two"), Text("three")]
            await bob.send("alice", b"data")
            assert len([message async for message in alice.messages()]) == 1
            assert await alice.call(lambda messenger: messenger.home.outbox.waiting_count()) == 0

    run(main())


def test_failures_come_through(tmp_path: Path, gateway: FakeGateway) -> None:
    async def main() -> None:
        with pytest.raises(SettingRejected):
            async with AsyncMessenger.open(tmp_path / "alice", "nonsense"):
                pass
        messenger = AsyncMessenger.open(tmp_path / "alice", gateway.address)
        with pytest.raises(RuntimeError, match="async with"):
            messenger.messages()
        async with messenger:
            with pytest.raises(NotRegistered):
                await messenger.users()

    run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("messageu"):
            thread.join(HANG_SECONDS)
            assert not thread.is_alive()


def test_when_a_message_counts_as_received(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        alice.send("bob", text)
    address = bob.home.link.address
    bob.close()

    async def main() -> None:
        async with AsyncMessenger.open(tmp_path / "bob", address) as again:
            with pytest.raises(RuntimeError, match="broke"):
                async with again.messages() as messages:
                    async for message in messages:
                        if message.content == Text("one"):
                            raise RuntimeError("broke")
            async with again.messages() as messages:
                async for message in messages:
                    assert message.repeated
                    break
            messages = again.messages()
            assert (await anext(messages)).content == Text("two")
            await messages.acknowledge()
            assert [message.content async for message in messages] == [Text("three")]

    run(main())


def test_waiting_that_is_cancelled(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, tmp_path: Path, make: Callable[..., Messenger]
) -> None:
    """The server holds the answer back; what is cancelled ends at once, and the messenger
    goes on.
    """
    alice.agree_on_key("bob")
    bob.close()
    waits = threading.Event()

    def hold(request: object) -> None:
        if isinstance(request, FetchRequest) and request.wait:
            gateway.script.append(SILENCE)
            waits.set()

    gateway.on_request = hold

    async def main() -> None:
        async with AsyncMessenger(lambda: make("bob")) as again:
            messages = again.messages(wait=None)
            assert (await anext(messages)).content == KeyReceived()
            waiting = asyncio.ensure_future(anext(messages))
            assert await asyncio.to_thread(waits.wait, HANG_SECONDS)
            never = asyncio.ensure_future(again.send("alice", "never begun"))
            await asyncio.sleep(0)
            never.cancel()
            waiting.cancel()
            for task in (never, waiting):
                with pytest.raises(asyncio.CancelledError):
                    await task
            gateway.on_request = lambda _: None
            await again.send("alice", "after it")
            alice.send("bob", "hello")
            assert [message.content async for message in again.messages()] == [Text("hello")]

    run(main())
    received = [message.content for message in alice.messages()]
    assert Text("after it") in received
    assert Text("never begun") not in received


def test_a_message_that_came_in_the_moment_of_the_cancellation_comes_again(
    alice: Messenger, bob: Messenger, tmp_path: Path
) -> None:
    alice.send("bob", "hello")
    address = bob.home.link.address
    bob.close()

    async def main() -> None:
        async with AsyncMessenger.open(tmp_path / "bob", address) as again:
            got, goes_on = threading.Event(), threading.Event()

            class Slow(Messages):
                def __next__(self) -> Received:
                    message = super().__next__()
                    got.set()
                    assert goes_on.wait(HANG_SECONDS)
                    return message

            messages = await again.call(lambda m: AsyncMessages(again, Slow(m.receive, 0, lambda: 0.0, lambda _: None)))
            first = asyncio.ensure_future(anext(messages))
            assert await asyncio.to_thread(got.wait, HANG_SECONDS)
            first.cancel()
            await asyncio.sleep(0)
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await first
            received = [message async for message in again.messages()]
            assert [message.content for message in received] == [KeyReceived(), Text("hello")]
            assert received[0].repeated

    run(main())


def test_a_send_that_is_cancelled_is_kept(
    alice: Messenger, bob: Messenger, gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    alice.agree_on_key("bob")
    alice.close()
    asked = threading.Event()

    def hold(request: object) -> None:
        gateway.script.append(SILENCE)
        asked.set()

    async def main() -> None:
        async with AsyncMessenger(lambda: make("alice")) as again:
            # Signed in, so that the next request is the message.
            await again.users()
            gateway.on_request = hold
            sending = asyncio.ensure_future(again.send("bob", "kept"))
            assert await asyncio.to_thread(asked.wait, HANG_SECONDS)
            sending.cancel()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            gateway.on_request = lambda _: None
            gateway.script.clear()
            assert await again.call(lambda messenger: messenger.home.outbox.waiting_count()) == 1
            await again.send("bob", "later")

    run(main())
    assert [message.content for message in bob.messages()] == [KeyReceived(), Text("kept"), Text("later")]


def test_opening_that_is_cancelled_leaves_nothing_open(tmp_path: Path, gateway: FakeGateway) -> None:
    opens, goes_on = threading.Event(), threading.Event()
    opened: list[Messenger] = []

    def slowly() -> Messenger:
        opens.set()
        assert goes_on.wait(HANG_SECONDS)
        opened.append(Messenger.open(tmp_path / "alice", gateway.address))
        return opened[0]

    async def main() -> None:
        async def use() -> None:
            async with AsyncMessenger(slowly):
                pytest.fail("it was cancelled")

        using = asyncio.ensure_future(use())
        assert await asyncio.to_thread(opens.wait, HANG_SECONDS)
        using.cancel()
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await using

    run(main())
    with pytest.raises(Exception, match="closed"):
        opened[0].home.outbox.waiting_count()


def test_after_an_interruption_the_messenger_goes_on(alice: Messenger) -> None:
    alice.interrupt()
    with pytest.raises(ServerUnreachable):
        alice.users()
    alice.resume()
    assert alice.users() == []
