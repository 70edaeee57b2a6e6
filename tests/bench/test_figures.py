from bench.figures import FLOOR, REDIS, Figures, compare, medians


def test_medians_are_taken_field_by_field_and_errors_added_up() -> None:
    rounds = [
        Figures(
            "1x1", "ours", number, rate=rate, p50_ms=p50, to_floor=ratio, errors=errors, cpu_us={"worker": rate / 10}
        )
        for number, (rate, p50, ratio, errors) in enumerate([(10, 3, 0.3, 0), (30, 1, 0.1, 2), (20, 2, 0.2, 1)])
    ]
    (figures,) = medians(rounds)
    assert (figures.rate, figures.p50_ms, figures.to_floor, figures.to_first) == (20, 2, 0.2, None)
    assert figures.cpu_us == {"worker": 2}
    assert figures.errors == 3


def test_a_round_that_failed_does_not_take_the_others_with_it() -> None:
    fine = [Figures("1x1", "ours", number, rate=10, cpu_us={"worker": 1}, values={"x": 5}) for number in range(2)]
    failed = Figures("1x1", "ours", 2, errors=1, remark="it fell over")
    (figures,) = medians([failed, *fine])
    assert (figures.cpu_us, figures.values, figures.errors, figures.remark) == (
        {"worker": 1},
        {"x": 5},
        1,
        "it fell over",
    )


def test_everything_is_compared_with_what_was_measured_in_the_same_round() -> None:
    rates = {FLOOR: 100.0, REDIS: 50.0, "ours": 40.0, "before": 20.0, "slow": 1.0, "failed": 0.0}
    group = [Figures("1x1", name, 0, rate=rate) for name, rate in rates.items()]
    compare(group, {"before": "ours", "slow": "was not measured"})
    assert {one.subject: (one.to_floor, one.to_redis, one.to_first) for one in group} == {
        FLOOR: (None, None, None),
        REDIS: (0.5, None, None),
        "ours": (0.4, 0.8, None),
        "before": (0.2, 0.4, 0.5),
        "slow": (0.01, 0.02, None),
        "failed": (None, None, None),
    }


def test_the_servers_processor_time_is_that_of_all_its_roles() -> None:
    assert Figures("1x1", "ours", 0, cpu_us={"worker": 1.5, "gateway": 2, "generator": 9}).server_us == 3.5


def test_figures_come_back_from_a_file() -> None:
    figures = Figures("1x1", "ours", 2, rate=1.5, cpu_us={"worker": 2.5}, to_redis=0.5, values={"x": 1.0}, errors=3)
    assert Figures.from_json(figures.as_json()) == figures
