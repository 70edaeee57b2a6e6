"""What the gateway counts, and that docs/operations.md names every series."""

from pathlib import Path

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.metrics import Histogram
from gateway import metrics
from tests.gateway.authenticated import ALICE, BOB, TOKEN, ZERO, knows_alice, signature
from tests.gateway.harness import Gate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_the_page_names_every_series(gate: Gate) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for one in metrics.series_of(gate.context):
        total = "_total" if one.kind == "counter" else ""
        label = "" if one.label is None else f", by `{one.label}`"
        assert f"| `{one.name}{total}` | {one.kind}{label}. {one.text} |" in page


def test_no_label_has_what_a_client_chose(gate: Gate) -> None:
    labels = {one.label for one in metrics.series_of(gate.context)}
    assert labels == {None, "code", "reason", "result", "state"}


def test_what_is_counted(gate: Gate) -> None:
    series = {one.name.removeprefix("messageu_gateway_"): one for one in metrics.series_of(gate.context)}
    gate.storage.decide = knows_alice
    peer = gate.peer()
    sent = 0

    def ask(data: bytes, *codes: int) -> None:
        nonlocal sent
        sent += len(data)
        peer.send(data)
        assert [peer.response()[0] for _ in codes] == list(codes)

    ask(encode(HelloRequest(ZERO, 1, 0)), 2140)
    ask(encode(ProveRequest(ALICE, signature())), 2141)
    ask(encode(ListUsersRequest(ALICE)), 2101)
    ask(encode(SendRequest(ALICE, BOB, 3, b"x")) * 3, 2103, 2103, 2103)
    ask(encode(SendRequest(ALICE, BOB, 3, b"x", TOKEN)), 2103)
    ask(encode(SendRequest(BOB, ALICE, 3, b"x")) * 2, 9000, 9000)
    ask(encode(PullRequest(BOB)), 9000)
    ask(encode(ProveRequest(ALICE, bytes(128))), 9000)
    ask(encode(FetchRequest(ALICE, 0, 0, 100)))
    gate.turn_until(lambda: series["mailboxes_waited_for"].read() == 1)
    requests = series["requests"].read()
    assert isinstance(requests, dict)
    assert {code: number for code, number in requests.items() if number} == {
        "601": 1, "603": 5, "604": 1, "640": 1, "641": 2, "642": 1, "643": 1,
    }  # fmt: skip
    refusals = series["refusals"].read()
    assert isinstance(refusals, dict)
    assert {reason: number for reason, number in refusals.items() if number} == {"proof_needed": 4}
    assert series["connections"].read() == {"authenticated": 1, "other": 0}
    assert series["connections_accepted"].read() == 1
    assert series["received_bytes"].read() == sent
    assert series["storage_worker_joined"].read() == 1
    assert series["tls_handshakes"].read() == {"done": 0, "failed": 0}
    batches = series["batches"].read()
    assert isinstance(batches, int)
    assert batches >= 5
    turns = series["turn_seconds"].read()
    assert isinstance(turns, Histogram)
    assert sum(turns.counts) > batches
    peer.close()
    gate.turn_until(lambda: series["connections"].read() == {"authenticated": 0, "other": 0})
    assert series["outcomes_unknown"].read() == 0
