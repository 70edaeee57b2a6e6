"""What a batch costs a worker, beside the messages in it.

Owns: links to a worker under slots that no gateway has. Promises: as `bench.shards.measure`.
Exposure: 127.0.0.1 only.

As many messages come at a time in few batches and in many; the difference is that of the batches.
"""

import os
import time
from pathlib import Path
from typing import Final

import psutil
import zmq

from bench.shards.load import CONTENT
from bench.shards.measure import Plan, Running, seconds_of, with_server
from bench.subject import SubjectFailed
from common.data_folder import link_endpoint
from common.storage_protocol.frames import Batch, Hello, Reply, Welcome, decode_to_gateway, encode_batch, encode_hello
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import StoreMessages
from common.values import ClientId

_FEW: Final = 2
_MANY: Final = 32
_MESSAGES: Final = 256
_TICKS: Final = 60
_PERIOD: Final = 0.1
_PATIENCE_MS: Final = 20_000


class _Link:
    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, slot: int) -> None:
        self._slot = slot
        self._number = 0
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._socket.send(encode_hello(Hello(slot, os.urandom(16))))
        welcome = self._heard()
        if not isinstance(welcome, Welcome):
            raise SubjectFailed(f"a greeting was answered with {type(welcome).__name__}")
        self._epoch = welcome.epoch

    def _heard(self) -> object:
        if not self._socket.poll(_PATIENCE_MS):
            raise SubjectFailed("the worker does not answer")
        return decode_to_gateway(self._socket.recv())

    def send(self, users: list[ClientId], messages: int) -> None:
        """One batch."""
        self._number += 1
        frames = b"".join(
            pack_frame(users[number % len(users)], users[(number * 7) % len(users)], 3, bytes(CONTENT))
            for number in range(messages)
        )
        batch = Batch(self._slot, self._epoch, self._number, [StoreMessages(authenticated=False, frames=frames)])
        self._socket.send(encode_batch(batch))

    def await_reply(self) -> None:
        """Its answer."""
        reply = self._heard()
        if not isinstance(reply, Reply):
            raise SubjectFailed(f"a batch was answered with {type(reply).__name__}")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def cost_of_batch(folder: Path) -> float:
    """Microseconds of the worker's processor."""
    found: list[float] = []

    def use(running: Running) -> None:
        [data] = running.server.data_folders()
        worker = psutil.Process(running.server.worker.pid)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        links = [_Link(context, link_endpoint(data), slot) for slot in range(1, _MANY + 1)]
        users = list(running.users)
        spent = []
        for count in (_FEW, _MANY, _FEW, _MANY):
            before = seconds_of(worker)
            for _ in range(_TICKS):
                for link in links[:count]:
                    link.send(users, _MESSAGES // count)
                for link in links[:count]:
                    link.await_reply()
                time.sleep(_PERIOD)
            spent.append(seconds_of(worker) - before)
        for link in links:
            link.close()
        context.term()
        few, many = spent[0] + spent[2], spent[1] + spent[3]
        found.append(max(many - few, 0.0) * 1e6 / (2 * _TICKS * (_MANY - _FEW)))

    with_server(folder, 1, Plan(), use)
    return found[0]
