"""An operator's end of the storage link: one request, one answer.

Owns: its socket. Promises: an answer or an exception within `PATIENCE`; a request is never sent
twice, because it may change something.
Exposure: whoever may enter the link's folder; what answers there is the worker.

Source: docs/storage-protocol.md, "Administration".
"""

import socket
import time
from typing import Final, TypeVar

import zmq

from common.errors import FrameUndecodable, MessageUError, PeerError
from common.storage_protocol.administration import (
    AdminAnswer,
    AdminRequest,
    NotDone,
    decode_answer,
    encode_request,
    is_admin_answer,
    number_of,
)
from storage_worker.engine.errors import StoreFailed

Answer = TypeVar("Answer", bound=AdminAnswer)
PATIENCE: Final = 10.0
"""Seconds for one answer. A worker that is there answers between two turns."""


class NotObeyed(MessageUError):
    """The worker did nothing, and said why in a sentence for the operator. The store is well."""


class WorkerSilent(PeerError):
    """The worker did not answer in time: it is an earlier version, hangs, or is gone."""


def is_served(endpoint: str) -> bool:
    """Whether a worker listens at the endpoint. Trying the lock would tell too, but a worker that
    starts at that moment would find it held. Raises `OSError` for a socket that this user may not
    use.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(endpoint.removeprefix("ipc://"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


class AdminLink:
    """A connection to the worker at `endpoint`; `patience` in seconds, else `PATIENCE`."""

    def __init__(self, endpoint: str, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self._number = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def ask(self, request: AdminRequest) -> AdminAnswer:
        """Send a request; its answer. Raises `WorkerSilent`, and `FrameUndecodable` for an answer
        of another version.
        """
        self._number += 1
        self._socket.send(encode_request(self._number, request))
        deadline = time.monotonic() + self._patience
        while (left := deadline - time.monotonic()) > 0 and self._socket.poll(int(left * 1000) + 1):
            frame = self._socket.recv()
            # A late answer to an earlier request is none to this one.
            if is_admin_answer(frame) and number_of(frame) == self._number:
                return decode_answer(frame)
        raise WorkerSilent(f"the storage worker did not answer within {self._patience:g} s")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()


def asked(link: AdminLink, request: AdminRequest, expected: type[Answer]) -> Answer:
    """Ask, and return an answer of that type. Raises `NotObeyed` where the worker says that it did
    not do it, and `StoreFailed` with a sentence for the operator if there is no answer.
    """
    try:
        answer = link.ask(request)
    except WorkerSilent as error:
        raise StoreFailed(f"{error}: whether it was done is unknown") from error
    except FrameUndecodable as error:
        raise StoreFailed(f"the storage worker is of another version ({error})") from error
    if isinstance(answer, NotDone):
        raise NotObeyed(answer.problem)
    if not isinstance(answer, expected):
        raise StoreFailed("the storage worker is of another version")
    return answer
