"""Drill: the product's own client library, killed at any instant while it sends and receives, and
so are the programs.

Owns: what a script that uses `client.messenger` writes down. Promises: a text that the library has
taken, whether it was sent or "is kept", arrives; what is given again is marked as repeated.
Exposure: none.
"""

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from client.errors import ClientError, OutboxFull, OutcomeUnknown, ServerUnreachable
from client.messenger import Messenger, Received, Text
from common.info_files import ServerAddress
from torture.actors import Actor
from torture.cast import Cast
from torture.drill import Place, Row
from torture.drill_messages import DrillMessage, parse_content, parse_line
from torture.journal import Journal
from torture.programs import Server
from torture.random_kills import QUICK, kill_at_random

NAME: Final = "real-clients"
_SENDERS: Final = 2
_RECEIVERS: Final = 2
_SIZES: Final = (0, 100, 1_000, 100_000)
_FULL_SECONDS: Final = 180
_PAUSE: Final = 0.03


class Orders(NamedTuple):
    """What a user of the library has to know. `stop`: a file that is there once it may end."""

    port: int
    home: Path
    name: str
    others: tuple[str, ...]
    journal: Path
    stop: Path


def _messenger(orders: Orders) -> Messenger:
    return Messenger.open(orders.home, ServerAddress("127.0.0.1", orders.port), orders.home / "received")


def send_texts(orders: Orders) -> None:
    """Send text after text; note it before, and note that the library has taken it."""
    with Journal(orders.journal) as journal, _messenger(orders) as messenger:
        attempted = [parse_line(line[2:]) for line in journal.lines if line.startswith("A ")]
        chance = random.Random(len(attempted))
        number = len(attempted)
        while not orders.stop.exists():
            number += 1
            message = DrillMessage(orders.name, chance.choice(orders.others), number)
            journal.write([f"A {message}"])
            text = message.content(chance.choice(_SIZES)).decode("latin-1")
            try:
                try:
                    messenger.home.sending.send_text(message.recipient, text)
                except OutboxFull:
                    # The server was away for long. Nothing was kept of this one.
                    _empty_outbox(messenger)
                    messenger.home.sending.send_text(message.recipient, text)
            except (ServerUnreachable, OutcomeUnknown) as error:
                assert "kept" in error.advice, error
            journal.write([f"K {message}"])
            time.sleep(_PAUSE)
        _empty_outbox(messenger)


def _empty_outbox(messenger: Messenger) -> None:
    """Receiving sends what waits first."""
    while True:
        try:
            for _ in messenger.receive():
                pass
        except ClientError:
            time.sleep(_PAUSE)
        else:
            return


def receive_texts(orders: Orders) -> None:
    """Note what comes; what comes again has to say so."""
    with Journal(orders.journal) as journal, _messenger(orders) as messenger:
        known = {line.partition(" ")[2] for line in journal.lines}
        while True:
            may_end = orders.stop.exists()
            came = 0
            try:
                for received in messenger.receive(0 if may_end else 1):
                    came += 1
                    line = str(_message(received))
                    # A death after the note and before the library heard of it: given again, and
                    # marked.
                    if not (received.repeated and line in known):
                        journal.write([f"{received.number} {line}"])
                        known.add(line)
            except ClientError:
                time.sleep(_PAUSE)
            else:
                if may_end and not came:
                    return


def _message(received: Received) -> DrillMessage | str:
    content = received.content
    if not isinstance(content, Text):
        return "damaged"
    with suppress(UnicodeEncodeError):
        return parse_content(content.text.encode("latin-1")) or "damaged"
    return "damaged"


def _introduce(cast: Cast) -> None:
    """Everybody registers; every sender shares a key with every receiver."""
    receivers = [f"r{number}" for number in range(_RECEIVERS)]

    def orders(name: str, stop: Path) -> Orders:
        return Orders(cast.server.port, cast.folder / name, name, tuple(receivers), cast.journal(name), stop)

    sending = [orders(f"s{number}", cast.stop_sending) for number in range(_SENDERS)]
    receiving = [orders(name, cast.stop_receiving) for name in receivers]
    for one in (*sending, *receiving):
        with _messenger(one) as messenger:
            messenger.register(one.name)
    for one in sending:
        with _messenger(one) as messenger:
            for name in receivers:
                messenger.fetch_public_key(name)
                messenger.send_key(name)
        cast.add_sender(one.name, Actor(send_texts, one))
    for one in receiving:
        with _messenger(one) as messenger:
            assert len(list(messenger.receive())) == len(sending), "a key did not come"
        cast.add_receiver(one.name, Actor(receive_texts, one))


def run(place: Place) -> Row:
    """As the drill with the small clients."""
    folder = place.folder_of(NAME)
    cast = Cast(folder, Server(folder / "server").start())
    try:
        _introduce(cast)
    except BaseException:
        cast.server.end()
        raise
    enough = QUICK if place.quick else QUICK._replace(seconds=_FULL_SECONDS * place.share)
    return kill_at_random(cast, place, NAME, enough)
