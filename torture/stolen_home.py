"""Drill: a home is copied by a thief who has recorded everything on the wire, and goes on
recording.

Owns: two people who talk through the real server, three attackers, and what each of them opens.
Promises: each number is exact. What has to stay closed is 0, and for each 0 there is a control in
which the same attacker opens all: he is no toy.
Exposure: 127.0.0.1 only.

    thief             has the folder of Alice's home as it was, with its passphrase if it has one,
                      and every state that the copied files still hold
    breaker           has every private key of X25519 that anybody ever had
    thief and breaker both
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, Self

from client.errors import CipherError
from client.identity.home import open_store
from client.identity.passphrase import set_passphrase
from client.messenger import Messenger, SavedFile, Text
from client.open_home import OpenHome
from client.suite1 import layout, messages, payloads
from client.suite1.file_stream import FileOpener
from client.suite1.messages import Opened
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import File, PayloadMalformed
from client.suite1.peers import Peer
from client.suite1.values import MESSAGE_TYPE, Pair
from common.client_protocol.requests import LargeSendRequest, SendRequest
from common.server_address import ServerAddress
from torture import olm_pickles
from torture.checker import Verdict, judge
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.olm_messages import Envelope
from torture.programs import Server
from torture.stolen_states import State, stolen_states
from torture.x25519_breaker import Breaker, public_of, without_mlkem

NAME: Final = "stolen-home"
_FULL_MESSAGES: Final = 1_000
_QUICK_MESSAGES: Final = 12
_LONGEST_BURST: Final = 12
_SIZES: Final = (0, 100, 2_000)
_FILE_SIZE: Final = 5_000
_FILE_ONE_IN: Final = 8
_DAY: Final = 24 * 3600.0
_OUTER_KEY_ROTATES: Final = 6.1
"""Days after which a home makes another outer key."""
_OUTER_KEY_ENDS: Final = 7.1
"""Days after which others ask for another one."""
_REST: Final = (13.0, 21.2, 29.0)
"""Days on which both are there; on the last all outer keys of the stages before are gone."""
_PASSPHRASE: Final = "correct horse battery staple"  # noqa: S105 - of homes that a drill makes


class Recorded(NamedTuple):
    """A message on the wire. `keys`, `peer`: what its recipient had just before it was opened."""

    envelope: Envelope
    stream: bytes
    message: DrillMessage | None = None
    keys: OwnKeys | None = None
    peer: Peer | None = None


class _Person:
    """A user of the client of this project, whose home is open."""

    def __init__(self, folder: Path, port: int, name: str, world: "_World", passphrase: str | None) -> None:
        self.name = name
        self.home = folder / name
        self._folder = folder
        self._world = world
        self._number = 0
        self.received: list[DrillMessage] = []
        self.waiting: list[int] = []
        """The messages to this person that were sent and not opened, as places in the recording."""
        self._messenger = self._opened(port)
        self._messenger.register(name)
        if passphrase is not None:
            self._messenger.close()
            set_passphrase(self.home, passphrase)
            self._messenger = self._opened(port, passphrase)
            self._messenger.users()

    def _opened(self, port: int, passphrase: str | None = None) -> Messenger:
        received = self._folder / f"{self.name}.received"
        received.mkdir(exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)
        world = self._world
        opened = OpenHome(
            self.home, ServerAddress("127.0.0.1", port), open_store(self.home), save_dir=received,
            clock=lambda: time.time() + world.ahead, passphrase=lambda: passphrase or "",
        )  # fmt: skip
        world.tap(opened)
        return Messenger(opened)

    @property
    def client_id(self) -> bytes:
        return bytes(self._messenger.identity().client_id)

    def close(self) -> None:
        self._messenger.close()

    def sign_in(self) -> None:
        """Come back after days: what is due is published."""
        self._messenger.home.link.close()
        self._messenger.users()
        self.receive()

    def send(self, to: "_Person", *, is_file: bool, size: int) -> None:
        self._number += 1
        message = DrillMessage(self.name, to.name, self._number)
        sending = self._messenger.home.sending
        if is_file:
            path = self._folder / f"{self.name}-{self._number}"
            path.write_bytes(message.content(_FILE_SIZE))
            sending.send_file(to.name, path)
        else:
            sending.send_text(to.name, message.content(size).decode("latin-1"))
        to.waiting.append(self._world.note(message))
        self._world.learn(self.state())

    def receive(self) -> None:
        """Open all that waits."""
        keys, peers = self.state()
        self._world.learn((keys, peers))
        for place in self.waiting:
            one = self._world.recording[place]
            peer = peers.get(one.envelope.pair.sender)
            self._world.recording[place] = one._replace(keys=keys, peer=peer)
        self.waiting.clear()
        for received in self._messenger.receive():
            content = received.content
            if isinstance(content, SavedFile):
                self._note(content.path.read_bytes())
            elif isinstance(content, Text):
                self._note(content.text.encode("latin-1"))
            else:
                self._note(b"")

    def _note(self, content: bytes) -> None:
        self.received.append(parse_content(content) or DrillMessage("damaged", "damaged", 0))

    def state(self) -> tuple[OwnKeys, dict[bytes, Peer]]:
        """What the home has in memory or on disk: what a copy would have."""
        store = self._messenger.home.store
        row = store.own_keys.get()
        assert row is not None
        peers = {bytes(one.client_id): Peer.from_bytes(one.state) for one in store.peers.all() if one.state is not None}
        return OwnKeys.from_bytes(row.state), peers

    def copied(self, to: Path) -> Path:
        """Copy the whole folder, while the home is in use."""
        shutil.copytree(self.home, to)
        return to


class _World:
    """The clock, the wire, and all private keys of X25519."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.recording: list[Recorded] = []
        self.seeds: dict[int, bytes] = {}
        """The private halves of every outer key, by number."""
        self.privates: dict[bytes, bytes] = {}
        self.identities: dict[bytes, bytes] = {}
        self._accounts: set[str] = set()

    def tap(self, home: OpenHome) -> None:
        """Record what leaves a home."""
        ask = home.link.ask

        def recorded(request: Any, body: Iterable[bytes] = ()) -> Any:
            if isinstance(request, SendRequest | LargeSendRequest) and request.kind == MESSAGE_TYPE:
                content = request.content if isinstance(request, SendRequest) else b"".join(body)
                head = layout.envelope(content)
                assert head is not None
                size = head.size
                pair = Pair(request.requester, request.recipient)
                self.recording.append(Recorded(Envelope(pair, content[:size]), content[size:]))
                body = () if isinstance(request, SendRequest) else (content,)
            return ask(request, body)

        setattr(home.link, "ask", recorded)  # noqa: B010 - the link of this home alone

    def note(self, message: DrillMessage) -> int:
        """Note what the last envelope carried; return its place in the recording."""
        place = len(self.recording) - 1
        assert self.recording[place].message is None
        self.recording[place] = self.recording[place]._replace(message=message)
        return place

    def learn(self, state: tuple[OwnKeys, dict[bytes, Peer]]) -> None:
        """X25519 is broken: what a home has is known."""
        keys, peers = state
        self.seeds.update({secret.number: secret.seed for secret in keys.outer})
        if keys.account not in self._accounts:
            self._accounts.add(keys.account)
            secrets = olm_pickles.account_secrets(keys.account)
            for private in chain(
                [secrets["curve25519_private"]], secrets["one_time_private"], secrets["fallback_private"]
            ):
                self._know(private)
        for session in chain.from_iterable(peer.sessions for peer in peers.values()):
            if olm_pickles.sends(session.olm.pickle):
                self._know(olm_pickles.sending_secrets(session.olm.pickle)["ratchet_private"])

    def _know(self, private: str) -> None:
        raw = bytes.fromhex(private)
        self.privates[public_of(raw)] = raw


class _Story:
    """Alice and Bob, and what happens to Alice's home."""

    def __init__(self, folder: Path, chance: Random, server: Server, passphrase: str | None) -> None:
        self._chance = chance
        self.world = _World()
        self.alice = _Person(folder, server.port, f"alice-{folder.name}", self.world, passphrase)
        self.bob = _Person(folder, server.port, f"bob-{folder.name}", self.world, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.alice.close()
        self.bob.close()

    def one_way(self, sender: _Person, recipient: _Person, count: int) -> slice:
        """Several messages without an answer; return their places in the recording."""
        begin = len(self.world.recording)
        for number in range(count):
            sender.send(recipient, is_file=not self._chance.randrange(_FILE_ONE_IN), size=self._chance.choice(_SIZES))
            if number % _LONGEST_BURST == _LONGEST_BURST - 1:
                recipient.receive()
        recipient.receive()
        return slice(begin, begin + count)

    def both_ways(self, count: int) -> slice:
        """Messages in both directions, in bursts; return their places in the recording."""
        begin = len(self.world.recording)
        sender, recipient = self.bob, self.alice
        while (left := begin + count - len(self.world.recording)) > 0:
            self.one_way(sender, recipient, min(left, self._chance.randint(1, _LONGEST_BURST)))
            sender, recipient = recipient, sender
        return slice(begin, begin + count)

    def round_trip(self) -> None:
        """A message in each direction."""
        self.one_way(self.bob, self.alice, 1)
        self.one_way(self.alice, self.bob, 1)

    def verdict(self) -> Verdict:
        """What the checker says of the talk itself."""
        sent = [one.message for one in self.world.recording if one.message is not None]
        return judge(sent, sent, {person.name: person.received for person in (self.alice, self.bob)})

    def later(self, days: float) -> None:
        """Both come back on a day, and talk."""
        self.world.ahead = days * _DAY
        for _ in range(2):
            for person in (self.alice, self.bob):
                person.sign_in()
            self.round_trip()


class Thief:
    """Opens recordings with what a copied home holds, whatever our own code would refuse."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states
        self._following: dict[Pair, tuple[OwnKeys, Peer]] = {}

    def payload(self, one: Recorded) -> bytes | None:
        """Return what a message carried; None if it stays closed. Give it the messages in order: he
        follows a talk.
        """
        pair = one.envelope.pair
        known = [self._following[pair]] if pair in self._following else []
        for state in self._states:
            # To the owner, or from the owner: the session is that with the other.
            known += [(state.keys, peer) for client_id, peer in state.peers.items() if client_id in pair]
        for keys, peer in known:
            opened = opened_with(keys, peer, one.envelope)
            if opened is not None:
                self._following[pair] = opened.keys, opened.peer
                return opened.payload
        return None

    def opens_stream(self, one: Recorded) -> bool:
        """Whether a key that the history has opens a file's content."""
        return any(_opens(file, one) for state in self._states for file in state.files)

    @property
    def seeds(self) -> dict[int, bytes]:
        """The outer keys that he has."""
        return {secret.number: secret.seed for state in self._states for secret in state.keys.outer}


def opened_with(keys: OwnKeys, peer: Peer, envelope: Envelope) -> Opened | None:
    """Open a message with a state: nothing counts as repeated, and sessions may begin again."""
    forgetful = peer._replace(digests=(), session_ids=())
    for state in (forgetful, forgetful._replace(sessions=())):
        result = messages.open_message(keys, state, envelope.pair, envelope.content)
        if isinstance(result, Opened):
            return result
    return None


def says(payload: bytes | None, message: DrillMessage | None) -> bool:
    """Whether a payload is that of a message."""
    if payload is None or message is None:
        return False
    try:
        found = payloads.decoded(payload)
    except PayloadMalformed:
        return False
    if isinstance(found, File):
        return found.name == f"{message.sender}-{message.number}"
    return isinstance(found, payloads.Text) and parse_content(found.text.encode("latin-1")) == message


def _opens(file: File, one: Recorded) -> bool:
    opener = FileOpener(file.key, one.envelope.pair, file.size, file.digest)
    try:
        content = opener.update(one.stream) + opener.finish()
    except CipherError:
        return False
    return parse_content(content) == one.message


class Count(NamedTuple):
    """How many messages somebody opened, and how many it has to be."""

    who: str
    stage: str
    opened: int
    expected: int


class _Stages(NamedTuple):
    """The messages of each stage, as places in the recording."""

    before: slice
    """The copy was made behind them."""
    after: slice
    """To Alice, without an answer of hers."""
    healed: slice
    """Behind a message in each direction."""
    rotated: slice
    """Behind the rotation of the outer keys."""


def _story(
    folder: Path, chance: Random, server: Server, passphrase: str | None, count: int
) -> tuple[list[Count], Verdict]:
    """Let it happen, and count."""
    with _Story(folder, chance, server, passphrase) as story:
        alice, bob = story.alice, story.bob
        story.one_way(bob, alice, 1)
        story.round_trip()
        before = story.both_ways(count)
        thief = Thief(stolen_states(alice.copied(folder / "copy"), passphrase))
        after = story.one_way(bob, alice, count)
        story.round_trip()
        healed = story.both_ways(count)
        story.later(_OUTER_KEY_ROTATES)
        story.later(_OUTER_KEY_ENDS)
        stages = _Stages(before, after, healed, story.both_ways(count))
        for day in _REST:
            story.later(day)
        later = Thief(
            [
                *stolen_states(alice.copied(folder / "later-alice"), passphrase),
                *stolen_states(bob.copied(folder / "later-bob"), None),
            ]
        )
        return _Counting(story, stages, thief, later).counts(), story.verdict()


class _Counting:
    """Each attacker over the whole recording."""

    def __init__(self, story: _Story, stages: _Stages, thief: Thief, later: Thief) -> None:
        self._world = story.world
        self._alice = story.alice.client_id
        self._identities = {
            person.client_id: person.state()[0].identity.curve25519 for person in (story.alice, story.bob)
        }
        self._stages = stages
        self._thief = thief
        self._later = later

    def counts(self) -> list[Count]:
        """Return what each attacker opens, and has to."""
        recording = self._world.recording
        sizes = [len(recording[stage]) for stage in self._stages]
        to_alice = [
            sum(one.envelope.pair.recipient == self._alice for one in recording[stage]) for stage in self._stages
        ]
        seeds = self._world.seeds
        rows = (
            ("with the state of the time", self._by(_at_the_time), sizes),
            ("the copy", self._by(self._thief.payload), [0, sizes[1], 0, 0]),
            ("X25519", self._by_breaker({number: without_mlkem(seed) for number, seed in seeds.items()}), [0] * 4),
            ("the copy and X25519", self._by_breaker(self._thief.seeds), [*to_alice[:3], 0]),
            ("copies of both, two weeks later", self._by(self._later.payload), [0] * 4),
            ("these and X25519", self._by_breaker(self._later.seeds), [0] * 4),
            ("X25519 and all keys of ML-KEM, kept", self._by_breaker(seeds), sizes),
        )
        found = [
            Count(who, stage, opened, expected)
            for who, counted, wanted in rows
            for stage, opened, expected in zip(self._stages._fields, counted, wanted, strict=True)
        ]
        files = sum(self._thief.opens_stream(one) for one in recording[self._stages.before])
        return [*found, Count("keys of files in the copy", "before", files, 0)]

    def _by(self, payload: Callable[[Recorded], bytes | None]) -> list[int]:
        """Of each stage, how many messages open."""
        return self._counted([payload(one) for one in self._world.recording])

    def _by_breaker(self, seeds: Mapping[int, bytes]) -> list[int]:
        breaker = Breaker(seeds, self._world.privates, self._identities)
        return self._counted(breaker.payloads(one.envelope for one in self._world.recording))

    def _counted(self, found: Sequence[bytes | None]) -> list[int]:
        opened = [says(payload, one.message) for payload, one in zip(found, self._world.recording, strict=True)]
        return [sum(opened[stage]) for stage in self._stages]


def _at_the_time(one: Recorded) -> bytes | None:
    if one.keys is None or one.peer is None:
        return None
    # Several came at once: those before it in the same chain don't matter to Olm.
    opened = opened_with(one.keys, one.peer, one.envelope)
    return None if opened is None else opened.payload


def _told(counts: Sequence[Count], count: int) -> str:
    """What was opened: by whom, of the messages before the copy, after it, after a round trip,
    after the rotation.
    """
    by_whom: dict[str, list[str]] = {}
    for one in counts:
        by_whom.setdefault(one.who, []).append(str(one.opened))
    told = "; ".join(f"{who} {', '.join(opened)}" for who, opened in by_whom.items())
    return f"{count} messages in each stage, in a home without a passphrase and in one that has it; opened by {told}"


def run(place: Place) -> Row:
    """A home without a passphrase, and one that has it."""
    count = place.sized(_FULL_MESSAGES, _QUICK_MESSAGES)
    folder, chance = place.folder_of(NAME), place.chance(NAME)
    counts: list[Count] = []
    verdict = Verdict()
    with Server(folder / "server").start() as server:
        for name, passphrase in (("open", None), ("sealed", _PASSPHRASE)):
            (folder / name).mkdir()
            counted, of_this = _story(folder / name, chance, server, passphrase, count)
            counts += [one._replace(who=f"{name}: {one.who}") for one in counted]
            verdict = verdict.combined(of_this)
    wrong = [
        f"{one.who}, {one.stage}: {one.opened}, and not {one.expected}" for one in counts if one.opened != one.expected
    ]
    for problem in (*wrong, examples(verdict)):
        if problem:
            say(f"  {NAME}: {problem}")
    note = "; ".join(wrong) or _told(counts, count)
    return Row(NAME, 0, verdict, verdict.spotless and not wrong, note)
