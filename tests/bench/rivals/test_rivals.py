from bench.figures import REDIS
from bench.messageu import PROGRAMS
from bench.rivals import ALWAYS, RIVALS


def test_every_rival_has_a_name_of_its_own_and_says_whether_it_is_there() -> None:
    names = [rival.name for rival in RIVALS.values()]
    assert len(set(names)) == len(names)
    for rival in RIVALS.values():
        assert rival.kinds
        assert isinstance(rival.missing, str)
        assert not set(PROGRAMS) & {rival.name}


def test_what_the_others_are_compared_with_is_always_measured() -> None:
    assert [RIVALS[name].name for name in ALWAYS] == [REDIS]
