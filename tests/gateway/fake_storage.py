"""A scripted storage worker: a ROUTER that answers, stays silent, answers late, or answers garbage.

Driven by hand, without a thread: `serve` handles what has come. `decide` maps an operation to its
outcome.
"""

from collections.abc import Callable
from pathlib import Path

import zmq

from common.storage_protocol.frames import (
    Batch,
    Hello,
    Reply,
    StoreFacts,
    ToGateway,
    Welcome,
    decode_to_worker,
    encode_to_gateway,
)
from common.storage_protocol.message_format import walk_frames, walk_frames_once
from common.storage_protocol.operations import (
    NO_MAIL,
    AboutServer,
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    GetAbout,
    GetPublicKey,
    GetUploadProgress,
    KeyClaimed,
    KeyFound,
    KeysKept,
    ListUsers,
    MessagesStored,
    Operation,
    Outcome,
    PublishKeys,
    Pull,
    Pulled,
    Refused,
    RefusedFrame,
    Register,
    Registered,
    RepeatedFrame,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
    UploadProgress,
    UsersPage,
)

SERVER_ID = b"S" * 16
INCARNATION = b"W" * 16


class FakeStorage:
    """`operations` holds everything that was asked, in order; `held` the batches that were not
    answered yet.

    It dies of every batch that has a message with the content `deadly`.

    A run is noted and decided as the `StoreMessage`s that it stands for.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
        self._context = context
        self.endpoint = f"ipc://{folder}/s{shard[0]}.sock"
        self.decide: Callable[[Operation], Outcome] = default_decision
        self.deadly: bytes | None = None
        self.known: dict[bytes, int] = {}
        """By token the sequences of messages that were sent before."""
        self.answering = True
        self.welcoming = True
        self.epoch = 0
        self.incarnation = INCARNATION
        self.facts = StoreFacts(SERVER_ID, 7, 100, *shard)
        self.operations: list[Operation] = []
        self.batches: list[Batch] = []
        self.greetings: list[Hello] = []
        self.held: list[Batch] = []
        self.gateway = b""
        self.socket: zmq.Socket[bytes] | None = None
        self.bind()

    def bind(self) -> None:
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(self.endpoint)

    def die(self) -> None:
        """As a killed worker: the socket is gone, nothing is said."""
        assert self.socket is not None
        self.socket.close()
        self.socket = None

    def serve(self) -> None:
        """Handle all that has come."""
        while self.socket is not None and self.socket.poll(0):
            self.gateway, frame = self.socket.recv_multipart()
            message = decode_to_worker(frame)
            if isinstance(message, Hello):
                self.greetings.append(message)
                if self.welcoming:
                    self.welcome(message)
            elif isinstance(message, Batch):
                self.batches.append(message)
                if self._kills(message):
                    self.die()
                elif self.answering:
                    self.answer(message)
                else:
                    self.held.append(message)

    def _kills(self, batch: Batch) -> bool:
        runs = [operation for operation in batch.operations if isinstance(operation, StoreMessages | StoreMessagesOnce)]
        return any(message.content == self.deadly for run in runs for message in messages_of(run))

    def welcome(self, hello: Hello) -> None:
        self.epoch += 1
        self.say(Welcome(hello.slot, self.epoch, hello.incarnation, self.incarnation, self.facts))

    def answer(self, batch: Batch) -> None:
        for operation in batch.operations:
            if isinstance(operation, StoreMessages | StoreMessagesOnce):
                self.operations += messages_of(operation)
            else:
                self.operations.append(operation)
        outcomes = [self._outcome(operation) for operation in batch.operations]
        self.say(Reply(batch.slot, batch.epoch, batch.number, self.incarnation, outcomes))

    def _outcome(self, operation: Operation) -> Outcome:
        if not isinstance(operation, StoreMessages | StoreMessagesOnce):
            return self.decide(operation)
        first = 0
        refused: list[RefusedFrame] = []
        repeated: list[RepeatedFrame] = []
        for index, message in enumerate(messages_of(operation)):
            if message.token in self.known:
                repeated.append(RepeatedFrame(index, self.known[message.token]))
                continue
            outcome = self.decide(message)
            match outcome:
                case Stored(sequence):
                    first = first or sequence
                case Refused(reason, retry_after):
                    refused.append(RefusedFrame(index, reason, retry_after))
                case _:
                    return outcome
        return MessagesStored(first, refused, repeated)

    def say(self, message: ToGateway) -> None:
        self.say_raw(encode_to_gateway(message))

    def say_raw(self, frame: bytes) -> None:
        assert self.socket is not None
        self.socket.send_multipart([self.gateway, frame])

    def asked(self, kind: type) -> list[Operation]:
        return [operation for operation in self.operations if isinstance(operation, kind)]

    def close(self) -> None:
        if self.socket is not None:
            self.die()


def messages_of(run: StoreMessages | StoreMessagesOnce) -> list[StoreMessage]:
    """The same, one by one."""
    if isinstance(run, StoreMessagesOnce):
        return [
            StoreMessage(sender, run.authenticated, recipient, kind, content, token)
            for sender, token, recipient, kind, content in walk_frames_once(run.frames)
        ]
    return [
        StoreMessage(sender, run.authenticated, recipient, kind, content)
        for sender, recipient, kind, content in walk_frames(run.frames)
    ]


def default_decision(operation: Operation) -> Outcome:
    """An empty store that agrees with everything."""
    match operation:
        case Register():
            return Registered(b"N" * 16)
        case StoreMessage() | CommitUpload():
            return Stored(1)
        case BeginUpload() | Chunk() | GetUploadProgress():
            return UploadProgress(0)
        case GetPublicKey(subject=subject):
            return KeyFound(subject, b"K" * 160)
        case ListUsers():
            return UsersPage(0, 1, 1, [])
        case Pull():
            return Pulled(0, 0, 0, 0, NO_MAIL)
        case Fetch():
            return Fetched(0, 0, 0, 100, NO_MAIL)
        case PublishKeys():
            return KeysKept(50)
        case ClaimKey(one_time=one_time):
            return KeyClaimed(b"bundle", b"1" * 96 if one_time else b"")
        case GetAbout():
            return AboutServer(21, 1000, 2000, 3000, 1, b"about")
        case _:
            return Done()
