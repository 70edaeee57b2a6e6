"""What tests of one connection have in common."""

from collections.abc import Callable, Iterator

import pytest

from gateway.settings import Settings
from tests.gateway.connection.memory_transport import Scene


@pytest.fixture
def make_scene() -> Iterator[Callable[[Settings], Scene]]:
    scenes: list[Scene] = []

    def make(settings: Settings) -> Scene:
        scenes.append(Scene(settings))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()
