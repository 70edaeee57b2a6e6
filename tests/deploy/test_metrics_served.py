"""What both programs serve at /metrics while they run: numbers that fit what was done, and every
series that the dashboard shows.
"""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from common.client_protocol.requests import SendRequest
from common.client_protocol.responses import ErrorResponse
from common.values import ClientId
from torture.caller import Caller, TlsCaller, new_account
from torture.patience import HANG_SECONDS
from torture.programs import Server, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))
SERIES = re.compile(r"messageu_[a-z_]+")
TEXT = 3
NOBODY = ClientId(bytes([1]) * 16)


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_SECONDS) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def by_label(found: dict[str, float], series: str) -> dict[str, float]:
    """What is not zero of a series, by its label."""
    return {name.split('"')[1]: value for name, value in found.items() if name.startswith(f"{series}{{") and value}


def expressions(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_numbers_are_those_of_what_was_done(tmp_path: Path) -> None:
    gateway_port, worker_port, tls_port = free_port(), free_port(), free_port()
    with Server(
        tmp_path / "server",
        gateway_arguments=["--metrics", str(gateway_port), "--tls-listen", f"127.0.0.1:{tls_port}"],
        worker_arguments=["--metrics", str(worker_port)],
    ) as server:
        server.start()
        alice, bob = (new_account(server.port, name) for name in ("alice", "bob"))
        with Caller(server.port) as plain:
            for number in range(5):
                plain.send(alice.client_id, bob.client_id, b"%d" % number, TEXT)
            assert isinstance(plain.ask(SendRequest(alice.client_id, NOBODY, TEXT, b"x")), ErrorResponse)
            assert len(plain.pull(bob.client_id)) == 5
        with TlsCaller(tls_port) as signed_in:
            # Over TLS there is a channel binding to be signed; this request needs no proof.
            assert [user.name for user in signed_in.users(bob.client_id)] == ["alice"]
            gateway = scraped(gateway_port)
            assert gateway['messageu_gateway_connections{state="other"}'] >= 1
        with Caller(server.port) as proven:
            proven.prove(alice)
            assert scraped(gateway_port)['messageu_gateway_connections{state="authenticated"}'] == 1
            # Nobody else sends in alice's name from now on.
            with Caller(server.port) as other:
                assert isinstance(other.ask(SendRequest(alice.client_id, bob.client_id, TEXT, b"x")), ErrorResponse)
        gateway = scraped(gateway_port)
        requests = by_label(gateway, "messageu_gateway_requests_total")
        # Whether the server answers was asked with 602, so often as it took.
        assert requests.pop("602") >= 1
        assert requests == {"600": 2, "601": 1, "603": 7, "604": 1, "640": 1, "641": 1}
        assert by_label(gateway, "messageu_gateway_tls_handshakes_total") == {"done": 1}
        refusals = by_label(gateway, "messageu_gateway_refusals_total")
        assert refusals["recipient_unknown"] == 1
        assert refusals["proof_needed"] == 1
        assert gateway["messageu_gateway_storage_worker_joined"] == 1
        assert gateway["messageu_gateway_outcomes_unknown_total"] == 0
        assert gateway["messageu_gateway_received_bytes_total"] > 0 < gateway["messageu_gateway_sent_bytes_total"]

        def settled() -> bool:
            """Whether the worker has heard all, that bob has his mail being the last."""
            sent = scraped(gateway_port)["messageu_gateway_batches_total"]
            heard = scraped(worker_port)
            operations = by_label(heard, "messageu_worker_operations_total")
            return operations.get("settle") == 1 and heard["messageu_worker_batches_total"] == sent

        wait_until(settled, "as many batches at both ends")
        worker = scraped(worker_port)
        operations = by_label(worker, "messageu_worker_operations_total")
        assert operations["register"] == 2
        assert operations["pull"] == operations["settle"] == 1
        assert by_label(worker, "messageu_worker_refusals_total")["recipient_unknown"] == 1
        commits = worker["messageu_worker_commits_total"]
        assert (
            commits
            == worker["messageu_worker_commit_seconds_count"]
            == worker['messageu_worker_commit_seconds_bucket{le="+Inf"}']
        )
        assert 0 < commits <= worker["messageu_worker_batches_total"] + 1

        served = {name.partition("{")[0] for name in (*gateway, *worker)}
        shown = {name for expression in expressions(DASHBOARD["panels"]) for name in SERIES.findall(expression)}
        assert shown - served == set(), "the dashboard shows what nobody serves"
        unseen = {name for name in served if not name.endswith(("_created", "_bucket", "_sum", "_count"))} - shown
        assert unseen == set(), "the dashboard does not show these"


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert expressions([panel])
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource"]
