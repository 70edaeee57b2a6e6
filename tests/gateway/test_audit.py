"""Refused limits in the audit log: what was refused, to whom, without addresses."""

import pytest

from common.client_protocol.requests import HelloRequest, ProveRequest, SendRequest, encode
from common.rare_log import RareLog
from common.server_log import AUDIT
from gateway import audit
from gateway.settings import Rate, Settings
from tests.gateway.authenticated import ALICE, BOB, ZERO, knows_alice, signature
from tests.gateway.connection.memory_transport import Scene

ADDRESS = "192.0.2.7"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(audit, "rarely", RareLog(AUDIT))
    caplog.set_level("INFO", "messageu.audit")
    return caplog


def test_messages_and_contents_beyond_the_limit(log: pytest.LogCaptureFixture) -> None:
    scene = Scene(Settings(limit_messages=Rate(2, 1, 1), limit_bytes=Rate(70_000, 1, 1)), network=ADDRESS)
    scene.storage.decide = knows_alice
    send = encode(SendRequest(ALICE, BOB, 3, b"hello"))
    scene.say(send * 5)
    scene.say(HelloRequest(ZERO, 1, 0))
    scene.say(ProveRequest(ALICE, signature()))
    scene.say(send * 3)
    scene.clock.time += 60
    for _ in range(2):
        scene.say(encode(SendRequest(ALICE, BOB, 3, bytes(70_000))))
    lines = [vars(record)["fields"] for record in log.records]
    assert lines == [
        {"event": "limit_refused", "limit": "requests", "number": 3},
        {"event": "limit_refused", "limit": "requests", "number": 1, "user": ALICE.hex()},
        {"event": "limit_refused", "limit": "contents", "number": 1, "user": ALICE.hex()},
    ]
    assert ADDRESS not in log.text
    scene.close()


def test_what_is_refused_for_other_reasons_is_no_line(log: pytest.LogCaptureFixture) -> None:
    scene = Scene(Settings(), network=ADDRESS)
    scene.storage.decide = knows_alice
    scene.say(HelloRequest(ZERO, 1, 0))
    scene.say(ProveRequest(ALICE, signature()))
    scene.say(encode(SendRequest(BOB, ALICE, 3, b"hello")))
    assert not log.records
    scene.close()
