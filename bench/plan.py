"""What a load generator has to do, and what it reports: the format between the runs and both
generators.

Owns: the plan's bytes and the report's fields.
Promises: `loadgen/` and `slow_generator.py` read the same plan and write the same report; a report
accounts for every message that was sent: sent = acknowledged + refused + wrong + unexpected +
unanswered (and an answer that nobody asked for is one more unexpected).
Exposure: both ends are ours.

A plan file is `PLAN_HEADER`, then the tables, in the order of `Plan.encode`. A request to a target
is the connection's prefix, the target's head, the tag of its place in the window and the body; what
closes a target is its closer alone. In a plan of the extension there is, between prefix and head,
what a generator makes while the load runs: 642's token, or 643's ack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import Any, Final, Self

from bench.histogram import percentile

PLAN_HEADER: Final = Struct("<4s17I5Q")
"""`struct plan` in loadgen.h: magic, then u32: mode, dialect, port, connections, window, flags,
sources, targets, the sizes of key, prefix, head, tag, body, closer, greeting and the greeting's
answer, content size; then u64: messages, run, limit and hold time in ns, seed."""
MAGIC: Final = b"MUB2"
CLOSE_EACH: Final = 1
TLS: Final = 2
EXTENSION: Final = 4
TOKEN_SIZE: Final = 16
ACK_SIZE: Final = 8
_NANO: Final = 1_000_000_000


class Mode(IntEnum):
    """What is done with the connections."""

    SEND = 1
    """Requests to targets at random, `window` in flight on each connection; each answer
    names its target.
    """
    DRAIN = 2
    """Every target's mailbox is asked for until it is empty, one mailbox at a time on
    each connection.
    """
    IDLE = 3
    """The connections are held; each asks once where there are targets, `window` of them
    at a time.
    """


class Dialect(IntEnum):
    """Whose answers are read."""

    MESSAGEU = 1
    REDIS = 2
    POSTGRES = 3
    MQTT = 4
    AMQP = 5


class PlanRejected(ValueError):
    """Bytes that are no plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One load. Sizes are bytes, times seconds."""

    mode: Mode
    port: int
    connections: int
    limit_time: float
    """After this long the run ends, whatever is still in flight."""
    dialect: Dialect = Dialect.MESSAGEU
    window: int = 1
    messages: int = 0
    """How many requests are sent in all; 0: as many as `run_time` allows."""
    run_time: float = 0.0
    """How long new requests are sent; 0: until `messages` were."""
    hold_time: float = 30.0
    """How long the connections stay open after the report at most, where nobody ends them
    earlier.
    """
    seed: int = 1
    sources: int = 1
    """How many addresses 127.0.0.1, 127.0.0.2 … the connections come from; each has some
    28,000 ports.
    """
    close_each: bool = False
    """In `DRAIN`: a new connection for every request."""
    tls: bool = False
    """Over TLS; the generator in Python alone knows it."""
    extension: bool = False
    """642 in place of 603, 643 in place of 604, on connections that have signed in and that the
    generator is given. In `DRAIN` each connection is one user's, and `window` of them are at
    work at a time.
    """
    content_size: int = 0
    """In `DRAIN`: what every content has to measure; 0: anything."""
    keys: Sequence[bytes] = ()
    """What the answer has to repeat, for each target; all of one size."""
    prefixes: Sequence[bytes] = ()
    heads: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    """One for each place in the window, where a protocol numbers what is in flight."""
    body: bytes = b""
    closers: Sequence[bytes] = ()
    """In `DRAIN`: what is asked of a target once it brought something, in place of asking
    its head again.
    """
    greeting: bytes = b""
    """What each connection says first, before the load."""
    greeted: bytes = b""
    """How the answer to the greeting ends."""

    def encode(self) -> bytes:
        """The plan as a file's bytes. Raises `PlanRejected` where the tables do not fit
        each other.
        """
        prefixes = self.prefixes or [b""] * self.connections
        tags = self.tags or [b""] * self.window
        if len(prefixes) != self.connections:
            raise PlanRejected(f"{len(prefixes)} prefixes for {self.connections} connections")
        if len(tags) != self.window:
            raise PlanRejected(f"{len(tags)} tags for a window of {self.window}")
        for name, table in (("keys", self.keys), ("closers", self.closers)):
            if table and len(table) != len(self.heads):
                raise PlanRejected(f"{len(table)} {name} for {len(self.heads)} heads")
        if self.extension and (
            self.dialect is not Dialect.MESSAGEU
            or self.close_each
            or self.tls
            or (self.mode is Mode.DRAIN and len(self.heads) != self.connections)
        ):
            raise PlanRejected("the extension is MessageU's, on plain connections that stay, one for each mailbox")
        header = PLAN_HEADER.pack(
            MAGIC,
            self.mode,
            self.dialect,
            self.port,
            self.connections,
            self.window,
            CLOSE_EACH * self.close_each | TLS * self.tls | EXTENSION * self.extension,
            self.sources,
            len(self.heads),
            _common_size(self.keys),
            _common_size(prefixes),
            _common_size(self.heads),
            _common_size(tags),
            len(self.body),
            _common_size(self.closers),
            len(self.greeting),
            len(self.greeted),
            self.content_size,
            self.messages,
            round(self.run_time * _NANO),
            round(self.limit_time * _NANO),
            round(self.hold_time * _NANO),
            self.seed,
        )
        tables = [*self.keys, *prefixes, *self.heads, *tags, self.body, *self.closers, self.greeting, self.greeted]
        return b"".join([header, *tables])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The plan in a file's bytes. Raises `PlanRejected`."""
        if len(data) < PLAN_HEADER.size or not data.startswith(MAGIC):
            raise PlanRejected("this is no plan")
        fields = PLAN_HEADER.unpack_from(data)
        _magic, mode, dialect, port, connections, window, flags, sources, targets = fields[:9]
        key_size, prefix_size, head_size, tag_size, body_size, closer_size, greeting_size, greeted_size = fields[9:17]
        content_size, messages, run_time, limit_time, hold_time, seed = fields[17:]
        at = PLAN_HEADER.size
        tables = []
        for count, size in (
            (targets, key_size),
            (connections, prefix_size),
            (targets, head_size),
            (window, tag_size),
            (1, body_size),
            (targets, closer_size),
            (1, greeting_size),
            (1, greeted_size),
        ):
            tables.append([data[at + i * size : at + (i + 1) * size] for i in range(count)])
            at += count * size
        if at != len(data):
            raise PlanRejected("the plan's tables have another size than its header says")
        return cls(
            mode=Mode(mode),
            dialect=Dialect(dialect),
            port=port,
            connections=connections,
            limit_time=limit_time / _NANO,
            window=window,
            messages=messages,
            run_time=run_time / _NANO,
            hold_time=hold_time / _NANO,
            seed=seed,
            sources=sources,
            close_each=bool(flags & CLOSE_EACH),
            tls=bool(flags & TLS),
            extension=bool(flags & EXTENSION),
            content_size=content_size,
            keys=tables[0],
            prefixes=tables[1],
            heads=tables[2],
            tags=tables[3],
            body=tables[4][0],
            closers=tables[5] if closer_size else (),
            greeting=tables[6][0],
            greeted=tables[7][0],
        )


def _common_size(table: Sequence[bytes]) -> int:
    sizes = {len(entry) for entry in table}
    if len(sizes) > 1:
        raise PlanRejected(f"entries of one table have different sizes: {sorted(sizes)}")
    return sizes.pop() if sizes else 0


@dataclass(slots=True)
class Report:
    """What a generator saw. Times are seconds where nothing else is said."""

    opened: int = 0
    """Connections that were open at the start."""
    sent: int = 0
    """Requests that were begun."""
    acknowledged: int = 0
    """Answers that say that the message is stored (2103 for the recipient that was sent to)."""
    refused: int = 0
    """Answers that say that it was not done (9000)."""
    wrong: int = 0
    """2103s for somebody else."""
    unexpected: int = 0
    """Answers of any other code or size, answers nobody had asked for, and 2104s that
    contradict themselves.
    """
    unanswered: int = 0
    """Requests whose connection was lost, or that were in flight at the limit."""
    closed_early: int = 0
    """Connections that the server closed, or that broke."""
    responses: int = 0
    """Answers to what a drain or an idle connection asked (2104)."""
    messages: int = 0
    """Messages in them."""
    content_bytes: int = 0
    """Bytes of content in them."""
    wrong_size: int = 0
    """Messages whose content has another size than the plan says."""
    disordered: int = 0
    """Messages whose id is not larger than that of the one before in the same mailbox."""
    finished_targets: int = 0
    """Mailboxes that answered that they are empty, or that what they held is deleted."""
    slowest: int = 0
    """The longest latency, in nanoseconds."""
    cut_short: bool = False
    """The limit came before the end."""
    seconds: float = 0.0
    """From the start to the last answer."""
    cpu_seconds: float = 0.0
    """The generator's own processor time, user and system, from the start to the end."""
    latencies: dict[int, int] = field(default_factory=dict)
    """Acknowledged requests, or 2104s, by bucket of `histogram.py`; from just before the
    write to the answer.
    """
    per_target: list[int] = field(default_factory=list)
    """Acknowledged, or fetched, messages of each target."""

    @property
    def errors(self) -> int:
        """All that went otherwise than a correct server and a calm machine let it go."""
        went_wrong = self.refused + self.wrong + self.unexpected + self.unanswered + self.closed_early
        return went_wrong + self.wrong_size + self.disordered + self.cut_short

    def latency(self, percent: float) -> int:
        """The latency in nanoseconds that `percent` of the answers did not exceed."""
        return percentile(self.latencies, percent, self.slowest)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The report in a generator's line of JSON. Raises `TypeError` for fields it does
        not know.
        """
        values = dict(fields)
        values["latencies"] = {int(bucket): count for bucket, count in values["latencies"].items()}
        return cls(**values)
