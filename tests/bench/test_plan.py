import dataclasses

import pytest

from bench.plan import PLAN_HEADER, Dialect, Mode, Plan, PlanRejected, Report

PLAN = Plan(
    mode=Mode.DRAIN,
    dialect=Dialect.REDIS,
    port=1357,
    connections=2,
    window=3,
    messages=4,
    run_time=1.5,
    limit_time=2.25,
    hold_time=0.5,
    seed=2**64 - 1,
    sources=4,
    close_each=True,
    tls=True,
    content_size=256,
    keys=[b"k" * 16, b"l" * 16, b"m" * 16],
    prefixes=[b"p", b"q"],
    heads=[b"he", b"ad", b"s!"],
    tags=[b"1st", b"2nd", b"3rd"],
    body=b"the body",
    closers=[b"c1", b"c2", b"c3"],
    greeting=b"hello",
    greeted=b"hi",
)


def test_a_plan_comes_back_from_its_bytes() -> None:
    assert Plan.decode(PLAN.encode()) == PLAN


def test_tables_are_as_long_as_the_header_says() -> None:
    assert PLAN_HEADER.size == 112
    assert len(PLAN.encode()) == 112 + 48 + 2 + 6 + 9 + 8 + 6 + 5 + 2


@pytest.mark.parametrize("data", [b"", b"MUB2", b"MUB1" + bytes(108), PLAN.encode()[:-1], PLAN.encode() + b"!"])
def test_other_bytes_are_no_plan(data: bytes) -> None:
    with pytest.raises(PlanRejected):
        Plan.decode(data)


def test_a_plan_of_the_extension_comes_back_from_its_bytes() -> None:
    plan = dataclasses.replace(
        PLAN, dialect=Dialect.MESSAGEU, mode=Mode.SEND, close_each=False, tls=False, extension=True
    )
    assert Plan.decode(plan.encode()) == plan


@pytest.mark.parametrize(
    "plan",
    [
        Plan(Mode.SEND, 1, 1, 1.0, extension=True, dialect=Dialect.REDIS),
        Plan(Mode.SEND, 1, 1, 1.0, extension=True, tls=True),
        Plan(Mode.DRAIN, 1, 1, 1.0, extension=True, close_each=True, heads=[b""]),
        Plan(Mode.DRAIN, 1, 2, 1.0, extension=True, heads=[b""]),
    ],
)
def test_a_plan_of_the_extension_that_nobody_can_carry_out_is_rejected(plan: Plan) -> None:
    with pytest.raises(PlanRejected, match="extension"):
        plan.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"keys": [b"k" * 16]},
        {"prefixes": [b"p"]},
        {"heads": [b"h", b"ea", b"d"]},
        {"keys": [b"k", b"ll", b"m"]},
        {"tags": [b"1st"]},
        {"closers": [b"c1"]},
    ],
)
def test_tables_that_do_not_fit_are_rejected(change: dict[str, list[bytes]]) -> None:
    with pytest.raises(PlanRejected):
        dataclasses.replace(PLAN, **change).encode()  # type: ignore[arg-type]


def test_errors_are_all_that_went_wrong() -> None:
    fine = Report(opened=1, sent=9, acknowledged=9, responses=3, messages=2, slowest=5)
    assert fine.errors == 0
    for kind in ["refused", "wrong", "unexpected", "unanswered", "closed_early", "wrong_size", "disordered"]:
        report = Report()
        setattr(report, kind, 2)
        assert report.errors == 2
    assert Report(cut_short=True).errors == 1
