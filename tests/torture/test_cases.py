"""The drills leave no operation, no fail point and no kind of request out."""

from __future__ import annotations

from typing import get_args

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import RequestCode
from common.fail_points import Countdown, FailPoint
from common.storage_protocol.operations import Operation
from common.values import ClientId
from gateway import authentication
from torture import deaths_at_points
from torture.caller import Account, new_key, public_half, sign, signed_string
from torture.impersonation import Stage
from torture.random_kills import WEIGHTS


def test_every_operation_dies_at_every_point_it_passes() -> None:
    # How far an upload is on disk is asked for only where the disk is slow. Deletion has a drill of
    # its own, expiry-and-deletion. What 648 says changes nothing. One worker is never told to
    # forget.
    operations = {operation.__name__ for operation in get_args(Operation)} - {
        "GetUploadProgress",
        "DeleteAccount",
        "GetAbout",
        "Forget",
    }
    of_point: dict[FailPoint, set[str]] = {}
    for case in deaths_at_points.cases():
        Countdown(f"{case.setting}:1")
        assert case.steps
        of_point.setdefault(case.point, set()).add(case.concern)
    # The recovery of a journal is a command of its own, which
    # tests/storage_worker/engine/sqlite/test_recovery.py kills. Deletions and backups pass no
    # client's request: expiry-and-deletion and backup-under-load kill the worker meanwhile. Clients
    # of ours are killed by tests/client/test_suite_deaths.py.
    elsewhere = ("recovery", "deletion", "backup", "client")
    assert set(of_point) == {point for point in FailPoint if not point.startswith(elsewhere)}
    for point, concerned in of_point.items():
        if point in {FailPoint.WORKER_FLUSHING, FailPoint.WORKER_FLUSHED}:
            continue
        if point.startswith("worker") or point in {
            FailPoint.GATEWAY_RECEIVED,
            FailPoint.GATEWAY_SENT,
            FailPoint.GATEWAY_ANSWERED,
        }:
            assert concerned == operations


def test_every_request_that_has_a_name_in_it_is_tried_in_the_victims_name() -> None:
    stage = object.__new__(Stage)
    stage.victim, stage.witness = (Account(ClientId(bytes([n]) * 16), "name", b"") for n in (1, 2))
    stage.highest = 5
    tried = list(stage.requests())
    assert {REQUEST_HEADER.unpack_from(request)[2] for request in tried} | {RequestCode.PROVE} == set(RequestCode) - {
        RequestCode.REGISTER,
        RequestCode.HELLO,
        RequestCode.REGISTER_INVITED,
        RequestCode.ABOUT,
        RequestCode.CERTIFICATES,
    }
    assert all(request.startswith(stage.victim.client_id) for request in tried)


def test_a_drills_proof_is_a_good_one_for_its_own_key_alone() -> None:
    mine, other = new_key("mine"), new_key("other")
    text = signed_string(b"s" * 16, b"n" * 32, b"c" * 16)
    signature = sign(mine.export_key("DER"), text)
    assert authentication.signature_is_valid(
        public_half(mine), signature, authentication.signed_string(b"s" * 16, b"n" * 32, b"c" * 16, bytes(32))
    )
    assert not authentication.signature_is_valid(public_half(other), signature, text)
    assert public_half(new_key("mine")) == public_half(mine)


def test_everybody_is_killed_in_turn() -> None:
    assert set(WEIGHTS) == {"worker", "gateway", "sender", "receiver"}
    assert all(WEIGHTS.values())
