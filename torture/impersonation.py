"""Drill: an attacker tries to act in the name of an authenticated user, in every way short of
having their key.

Owns: the matrix of ways and requests.
Promises: every request has a row, or this module can't be imported. An answer other than a refusal
or the end of the connection is a success of the attacker, and fails the drill; so does any trace in
a mailbox.
Exposure: none.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import (
    SEND_HEAD,
    BlockRequest,
    ClaimKeyRequest,
    DeleteAccountRequest,
    FetchRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PublishKeysRequest,
    PullRequest,
    RequestCode,
    SendRequest,
    encode,
)
from common.client_protocol.responses import ErrorResponse, HelloResponse
from common.tables import complete
from common.values import ClientId, Token
from torture.caller import LARGEST_FETCH, Account, Caller, Mail, new_account, persistently, sign, signed_string
from torture.checker import judge
from torture.drill import Place, Row, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server

NAME: Final = "impersonation"
_FULL_TRIES: Final = 10_000
_QUICK_TRIES: Final = 400
_NONCE_AGE: Final = 31.0
_EXPIRED_AT_ONCE: Final = 40
_LARGE: Final = 100_000


class Stage:
    """A server with an authenticated victim who has mail, and an attacker with another
    account.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.victim, self.attacker, self.witness = (new_account(port, name) for name in ("victim", "mallory", "w"))
        self.messages = [DrillMessage("w", "victim", number) for number in range(1, 6)]
        with Caller(port) as caller:
            for message in self.messages:
                caller.send(self.witness.client_id, self.victim.client_id, message.content(100))
        with Caller(port) as caller:
            # What the attacker overhears: a proof that was good, once.
            hello = caller.hello()
            self.overheard = self.proof(hello, self.victim)
            caller.post(ProveRequest(self.victim.client_id, self.overheard))
            caller.event()
            self.highest = self.fetch(caller, self.victim)[-1].number
        with Caller(port) as caller:
            caller.prove(self.attacker)

    @staticmethod
    def proof(hello: HelloResponse, account: Account, client_id: ClientId | None = None) -> bytes:
        """A signature over the nonce of `hello`, by `account`, for its own id or another."""
        return sign(account.key_der, signed_string(hello.server_id, hello.nonce, client_id or account.client_id))

    @staticmethod
    def fetch(caller: Caller, account: Account) -> list[Mail]:
        """All that waits, without acknowledging it."""
        return caller.fetch(account.client_id, 0)

    # --- the ways
    # ----------------------------------------------------------------------------------------------

    def ways(self) -> dict[str, Callable[[], tuple[Caller, bytes | None]]]:
        """By name: a connection in some state, and the signature to try on it."""
        return {
            "no proof": lambda: (Caller(self.port), None),
            "greeted": lambda: (self.greeted()[0], None),
            "wrong key": lambda: self._signed(lambda hello: self.proof(hello, self.attacker, self.victim.client_id)),
            "own proof, other id": lambda: self._signed(lambda hello: self.proof(hello, self.attacker)),
            "replayed proof": lambda: self._signed(lambda _hello: self.overheard),
            "proof of another connection": self._of_another_connection,
            "void nonce": self._void_nonce,
            "nonce tried before": self._tried_before,
            "authenticated as somebody else": self._as_attacker,
        }

    def greeted(self) -> tuple[Caller, HelloResponse]:
        """A connection that greeted, and what it was told."""
        caller = Caller(self.port)
        return caller, caller.hello()

    def _signed(self, signature: Callable[[HelloResponse], bytes]) -> tuple[Caller, bytes]:
        caller, hello = self.greeted()
        return caller, signature(hello)

    def _of_another_connection(self) -> tuple[Caller, bytes]:
        other, hello = self.greeted()
        signature = self.proof(hello, self.victim)
        other.close()
        return self.greeted()[0], signature

    def _void_nonce(self) -> tuple[Caller, bytes]:
        caller, hello = self.greeted()
        caller.hello()
        return caller, self.proof(hello, self.victim)

    def _tried_before(self) -> tuple[Caller, bytes]:
        caller, hello = self.greeted()
        caller.ask(ProveRequest(self.victim.client_id, bytes(128)))
        return caller, self.proof(hello, self.victim)

    def _as_attacker(self) -> tuple[Caller, None]:
        caller = Caller(self.port)
        caller.prove(self.attacker)
        return caller, None

    # --- the requests
    # -------------------------------------------------------------------------------------------

    def requests(self) -> Iterator[bytes]:
        """Every request that is made in somebody's name, in the victim's."""
        for forge in FORGERIES.values():
            yield from forge(self.victim.client_id, self.witness.client_id, self.highest)


Forge = Callable[[ClientId, ClientId, int], Iterable[bytes]]
"""Requests in the name of a client id, to or about another; a sequence that may be acknowledged."""
_TOKEN: Final = Token(bytes(16))
_TEXT: Final = b"not from the victim"


def _sends(me: ClientId, other: ClientId, token: Token | None) -> list[bytes]:
    """A small content, and one that is uploaded."""
    return [
        encode(SendRequest(me, other, 3, _TEXT, token)),
        encode(SendRequest(me, other, 4, _TEXT * (_LARGE // len(_TEXT)), token)),
    ]


FORGERIES: Final[Mapping[RequestCode, Forge]] = complete(
    "FORGERIES of torture/impersonation.py",
    {
        # Nobody's name is in it.
        RequestCode.REGISTER: lambda _me, _other, _highest: [],
        RequestCode.LIST_USERS: lambda me, _other, _highest: [encode(ListUsersRequest(me))],
        RequestCode.PUBLIC_KEY: lambda me, other, _highest: [encode(PublicKeyRequest(me, other))],
        RequestCode.SEND: lambda me, other, _highest: [
            *_sends(me, other, None),
            # The lenient form: a key request whose header says anything for its size.
            REQUEST_HEADER.pack(me, 2, RequestCode.SEND, 0xFFFFFFFF) + SEND_HEAD.pack(other, 1, 0),
        ],
        RequestCode.PULL: lambda me, _other, _highest: [encode(PullRequest(me))],
        # The client id is ignored.
        RequestCode.HELLO: lambda _me, _other, _highest: [],
        # Each way has its own signature.
        RequestCode.PROVE: lambda _me, _other, _highest: [],
        RequestCode.SEND_ONCE: lambda me, other, _highest: _sends(me, other, _TOKEN),
        # The worst case: one's own keys in place of the victim's.
        RequestCode.PUBLISH_KEYS: lambda me, _other, _highest: [
            encode(PublishKeysRequest(me, forget=True, bundle=_TEXT, one_time_keys=b""))
        ],
        RequestCode.CLAIM_KEY: lambda me, other, _highest: [encode(ClaimKeyRequest(me, other))],
        # Nobody's name is in these either.
        RequestCode.REGISTER_INVITED: lambda _me, _other, _highest: [],
        RequestCode.ABOUT: lambda _me, _other, _highest: [],
        RequestCode.DELETE_ACCOUNT: lambda me, _other, _highest: [encode(DeleteAccountRequest(me, me))],
        # Nobody's name is in it either.
        RequestCode.BLOCK: lambda me, other, _highest: [encode(BlockRequest(me, blocked=True, sender=other))],
        RequestCode.CERTIFICATES: lambda _me, _other, _highest: [],
        RequestCode.FETCH: lambda me, _other, highest: [
            encode(FetchRequest(me, 0, LARGEST_FETCH, 0)),
            # The worst case: an acknowledgement deletes.
            encode(FetchRequest(me, highest, LARGEST_FETCH, 0)),
        ],
    },
    RequestCode,
)


class Tally:
    """Attempts, and those that were not refused."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()
        self.successes: Counter[str] = Counter()

    def attempt(self, way: str, caller: Caller, request: bytes) -> bool:
        """Make one attempt; return whether the connection is still open."""
        self.tries[way] += 1
        try:
            answer = caller.ask(request)
        except OSError:
            return False
        if not isinstance(answer, ErrorResponse):
            self.successes[way] += 1
            say(f"  {NAME}: {way} got {answer}")
            return False
        return True

    def attack(self, stage: Stage, way: str, open_connection: Callable[[], tuple[Caller, bytes | None]]) -> None:
        """The proof, if the way has one, then every request."""
        caller, signature = persistently(open_connection)
        if signature is not None:
            self.attempt(way, caller, encode(ProveRequest(stage.victim.client_id, signature)))
        for request in stage.requests():
            if not self.attempt(way, caller, request):
                caller.close()
                caller, _signature = persistently(open_connection)
        caller.close()


def _expired(stage: Stage, tally: Tally, connections: list[tuple[Caller, HelloResponse]], since: float) -> None:
    """Proofs that would have been good, over nonces that are too old."""
    time.sleep(max(0.0, since + _NONCE_AGE - time.monotonic()))
    for caller, hello in connections:
        proof = encode(ProveRequest(stage.victim.client_id, stage.proof(hello, stage.victim)))
        if tally.attempt("expired nonce", caller, proof):
            for request in stage.requests():
                if not tally.attempt("expired nonce", caller, request):
                    break
        caller.close()


def run(place: Place) -> Row:
    """The matrix, again and again, with restarts of the programs in between."""
    chance = place.chance(NAME)
    wanted = place.sized(_FULL_TRIES, _QUICK_TRIES)
    tally = Tally()
    kills = 0
    with Server(place.folder_of(NAME) / "server").start() as server:
        stage = Stage(server.port)
        aging_since = time.monotonic()
        # A nonce does not live longer than its gateway, so these wait before any restart; a short
        # run has no time.
        aging = [] if place.quick else [stage.greeted() for _ in range(place.sized(_EXPIRED_AT_ONCE, 4))]
        restart_after = wanted // 8
        _expired(stage, tally, aging, aging_since if aging else aging_since - _NONCE_AGE)
        while tally.tries.total() < wanted:
            for way, open_connection in stage.ways().items():
                tally.attack(stage, way, open_connection)
            if tally.tries.total() >= restart_after:
                restart_after += wanted // 8
                program = chance.choice(server.programs)
                kills += 1
                program.kill()
                program.start()
                server.await_ready()
        received, traces = _traces(server.port, stage)
    verdict = judge(stage.messages, stage.messages, {"victim": received})
    successes = tally.successes.total() + traces
    note = f"{tally.tries.total()} tries in {len(tally.tries)} ways, {successes} successes"
    return Row(NAME, kills, verdict, verdict.spotless and not successes, note)


def _traces(port: int, stage: Stage) -> tuple[list[DrillMessage], int]:
    """Return what the victim finds in their mailbox, and how much in others' claims to be from
    them.
    """
    with Caller(port) as caller:
        caller.prove(stage.victim)
        mail = stage.fetch(caller, stage.victim)
    with Caller(port) as caller:
        traces = len(caller.pull(stage.witness.client_id))
    with Caller(port) as caller:
        caller.prove(stage.attacker)
        traces += len(stage.fetch(caller, stage.attacker))
    nothing = DrillMessage("nobody", "victim", 0)
    return [parse_content(one.content) or nothing for one in mail], traces
