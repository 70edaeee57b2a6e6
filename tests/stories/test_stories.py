"""Every story file beside this one, on real server processes; their JSON against docs/schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu, run_story
from tests.stories.test_watch import watching
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

STORIES = sorted(Path(__file__).parent.glob("*.story"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path, tmp_path: Path, server: Server) -> None:
    run_story(story, tmp_path, server)


def test_what_is_to_be_printed_has_no_room(tmp_path: Path, server: Server) -> None:
    """A message that nobody could read counts as not received."""
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "hello"]).returncode == 0

    def to_a_full_disk(*words: str) -> None:
        with Path("/dev/full").open("w") as stdout:
            done = messageu(tmp_path, server.port, "bob", [*words], stdout=stdout)
        assert done.returncode == 1, words
        assert done.stderr.startswith("messageu: The output can't be written (No space left on device).")

    for command in ("recv", "users", "console"):
        to_a_full_disk(command)
    (text,) = messageu(tmp_path, server.port, "bob", ["recv"]).stdout.splitlines()
    assert text.endswith(" alice [possibly repeated]: hello")
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "and again"]).returncode == 0
    to_a_full_disk("watch")
    with watching(tmp_path / "bob") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().endswith(" alice: and again\n")
