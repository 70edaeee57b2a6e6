from storage_worker.engine.paged.mailboxes import Mailbox


def test_unflushed_between() -> None:
    box = Mailbox(1, 0, 0)
    assert box.unflushed_between(0, 100) == (0, 0)
    box.sequences = [3, 5, 9]
    assert box.unflushed_between(0, 100) == (0, 3)
    assert box.unflushed_between(4, 8) == (1, 2)
    assert box.unflushed_between(5, 9) == (1, 3)
    assert box.unflushed_between(10, 20) == (0, 0)
    assert box.unflushed_between(0, 2) == (0, 0)


def test_removed_intervals_are_kept_apart() -> None:
    box = Mailbox(1, 0, 0)
    box.forget_between(10, 20)
    box.forget_between(1, 3)
    box.forget_between(30, 40)
    assert box.removed == [(1, 3), (10, 20), (30, 40)]
    box.forget_between(4, 9)
    assert box.removed == [(1, 20), (30, 40)]
    box.forget_between(15, 35)
    assert box.removed == [(1, 40)]
    assert box.removed_within(40, 50) == [(1, 40)]
    assert box.removed_within(41, 50) == []
    box.flushed()
    assert box.removed == []
