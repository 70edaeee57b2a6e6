"""tests/vectors/suite1.json, opened by client/suite1: what is in the file stays readable."""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest

from client.suite1 import bundles, messages, payloads
from client.suite1.file_stream import FileDamaged, FileOpener, sealed_size
from client.suite1.identity_numbers import fingerprint, safety_number
from client.suite1.messages import Opened
from client.suite1.own_keys import OwnKeys
from client.suite1.padding import padme
from client.suite1.peers import Peer
from client.suite1.values import BundleFailure, BundleRefused, Identity, OpenFailure, OuterKey, Pair
from tests.client.suite1 import make_vectors
from torture import olm_pickles as pickles

if TYPE_CHECKING:
    from collections.abc import Callable

Vectors = dict[str, Any]


@functools.cache
def kept() -> Vectors:
    found = json.loads(make_vectors.FILE.read_text(encoding="ascii"))
    assert isinstance(found, dict)
    return found


@functools.cache
def fresh() -> Vectors:
    """Vectors as the maker makes them today."""
    found = json.loads(json.dumps(make_vectors.made()))
    assert isinstance(found, dict)
    return found


@pytest.fixture(params=["kept", "fresh"])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    sources: dict[str, Callable[[], Vectors]] = {"kept": kept, "fresh": fresh}
    return sources[request.param]()


def test_lengths(vectors: Vectors) -> None:
    assert [padme(length) for length, _ in vectors["padme"]] == [padded for _, padded in vectors["padme"]]


def test_numbers(vectors: Vectors) -> None:
    people = [
        (bytes.fromhex(each["id"]), Identity(bytes.fromhex(each["ed25519"]), bytes.fromhex(each["curve25519"])))
        for each in vectors["numbers"]
    ]
    assert [fingerprint(*each).hex() for each in people] == [each["fingerprint"] for each in vectors["numbers"]]
    assert {safety_number(*people)} == {each["safety_number"] for each in vectors["numbers"]}


def test_claims(vectors: Vectors) -> None:
    for case in vectors["claims"]:
        known = case["known"] and Identity(*map(bytes.fromhex, case["known"]))
        newest = case["newest_valid_until"]
        try:
            claim = bundles.checked_claim(
                base64.b64decode(case["bundle"]),
                base64.b64decode(case["one_time_key"]),
                bytes.fromhex(case["owner"]),
                case["now"],
                known,
                None if newest is None else OuterKey(0, newest, b""),
            )
        except BundleRefused as refused:
            assert refused.failure == case.get("failure"), case["name"]
            continue
        assert "failure" not in case, case["name"]
        assert claim.bundle.identity == Identity(bytes.fromhex(case["ed25519"]), bytes.fromhex(case["curve25519"]))
        assert (claim.bundle.outer.number, claim.bundle.outer.valid_until) == (case["number"], case["valid_until"])
        assert claim.bundle.fallback.hex() == case["fallback"]
        assert (claim.one_time_key and claim.one_time_key.hex()) == case["one_time"]


def test_payloads(vectors: Vectors) -> None:
    for case in vectors["payloads"]:
        assert make_vectors.described(base64.b64decode(case["payload"])) == case


def test_files(vectors: Vectors) -> None:
    for case in vectors["files"]:
        stream = base64.b64decode(case["stream"])
        pair = Pair(bytes.fromhex(case["sender"]), bytes.fromhex(case["recipient"]))
        opener = FileOpener(bytes.fromhex(case["key"]), pair, case["size"], bytes.fromhex(case["digest"]))
        if "failure" in case:
            with pytest.raises(FileDamaged):
                for part in (opener.update(stream), opener.finish()):
                    assert part is not None
            continue
        content = opener.update(stream) + opener.finish()
        assert (len(content), len(stream)) == (case["size"], sealed_size(case["size"]))


def test_conversations(vectors: Vectors) -> None:
    for conversation in vectors["conversations"]:
        people = {person["name"]: person for person in conversation["people"]}
        states = {name: (keys_of(person), peer_of(person)) for name, person in people.items()}
        for step in conversation["steps"]:
            keys, peer = states[step["by"]]
            if step["step"] == "open":
                states[step["by"]] = opened(keys, peer, step)
            else:
                states[step["by"]] = keys_of(step) if "keys" in step["state"] else keys, peer_of(step)


def keys_of(holder: Vectors) -> OwnKeys:
    return OwnKeys.from_bytes(base64.b64decode(holder["state"]["keys"]))


def peer_of(holder: Vectors) -> Peer:
    return Peer.from_bytes(base64.b64decode(holder["state"]["peer"]))


def opened(keys: OwnKeys, peer: Peer, step: Vectors) -> tuple[OwnKeys, Peer]:
    pair = Pair(bytes.fromhex(step["sender"]), bytes.fromhex(step["recipient"]))
    result = messages.open_message(keys, peer, pair, base64.b64decode(step["content"]))
    found: Vectors = {"renew_next": result.peer.renew}
    if isinstance(result, Opened):
        found |= {
            "form": result.form, "number": result.number, "order": result.order.value, "missing": result.missing,
            "renewed": result.renewed, "payload": base64.b64encode(result.payload).decode(),
        }  # fmt: skip
    else:
        found["failure"] = result.failure.value
    told = {"step", "by", "note", "sender", "recipient", "content"}
    assert found == {name: value for name, value in step.items() if name not in told}, step.get("note")
    return result.keys, result.peer


def test_the_private_keys_are_those_of_the_states(vectors: Vectors) -> None:
    for conversation in vectors["conversations"]:
        for person in conversation["people"]:
            keys = keys_of(person)
            assert pickles.account_secrets(keys.account).items() <= person.items()
            assert [(each["number"], each["seed"]) for each in person["outer"]] == [
                (secret.number, secret.seed.hex()) for secret in keys.outer
            ]
        for step in conversation["steps"]:
            if step["step"] == "seal":
                session = peer_of(step).sending
                assert session is not None
                assert session.olm.session_id.hex() == step["session"]
                assert pickles.sending_secrets(session.olm.pickle).items() <= step.items()


def test_every_failure_has_a_vector(vectors: Vectors) -> None:
    steps = [step for conversation in vectors["conversations"] for step in conversation["steps"]]
    # It takes 512 sessions.
    assert {step.get("failure") for step in steps} == {None, *OpenFailure} - {OpenFailure.TOO_MANY_SESSIONS}
    # It is found when a session is started.
    assert {case.get("failure") for case in vectors["claims"]} == {None, *BundleFailure} - {BundleFailure.SESSION_KEY}
    assert {case.get("is") for case in vectors["payloads"]} == {None, "text", "file", "could not open", "unknown"}
    assert payloads.decoded(base64.b64decode(vectors["payloads"][0]["payload"])) is not None
