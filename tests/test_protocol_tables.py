"""A request, a response or an operation that is added without one of its rows is reported at
import, by the name of the table that lacks it.

Each test adds one to a copy of the programs, a row at a time, and imports the modules of the
tables in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.client_protocol import requests, responses
from common.client_protocol.requests import LAYOUTS, ContentLayout, FixedLayout, Replay, RequestCode
from common.errors import TableIncomplete
from common.storage_protocol import operations
from common.storage_protocol.operations import OPERATIONS, Operation
from common.tables import complete
from gateway.handlers.dispatch import FLOWING, HANDLERS
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).parent.parent
PROGRAMS = ("common", "gateway", "storage_worker", "client", "cluster", "torture")

REQUESTS = "common/client_protocol/requests.py"
RESPONSES = "common/client_protocol/responses.py"
CONNECTION = "common/client_protocol/server_connection.py"
OPERATIONS_MODULE = "common/storage_protocol/operations.py"
DISPATCH = "gateway/handlers/dispatch.py"
RULES = "storage_worker/rules/rules.py"
UPLOAD_RULES = "storage_worker/rules/uploads.py"
ERRORS = "client/connection/server_errors.py"
IMPERSONATION = "torture/impersonation.py"
DEATHS = "torture/deaths_at_points.py"


class Copy:
    """A copy of the programs that is changed and imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for program in PROGRAMS:
            shutil.copytree(ROOT / program, folder / program, ignore=shutil.ignore_patterns("__pycache__"))

    def put(self, file: str, before: str, text: str) -> None:
        """Put `text` in front of the only place, or the last one, where `before` stands."""
        path = self.folder / file
        head, found, tail = path.read_text(encoding="utf-8").rpartition(before)
        assert found, f"{file} has no {before!r} any more"
        path.write_text(head + text + found + tail, encoding="utf-8")

    def run(self, program: str) -> str:
        """The last line that a program in the copy says, on either stream."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        return (done.stdout + done.stderr).strip().rpartition("\n")[2]

    def imported(self, file: str) -> str:
        """What the import of a module says: nothing, or the last line of its error."""
        return self.run(f"import {file.removesuffix('.py').replace('/', '.')}")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


PROBE_TYPE = '''
class ProbeRequest(NamedTuple):
    """659."""

    requester: ClientId


'''
PROBE_ROW = """
    _fixed(
        RequestCode.PROBE,
        ProbeRequest,
        0,
        lambda requester, _payload: ProbeRequest(requester),
        lambda _request: b"",
        REPLAY
    ),
"""
DECODED = """
from common.client_protocol.requests import ProbeRequest, encode
from common.client_protocol.server_connection import Limits, ServerConnection
connection = ServerConnection(Limits(10))
connection.receive_data(encode(ProbeRequest(bytes(16))))
print(type(connection.next_event()).__name__)
"""


@pytest.mark.slow
def test_a_request_without_one_of_its_rows_is_reported(copy: Copy) -> None:
    in_all = [REQUESTS, DISPATCH, ERRORS, IMPERSONATION]
    assert [copy.imported(file) for file in in_all] == ["", "", "", ""]

    copy.put(REQUESTS, "\n\nREGISTER: Final", "    PROBE = 659\n")
    assert copy.imported(REQUESTS).endswith("LAYOUTS of common/client_protocol/requests.py has no row for PROBE")

    copy.put(REQUESTS, "FixedRequest = (", PROBE_TYPE)
    copy.put(REQUESTS, "    RegisterRequest,\n    ListUsersRequest,\n", "    ProbeRequest,\n")
    copy.put(REQUESTS, ")\nLAYOUTS: Final", PROBE_ROW)
    path = copy.folder / REQUESTS
    with_row = path.read_text(encoding="utf-8")
    path.write_text(with_row.replace("REPLAY\n", "\n"), encoding="utf-8")
    assert "missing 1 required positional argument: 'replay'" in copy.imported(REQUESTS)

    path.write_text(with_row.replace("REPLAY\n", "Replay.READS,\n"), encoding="utf-8")
    assert "has a row for ProbeRequest, which it should not" in copy.imported(REQUESTS)

    copy.put(REQUESTS, "RegisterRequest\n    | ListUsersRequest", "ProbeRequest\n    | ")
    assert copy.imported(REQUESTS) == ""
    assert copy.run(DECODED) == "ProbeRequest"
    assert copy.imported(DISPATCH).endswith("HANDLERS of gateway/handlers/dispatch.py has no row for ProbeRequest")
    assert copy.imported(ERRORS).endswith("_LIKELY of client/connection/server_errors.py has no row for PROBE")
    assert copy.imported(IMPERSONATION).endswith("FORGERIES of torture/impersonation.py has no row for PROBE")

    copy.put(DISPATCH, "    PublicKeyRequest,\n    PublishKeysRequest,\n", "    ProbeRequest,\n")
    copy.put(
        DISPATCH,
        "            _takes_connection(FetchRequest,",
        "            _takes_connection(ProbeRequest, 1, _always, lambda host, _: ListUsersHandler(host, b'')),\n",
    )
    copy.put(ERRORS, "        RequestCode.PROVE: (", "        RequestCode.PROBE: ('Most likely it is new.', ''),\n")
    copy.put(IMPERSONATION, "        # Each way has", "        RequestCode.PROBE: lambda _me, _other, _highest: [],\n")
    assert [copy.imported(file) for file in in_all] == ["", "", "", ""]


def test_a_request_with_a_content_that_nobody_decodes_is_reported(copy: Copy) -> None:
    copy.put(REQUESTS, "\n\nREGISTER: Final", "    PROBE = 659\n")
    copy.put(REQUESTS, ")\nLAYOUTS: Final", "    _content(RequestCode.PROBE, SEND_HEAD, Replay.AGAIN),\n")
    assert copy.imported(CONNECTION).endswith("ServerConnection.next_event, by name, has no row for PROBE")


def test_a_response_without_one_of_its_rows_is_reported(copy: Copy) -> None:
    copy.put(RESPONSES, "    ERROR = 9000", "    PROBED = 2159\n")
    assert copy.imported(RESPONSES).endswith("LAYOUTS of common/client_protocol/responses.py has no row for PROBED")

    copy.put(
        RESPONSES,
        "        ResponseCode.ERROR: WholeLayout(",
        "        ResponseCode.PROBED: WholeLayout((0,), lambda _payload: AuthenticatedResponse()),\n",
    )
    assert copy.imported(RESPONSES) == ""
    assert copy.imported(DEATHS).endswith("_RESPONSES of torture/deaths_at_points.py has no row for PROBED")

    copy.put(DEATHS, "        ResponseCode.ERROR: _REFUSALS", "        ResponseCode.PROBED: [Clients.prove],\n")
    assert copy.imported(DEATHS) == ""


PROBE_OPERATION = '''
class Probe(_Value, frozen=True, tag=99):
    """Asks for nothing."""


'''


@pytest.mark.slow
def test_an_operation_without_one_of_its_rows_is_reported(copy: Copy) -> None:
    copy.put(OPERATIONS_MODULE, "Operation = (\n", PROBE_OPERATION)
    copy.put(OPERATIONS_MODULE, "    | ClaimKey\n)", "    | Probe\n")
    assert copy.imported(OPERATIONS_MODULE).endswith(
        "OPERATIONS of common/storage_protocol/operations.py has no row for Probe"
    )
    path = copy.folder / OPERATIONS_MODULE
    without_row = path.read_text(encoding="utf-8")
    for row, lacking in {"Probe, (Done,)": "'replay'", "Probe, replay=Replay.KEPT": "'outcomes'"}.items():
        copy.put(OPERATIONS_MODULE, "    _row(GetUploadProgress", f"    _row({row}),\n")
        assert f"missing 1 required positional argument: {lacking}" in copy.imported(OPERATIONS_MODULE)
        path.write_text(without_row, encoding="utf-8")

    copy.put(OPERATIONS_MODULE, "    _row(GetUploadProgress", "    _row(Probe, (Done,), Replay.KEPT),\n")
    assert copy.imported(OPERATIONS_MODULE) == ""
    assert copy.imported(RULES).endswith("not exactly one rule for: Probe")
    assert copy.imported(DEATHS).endswith("_OPERATIONS of torture/deaths_at_points.py has no row for Probe")

    copy.put(UPLOAD_RULES, "    AbortUpload,\n    BeginUpload,", "    Probe,\n")
    copy.put(UPLOAD_RULES, "    .row(AbortUpload,", "    .row(Probe, UploadRules.abort)\n")
    assert copy.imported(RULES) == ""

    copy.put(DEATHS, "    GetUploadProgress,\n", "    Probe,\n")
    copy.put(DEATHS, "        GetUploadProgress: _UPLOAD_PROGRESS", "        Probe: [Clients.prove],\n")
    assert copy.imported(DEATHS) == ""


def test_what_is_reported_is_all_of_it() -> None:
    assert complete("T", {1: "one", 2: "two"}, [2, 1]) == {1: "one", 2: "two"}
    with pytest.raises(TableIncomplete) as caught:
        complete("T", {"Register": 1, int: 2}, [int, RequestCode.SEND, RequestCode.PULL])
    assert str(caught.value) == (
        "T has no row for PULL; T has no row for SEND; T has a row for Register, which it should not"
    )


def test_a_code_has_one_row() -> None:
    rows = list(LAYOUTS.values())
    assert [row.code for row in rows] == list(LAYOUTS)
    assert len(requests.ROWS) == len(rows) == len(RequestCode)
    assert len(operations.ROWS) == len(OPERATIONS)
    assert responses.BY_NUMBER.keys() == {int(code) for code in responses.LAYOUTS}


def test_what_flows_answers_with_an_outcome_of_its_operation() -> None:
    for operation, row in FLOWING.items():
        assert row.outcome in OPERATIONS[operation].outcomes


def test_replay_classes_of_requests_fit_those_of_their_operations() -> None:
    """What is done twice at a second request is kept, or it would be done twice at a resent batch
    as well.
    """
    of_code: dict[RequestCode, type[Operation]] = {
        RequestCode.REGISTER: operations.Register,
        RequestCode.SEND: operations.StoreMessages,
        RequestCode.SEND_ONCE: operations.StoreMessagesOnce,
        RequestCode.PROVE: operations.MarkAuthenticated,
        RequestCode.BLOCK: operations.SetBlock,
        RequestCode.PUBLISH_KEYS: operations.PublishKeys,
        RequestCode.CLAIM_KEY: operations.ClaimKey,
        RequestCode.LIST_USERS: operations.ListUsers,
        RequestCode.PUBLIC_KEY: operations.GetPublicKey,
    }
    for code, operation in of_code.items():
        reads = LAYOUTS[code].replay is Replay.READS
        assert (OPERATIONS[operation].replay is operations.Replay.READ_AGAIN) == reads


def test_a_content_is_either_whole_or_follows() -> None:
    for layout in LAYOUTS.values():
        match layout:
            case FixedLayout():
                assert layout.request in HANDLERS
            case ContentLayout():
                assert {layout.request, layout.large} <= set(HANDLERS)
