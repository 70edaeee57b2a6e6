"""Steps back to the last commit."""

from storage_worker.state.rollback import Rollback


def noted(*steps: int) -> tuple[Rollback, list[int]]:
    undo, undone = Rollback(), list[int]()
    for step in steps:
        undo.note(lambda step=step: undone.append(step))  # type: ignore[misc]
    return undo, undone


def test_the_last_step_is_undone_first_and_each_once() -> None:
    undo, undone = noted(1, 2, 3)
    undo.roll_back()
    undo.roll_back()
    assert undone == [3, 2, 1]


def test_what_was_committed_stands() -> None:
    undo, undone = noted(1, 2)
    undo.commit()
    undo.note(lambda: undone.append(3))
    undo.roll_back()
    assert undone == [3]
