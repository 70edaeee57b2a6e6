import pytest

from bench.loads import QUICK, WHOLE, Drain, Idle, Large, Sends, Waiting, load_named
from bench.subject import Shape


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("50x32", Sends(Shape(50, 32), 256)),
        ("50x32@4K", Sends(Shape(50, 32), 4096)),
        ("4x4@1M", Sends(Shape(4, 4), 1 << 20)),
        ("1x1@1000", Sends(Shape(1, 1), 1000)),
        ("drain", Drain()),
        ("waiting", Waiting()),
        ("large", Large()),
        ("idle", Idle()),
    ],
)
def test_a_load_and_its_name_are_each_others_inverse(name: str, load: object) -> None:
    assert load_named(name) == load
    assert str(load) == name


@pytest.mark.parametrize("name", ["", "fast", "0x1", "1x0", "1x1@", "1x1@0", "1x1@4G", "1x1@17M", "x", "1x1 "])
def test_other_names_are_no_load(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"is neither CONNECTIONSxWINDOW\[@SIZE\] nor drain nor waiting nor large nor idle"
    ):
        load_named(name)


def test_every_load_of_a_run_has_a_name_of_its_own() -> None:
    for extent in (WHOLE, QUICK):
        names = [str(load) for load in extent.loads]
        assert len(set(names)) == len(names)
        assert [load_named(name) for name in names] == list(extent.loads)
