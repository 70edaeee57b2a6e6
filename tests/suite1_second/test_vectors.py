"""The second implementation does with every vector what the vector says.

Of those who seal in a vector only what they have afterwards is known, so a step `seal` is followed
with the keys that it names, and compared with what this implementation derives.
"""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.suite1_second import bundles, olm, outer, payloads, streams, talk
from tests.suite1_second.primitives import Refused, padme, public_of

PATH = Path(__file__).parent.parent / "vectors" / "suite1.json"
VECTORS: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(each, id=each.get("name") or str(i)) for i, each in enumerate(vectors)]


def test_each_part_has_vectors() -> None:
    sizes = {part: len(vectors) for part, vectors in VECTORS.items() if part != "about"}
    assert sizes.keys() == {"padme", "numbers", "claims", "payloads", "files", "conversations"}
    assert all(sizes.values())


def test_padme() -> None:
    assert [[length, padme(length)] for length, _ in VECTORS["padme"]] == VECTORS["padme"]


def test_numbers() -> None:
    people = [
        (bytes.fromhex(each["id"]), bundles.Identity(*(bytes.fromhex(each[key]) for key in ("ed25519", "curve25519"))))
        for each in VECTORS["numbers"]
    ]
    assert [bundles.fingerprint(*person).hex() for person in people] == [
        each["fingerprint"] for each in VECTORS["numbers"]
    ]
    assert {bundles.safety_number(*people), bundles.safety_number(*people[::-1])} == {
        each["safety_number"] for each in VECTORS["numbers"]
    }


def claimed(vector: dict[str, Any]) -> dict[str, Any]:
    known = vector["known"] and bundles.Identity(*map(bytes.fromhex, vector["known"]))
    try:
        claim = bundles.checked(
            raw(vector["bundle"]),
            raw(vector["one_time_key"]),
            bytes.fromhex(vector["owner"]),
            vector["now"],
            known,
            vector["newest_valid_until"],
        )
    except Refused as refused:
        return {"failure": refused.failure}
    return {
        "ed25519": claim.identity.ed25519.hex(),
        "curve25519": claim.identity.curve25519.hex(),
        "number": claim.outer_number,
        "valid_until": claim.valid_until,
        "fallback": claim.fallback.hex(),
        "one_time": claim.one_time and claim.one_time.hex(),
    }


@pytest.mark.parametrize("vector", named(VECTORS["claims"]))
def test_claims(vector: dict[str, Any]) -> None:
    given = {"name", "owner", "now", "known", "newest_valid_until", "bundle", "one_time_key"}
    assert claimed(vector) == {key: value for key, value in vector.items() if key not in given}


NAMES = {
    "id": 2,
    "sent_at": 1,
    "reply_to": 10,
    "text": 3,
    "kind": 0,
    "name": 4,
    "media_type": 5,
    "size": 6,
    "digest": 7,
    "key": 8,
    "caption": 3,
    "ids": 9,
}


@pytest.mark.parametrize("vector", named(VECTORS["payloads"]))
def test_payloads(vector: dict[str, Any]) -> None:
    if "failure" in vector:
        with pytest.raises(Refused, match=rf"^{vector['failure']}$"):
            payloads.decode(raw(vector["payload"]))
        return
    payload = payloads.decode(raw(vector["payload"]))
    assert payload.form == vector["is"]

    def shown(name: str) -> object:
        value = payload.fields.get(NAMES[name])
        if isinstance(value, list):
            return [each.hex() for each in value if isinstance(each, bytes)]
        if value is None and name in {"text", "caption"}:
            return ""
        return value.hex() if isinstance(value, bytes) else value

    expected = {key: value for key, value in vector.items() if key not in {"payload", "is"}}
    assert {name: shown(name) for name in expected} == expected


@pytest.mark.parametrize("vector", named(VECTORS["files"]))
def test_files(vector: dict[str, Any]) -> None:
    context = streams.context_of(*(bytes.fromhex(vector[key]) for key in ("sender", "recipient")))
    arguments = (bytes.fromhex(vector["key"]), context, vector["size"], bytes.fromhex(vector["digest"]))
    if "failure" in vector:
        with pytest.raises(Refused, match=rf"^{vector['failure']}$"):
            streams.opened(raw(vector["stream"]), *arguments)
    else:
        assert streams.opened(raw(vector["stream"]), *arguments) == bytes(i % 253 for i in range(vector["size"]))


@dataclass
class Sealed:
    """What somebody was going to seal with: the session before, and the peer that it is for."""

    session: olm.Session
    ratchet_private: bytes


@dataclass
class Stage:
    """A conversation's two people; what is sealed waits for whoever opens it."""

    homes: dict[str, talk.Home]
    peers: dict[str, talk.Peer]
    sealed: list[Sealed] = field(default_factory=list)
    compared: int = 0
    copies: list[dict[str, tuple[talk.Home, talk.Peer]]] = field(default_factory=list)

    def copy(self) -> None:
        self.copies.append({name: copy.deepcopy((self.homes[name], self.peers[name])) for name in self.homes})


def home_of(person: dict[str, Any]) -> talk.Home:
    home = talk.Home(
        id=bytes.fromhex(person["id"]),
        ed25519_seed=bytes.fromhex(person["ed25519_seed"]),
        identity=bundles.Identity(bytes.fromhex(person["ed25519"]), bytes.fromhex(person["curve25519"])),
        curve25519=bytes.fromhex(person["curve25519_private"]),
        one_time={public_of(key): key for key in map(bytes.fromhex, person["one_time_private"])},
        fallback=[bytes.fromhex(key) for key in person["fallback_private"]],
        outer=[outer.OuterKey(each["number"], bytes.fromhex(each["seed"])) for each in person["outer"]],
    )
    assert public_of(home.curve25519) == home.identity.curve25519
    message = b"whose seed it is"
    assert bundles.is_signed(home.identity.ed25519, bundles.signed(home.ed25519_seed, message), message)
    return home


def peer_of(home: talk.Home) -> talk.Peer:
    return talk.Peer(home.id, home.identity, home.outer[0].number, home.outer[0].public)


def stage_of(people: list[dict[str, Any]]) -> Stage:
    one, other = map(home_of, people)
    names = [person["name"] for person in people]
    return Stage(
        dict(zip(names, (one, other), strict=True)), dict(zip(names, (peer_of(other), peer_of(one)), strict=True))
    )


def follow_seal(stage: Stage, step: dict[str, Any]) -> None:
    """Brings the one who seals to where the vector says that they are now."""
    peer = stage.peers[step["by"]]
    session_id, private, root, chain = (
        bytes.fromhex(step[key]) for key in ("session", "ratchet_private", "root_key", "chain_key")
    )
    if step["starts_session"]:
        assert peer.sending is None or peer.renew
        # The base key is known to nobody; its public half is in the message.
        session = olm.Session(session_id, root, olm.Sending(private, chain, 1), [], (bytes(32), bytes(32), bytes(32)))
        talk.put_first(peer, session)
    else:
        kept = peer.sending
        assert kept is not None
        assert kept.session.session_id == session_id
        stage.sealed.append(Sealed(copy.deepcopy(kept.session), private))
        kept.session.encrypt(b"", private)
        assert kept.session.sending is not None
        assert (kept.session.sending.private, kept.session.sending.key) == (private, chain)
        assert kept.session.root == root
    peer.sealed += 1


def sealed_again(stage: Stage, inside: bytes, plain: bytes) -> bool:
    """Whether the sender's keys are known; the same plain text gives the same message then."""
    first = inside[:1] == b"\0"
    inner = olm.PreKey.parsed(inside[1:]).inner if first else inside[1:]
    message = olm.Normal.parsed(inner)
    for each in stage.sealed:
        session = copy.deepcopy(each.session)
        kind, again = session.encrypt(plain, each.ratchet_private)
        assert session.sending is not None
        if (session.sending.public, session.sending.place - 1) == (message.ratchet_key, message.place):
            assert (kind == 0) == first
            assert (olm.PreKey.parsed(again).inner if first else again) == inner
            return True
    return False


def open_step(stage: Stage, step: dict[str, Any]) -> None:
    home, peer = stage.homes[step["by"]], stage.peers[step["by"]]
    content = raw(step["content"])
    if bytes.fromhex(step["sender"]) != peer.id:
        # Somebody else's: what is known of the other one is of no use.
        peer = copy.deepcopy(peer)
        peer.id = bytes.fromhex(step["sender"])
    assert bytes.fromhex(step["recipient"]) == home.id
    if "failure" in step:
        with pytest.raises(Refused, match=rf"^{step['failure']}$"):
            talk.opened(home, peer, content)
        assert peer.renew == step["renew_next"]
        return
    opened = talk.opened(home, peer, content)
    expected = {key: step[key] for key in ("form", "number", "order", "missing", "renewed")}
    assert {key: getattr(opened, key) for key in expected} == expected
    assert opened.payload == raw(step["payload"])
    assert peer.renew == step["renew_next"]
    [other] = [each for name, each in stage.homes.items() if name != step["by"]]
    plain = talk.plain_text(other, peer_of(home), opened.form, opened.number, opened.payload)
    inside = outer.opened(talk.parts(content)[1], home.outer[0], outer.info_of(other.id, home.id))
    stage.compared += sealed_again(stage, inside, plain)


def run(stage: Stage, step: dict[str, Any]) -> None:
    match step["step"]:
        case "seal":
            follow_seal(stage, step)
        case "put back":
            # As it was behind the first two steps `open`.
            stage.homes[step["by"]], stage.peers[step["by"]] = stage.copies[1][step["by"]]
        case "open":
            open_step(stage, step)
            stage.copy()
        case other:
            pytest.fail(f"an unknown step: {other}")


@pytest.mark.parametrize("vector", named(VECTORS["conversations"]))
def test_conversations(vector: dict[str, Any]) -> None:
    stage = stage_of(vector["people"])
    for number, step in enumerate(vector["steps"]):
        try:
            run(stage, step)
        except BaseException as error:
            error.add_note(f"step {number}, {step['step']} by {step['by']}: {step.get('note', '')}")
            raise
    seals = [step for step in vector["steps"] if step["step"] == "seal" and not step["starts_session"]]
    honest = [step for step in seals if "breaks the rules" not in step.get("note", "")]
    assert stage.compared >= len(honest) - 1 if honest else True
