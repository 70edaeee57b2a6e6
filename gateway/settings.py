"""The gateway's limits and time-outs, with the defaults that suit one small machine.

Owns: every number an operator may want to change. Sizes are bytes, times seconds.
Promises: immutable; read once at the start.
Exposure: the operator's.
"""

from enum import StrEnum
from typing import NamedTuple


class Limited(StrEnum):
    """Which clients the limits of addresses and users apply to."""

    NOBODY = "off"
    OTHER_MACHINES = "auto"
    """Clients at this machine's loopback have none."""
    EVERYBODY = "on"


class Rate(NamedTuple):
    """`burst` at once, and `amount` more every `seconds`."""

    burst: int
    amount: int
    seconds: int


class Settings(NamedTuple):
    """See docs/client-protocol.md, "Limits and time-outs", for those that clients can notice."""

    largest_content: int = 1024 * 1024 * 1024
    inline_content: int = 64 * 1024
    """Up to this size a content travels inside a batch; larger ones go in chunks."""
    chunk: int = 256 * 1024
    unsynced_content: int = 16 * 1024 * 1024
    """What the worker may have of one upload that is not on disk yet; past it, no more is sent."""
    page: int = 256 * 1024
    """Content that one page of a mailbox brings from the worker."""
    large_page: int = 1024 * 1024
    """The same for a client that takes its pages as fast as they come."""
    pages_in_flight: int = 16 * 1024 * 1024
    """What is asked of the worker in pages at a time, for all connections together."""
    users_page: int = 8 * 1024 * 1024
    """What a page of users counts as in `pages_in_flight`: it takes both programs longer
    than as many bytes of mail, and one turn of the gateway takes in all that are in flight.
    """
    largest_response: int = 256 * 1024 * 1024
    """Payload of one 2104; the rest waits for the next 604."""
    connection_in_flight: int = 2 * 1024 * 1024
    """What one connection may have given us that is not answered; past it, it is not read."""
    work_in_flight: int = 3 * 1024 * 1024
    """What the worker may have before it until those who wait for an answer already have to wait
    for their turn. As in the two above, a request counts as more than its bytes by the time that it
    takes: see `gateway.handlers.dispatch`."""
    work_a_turn: int = 128 * 1024
    """What one connection may do in one turn of the loop; the request that reaches it is
    the last one.
    """
    total_in_flight: int = 128 * 1024 * 1024
    """What all connections together may have given us that is not answered, whole or in part, and
    have not taken of their responses. Past it those that went on the longest ago are closed."""
    malformed_frames: int = 16
    """Malformed requests of one connection, the last of which ends it."""
    connections: int = 16_384
    """The last places are kept for authenticated connections; see `gateway.connection.capacity`."""
    idle_before_closed: float = 1.0
    """How long a connection has been idle at least that makes room for another one."""
    time_to_prove: float = 5.0
    """How long a connection may have a kept place without a proof."""
    openings: int = 512
    """Connections that are in a TLS handshake or have to name the client behind a proxy."""
    openings_a_turn: int = 4
    """How many of them one turn of the loop goes on with: a step may take a millisecond."""
    proofs_a_turn: int = 4
    """The same of signatures that are checked."""
    opening_kept: float = 1.0
    """How long one of them is not ended for another one."""
    opening_time: float = 10.0
    header_time: float = 10.0
    payload_silence: float = 30.0
    """How long a byte of a payload may be missing; of an upload, how far it may be behind
    `slowest_upload`.
    """
    slowest_upload: float = 2048.0
    """Bytes a second that a client has to send of a content above `inline_content`, while
    we wait for it.
    """
    longest_upload: float = 4 * 3600.0
    """How long such a content may take in all: it holds disk meanwhile."""
    response_silence: float = 60.0
    suspicion_silence: float = 1.0
    """How long a 603 with an impossible size may keep us guessing whether it is a lenient
    type 1.
    """
    drain_time: float = 30.0
    """How long bytes are thrown away behind a half-close before the connection is closed."""
    reset_watch: float = 2.0
    """How long after the end of a connection a reset is waited for: a client with unread
    bytes sends one.
    """
    limited: Limited = Limited.OTHER_MACHINES
    limit_connections: int = 128
    """Of one address, at a time. An address of IPv6 is its network of 64 bits."""
    limit_handshakes: Rate = Rate(10, 1, 1)
    """Of TLS, of one address."""
    limit_registrations: Rate = Rate(6, 1, 30)
    """Of one address."""
    limit_messages: Rate = Rate(60, 1, 1)
    """Of one user who is authenticated; of one address for those who are not."""
    limit_bytes: Rate = Rate(128 * 1024 * 1024, 2 * 1024 * 1024, 1)
    """The same, of contents above `inline_content`; others are few bytes by their number."""
    limit_requests: Rate = Rate(600, 20, 1)
    """The same, of other requests, each of which counts as one more for each whole
    `bytes_of_request` of its answer."""
    bytes_of_request: int = 1024 * 1024
    limit_claims: Rate = Rate(60, 1, 10)
    """One-time keys that one user gets by 645; past it the answer has none."""
    limit_claimed: Rate = Rate(50, 1, 60)
    """The same, that are given out of one user's."""
    limit_claims_of_pair: Rate = Rate(2, 1, 3600)
    """The same, of one user's to one other, so that nobody uses up what others are to get."""
    limit_keys: int = 100_000
    """How many addresses or users are remembered for each of these rates."""
    nonce_age: float = 30.0
    proof_attempts: int = 3
    longest_wait: int = 300
    ask_again: float = 60.0
    """How often the worker is asked for a waiting client although no mail was announced."""
    stop_time: float = 3.0
    """How long an orderly stop waits for answers, and for clean ends to be settled."""
