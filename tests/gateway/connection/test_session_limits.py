"""Limits in a session, over a transport in memory and under a clock of our own: which requests are
refused, in which place, with which reason and time, and who shares a limit with whom.
"""

import struct
from collections.abc import Callable, Iterator

import pytest

from common.client_protocol.requests import (
    ClaimKeyRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    RegisterRequest,
    SendRequest,
    encode,
)
from common.client_protocol.responses import REASON
from common.client_protocol.versions import EXTENSION_VERSION, Feature
from common.storage_protocol.operations import (
    BeginUpload,
    ClaimKey,
    KeyClaimed,
    ListUsers,
    Register,
    StoreMessage,
    UserEntry,
    UsersPage,
)
from common.values import ClientId, PublicKey, RefusalReason, Username
from gateway.settings import Rate, Settings
from tests.gateway.authenticated import ALICE, BOB, TOKEN, ZERO, knows_alice, signature
from tests.gateway.connection.memory_transport import MemoryTransport, Scene

HERE, THERE = "192.0.2.7", "198.51.100.9"
HELLO = HelloRequest(ZERO, EXTENSION_VERSION, int(Feature.REASONS))
SEND = encode(SendRequest(ALICE, BOB, 3, b"hello"))
ONCE = encode(SendRequest(ALICE, BOB, 3, b"hello", TOKEN))
KEY_OF_BOB = PublicKeyRequest(ALICE, BOB)
STORED, REFUSED = 2103, 9000
FOREIGN = (int(RefusalReason.PROOF_NEEDED), 0)


def too_fast(seconds: int) -> tuple[int, int]:
    return int(RefusalReason.TOO_FAST), seconds


def heard(data: bytes) -> list[int | tuple[int, int]]:
    """The codes of answers; of a 9001, its reason and time."""
    found: list[int | tuple[int, int]] = []
    while data:
        _version, code, size = struct.unpack_from("<BHI", data)
        found.append(REASON.unpack_from(data, 7) if code == 9001 else code)
        data = data[7 + size :]
    return found


@pytest.fixture
def make() -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def scene(network: str | None = HERE, **changes: object) -> Scene:
        scenes.append(Scene(Settings()._replace(**changes), network=network))  # type: ignore[arg-type]
        scenes[-1].storage.decide = knows_alice
        return scenes[-1]

    yield scene
    for one in scenes:
        one.close()


def greet(scene: Scene, peer: MemoryTransport | None = None) -> None:
    assert heard(scene.say(HELLO, peer=peer)) == [2140]


def sign_in(scene: Scene, peer: MemoryTransport | None = None) -> None:
    greet(scene, peer)
    assert heard(scene.say(ProveRequest(ALICE, signature()), peer=peer)) == [2141]


def test_a_run_beyond_the_limit_is_refused_in_its_place(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(3, 1, 4))
    greet(scene)
    assert heard(scene.say(SEND * 5 + encode(KEY_OF_BOB))) == [STORED] * 3 + [too_fast(4)] * 2 + [2102]
    assert len(scene.storage.asked_for(StoreMessage)) == 3


def test_a_run_of_both_kinds_is_refused_from_its_place_on(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(5, 1, 4))
    sign_in(scene)
    data = SEND * 2 + ONCE * 5 + SEND + encode(KEY_OF_BOB) + ONCE
    assert heard(scene.say(data)) == [STORED] * 5 + [too_fast(4)] * 3 + [2102, too_fast(4)]
    sent = scene.storage.asked_for(StoreMessage)
    assert [one.token for one in sent if isinstance(one, StoreMessage)] == [None] * 2 + [TOKEN] * 3


def test_one_refusal_a_turn_while_others_are_served(make: Callable[..., Scene]) -> None:
    scene = make(limit_requests=Rate(2, 1, 4))
    neighbour = scene.another(THERE)
    greet(scene)
    greet(scene, neighbour)
    scene.peer.say(encode(KEY_OF_BOB) * 12)
    answers: list[list[int | tuple[int, int]]] = []
    turns_of_neighbour = []
    for turn in range(30):
        if turn in (3, 6):
            neighbour.say(KEY_OF_BOB)
        scene.turn(1)
        answers.append(heard(scene.peer.take()))
        if heard(neighbour.take()) == [2102]:
            turns_of_neighbour.append(turn)
    assert [one for turn in answers for one in turn] == [2102] * 2 + [too_fast(4)] * 10
    assert max(one.count(too_fast(4)) for one in answers) <= 2, "one when it was read, one in its turn"
    assert turns_of_neighbour == [3, 6], "others are served in the turn in which they ask"


def test_refusals_wait_for_the_answers_before_them(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(3, 1, 4))
    greet(scene)
    scene.storage.answering = False
    assert scene.say(SEND * 2) == b""
    assert scene.say(SEND * 2 + encode(KEY_OF_BOB)) == b""
    assert scene.say(SEND) == b""
    scene.storage.answering = True
    assert heard(scene.say()) == [STORED] * 3 + [too_fast(4), 2102, too_fast(4)]


def test_the_answers_of_one_whose_side_has_ended(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(1, 1, 4))
    scene.peer.say(SEND * 3)
    scene.peer.end()
    assert heard(scene.say()) == [STORED, REFUSED, REFUSED]
    assert scene.session.closed


def test_who_asked_for_no_reasons_gets_9000(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(1, 1, 4))
    assert heard(scene.say(SEND + SEND + ONCE)) == [STORED, REFUSED, REFUSED]


def test_after_the_told_time_it_passes(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(2, 1, 4))
    greet(scene)
    assert heard(scene.say(SEND, ONCE, ONCE)) == [STORED, STORED, too_fast(4)]
    scene.pass_time(3.5)
    assert heard(scene.say(ONCE)) == [too_fast(1)]
    scene.pass_time(0.5)
    assert heard(scene.say(ONCE, SEND)) == [STORED, too_fast(4)]


def test_a_user_has_one_limit_on_all_connections(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(3, 1, 4))
    elsewhere = scene.another(THERE)
    sign_in(scene)
    sign_in(scene, elsewhere)
    assert heard(scene.say(SEND * 2)) == [STORED] * 2
    assert heard(scene.say(SEND * 2, peer=elsewhere)) == [STORED, too_fast(4)]


def test_nobody_uses_up_what_a_user_has_by_claiming_to_be_it(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(3, 1, 4))
    stranger, neighbour = scene.another(THERE), scene.another(THERE)
    assert heard(scene.say(SEND * 4, peer=stranger)) == [STORED] * 3 + [REFUSED]
    other = encode(SendRequest(ClientId(b"o" * 16), BOB, 3, b"hello"))
    assert heard(scene.say(other, peer=neighbour)) == [REFUSED], "another name is no other limit"
    sign_in(scene)
    assert heard(scene.say(SEND * 3)) == [STORED] * 3


def test_what_is_sent_in_another_name_is_not_charged(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(2, 1, 4))
    sign_in(scene)
    other = encode(SendRequest(BOB, ALICE, 3, b"hello"))
    assert heard(scene.say(other * 5 + SEND * 2)) == [FOREIGN] * 5 + [STORED] * 2


def test_registrations_of_an_address(make: Callable[..., Scene]) -> None:
    scene = make()
    beside, elsewhere = scene.another(HERE), scene.another(THERE)
    register = encode(RegisterRequest(ZERO, Username("carol"), PublicKey(b"k" * 160)))
    assert heard(scene.say(register * 4)) == [2100] * 4
    greet(scene, beside)
    assert heard(scene.say(register * 4, peer=beside)) == [2100, 2100, too_fast(30), too_fast(30)]
    assert heard(scene.say(register, peer=elsewhere)) == [2100]
    assert len(scene.storage.asked_for(Register)) == 7


def test_an_upload_is_charged_before_it_begins_and_read_to_its_end(make: Callable[..., Scene]) -> None:
    scene = make(limit_bytes=Rate(150_000, 10_000, 1))
    sign_in(scene)
    large = encode(SendRequest(ALICE, BOB, 4, bytes(100_000), TOKEN))
    assert heard(scene.say(large)) == [STORED]
    assert heard(scene.say(large + SEND)) == [too_fast(5), STORED]
    assert len(scene.storage.asked_for(BeginUpload)) == 1
    scene.pass_time(5)
    assert scene.say(large[:500]) == b""
    assert len(scene.storage.asked_for(BeginUpload)) == 2
    assert heard(scene.say(large[500:])) == [STORED]


def test_where_no_limits_hold_everything_passes(make: Callable[..., Scene]) -> None:
    scene = make(network=None, limit_messages=Rate(1, 1, 4))
    assert heard(scene.say(SEND * 20 + ONCE * 3)) == [STORED] * 23


def test_an_ended_connection_gives_its_place_back(make: Callable[..., Scene]) -> None:
    scene = make(limit_connections=2)
    other = scene.another(HERE)
    assert scene.context.rates.connected(HERE, 0.0, with_handshake=False) is None
    other.end()
    scene.turn()
    scene.another(HERE)
    assert scene.context.rates.connected(HERE, 0.0, with_handshake=False) is None


def test_refusals_of_every_kind_wait_for_the_answers_before_them(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(1, 1, 4), limit_registrations=Rate(1, 1, 4))
    greet(scene)
    register = encode(RegisterRequest(ZERO, Username("carol"), PublicKey(b"k" * 160)))
    scene.storage.answering = False
    assert scene.say(encode(KEY_OF_BOB) + ONCE + ONCE + register * 2 + SEND) == b""
    scene.storage.answering = True
    answers = heard(scene.say())
    assert answers == [2102, STORED, too_fast(4), 2100, too_fast(4), too_fast(4)]


def test_other_requests_of_an_address_and_of_a_user(make: Callable[..., Scene]) -> None:
    scene = make(limit_requests=Rate(4, 1, 4))
    greet(scene)
    asked = encode(KEY_OF_BOB)
    assert heard(scene.say(asked * 6 + SEND)) == [2102] * 4 + [too_fast(4)] * 2 + [STORED]
    neighbour, elsewhere = scene.another(HERE), scene.another(THERE)
    assert heard(scene.say(asked, peer=neighbour)) == [REFUSED]
    assert heard(scene.say(asked, peer=elsewhere)) == [2102]
    scene.pass_time(4)
    assert heard(scene.say(asked * 2)) == [2102, too_fast(4)]
    sign_in(scene, elsewhere)
    assert heard(scene.say(asked * 5, peer=elsewhere)) == [2102] * 4 + [too_fast(4)], "the user's own limit"


def test_a_proof_counts_as_three_requests_and_a_greeting_as_none(make: Callable[..., Scene]) -> None:
    scene = make(limit_requests=Rate(5, 1, 4))
    for _ in range(8):
        greet(scene)
    assert heard(scene.say(ProveRequest(ALICE, bytes(128)))) == [FOREIGN]
    greet(scene)
    assert heard(scene.say(ProveRequest(ALICE, signature()))) == [too_fast(4)]
    scene.pass_time(4)
    assert heard(scene.say(ProveRequest(ALICE, signature()))) == [2141], "the nonce was not used up"


def test_a_large_answer_is_sent_and_owed(make: Callable[..., Scene]) -> None:
    scene = make(limit_requests=Rate(3, 1, 4), bytes_of_request=100)
    scene.storage.decide = lambda operation: (
        UsersPage(2, 2, 2, [UserEntry(ALICE, "alice"), UserEntry(BOB, "bob")])
        if isinstance(operation, ListUsers)
        else knows_alice(operation)
    )
    greet(scene)
    answer = scene.say(ListUsersRequest(ALICE))
    # Two users of 271 bytes: it counts as six requests, of three.
    assert (struct.unpack_from("<BHI", answer)[1:], len(answer)) == ((2101, 542), 549)
    assert heard(scene.say(KEY_OF_BOB)) == [too_fast(4 * (6 + 1 - 3))]
    scene.pass_time(16)
    assert heard(scene.say(KEY_OF_BOB)) == [2102]


def test_who_is_refused_lets_others_have_their_turn(make: Callable[..., Scene]) -> None:
    scene = make(limit_messages=Rate(1, 1, 4), work_a_turn=4096)
    greet(scene)
    assert heard(scene.say(SEND)) == [STORED]
    scene.peer.say(SEND * 50)
    scene.peer.report()
    assert scene.session in scene.context.turns.refused
    assert heard(scene.say()) == [too_fast(4)] * 50
    assert scene.session not in (*scene.context.turns.waiting, *scene.context.turns.refused)


def test_claims_beyond_a_limit_are_answered_without_a_one_time_key(make: Callable[..., Scene]) -> None:
    scene = make(limit_claims=Rate(3, 1, 4), limit_claims_of_pair=Rate(2, 1, 60))
    scene.storage.decide = lambda operation: (
        KeyClaimed(b"bundle", b"") if isinstance(operation, ClaimKey) else knows_alice(operation)
    )
    sign_in(scene)

    def asked_with_one_time_keys(*subjects: ClientId) -> list[bool]:
        before = len(scene.storage.asked_for(ClaimKey))
        claims = b"".join(encode(ClaimKeyRequest(ALICE, subject)) for subject in subjects)
        assert heard(scene.say(claims)) == [2145] * len(subjects)
        claims_there = scene.storage.asked_for(ClaimKey)[before:]
        return [claim.one_time for claim in claims_there if isinstance(claim, ClaimKey)]

    carol, dave = ClientId(b"c" * 16), ClientId(b"d" * 16)
    assert asked_with_one_time_keys(BOB, BOB, BOB, carol, dave, carol) == [True, True, False, True, False, False]
    scene.pass_time(4)
    assert asked_with_one_time_keys(BOB, dave, dave) == [False, True, False]
    scene.pass_time(60)
    assert asked_with_one_time_keys(BOB, BOB) == [True, False]
