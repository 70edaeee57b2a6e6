from dataclasses import dataclass, field

from storage_worker.engine.sqlite.disk_space import LOOK_EVERY_MS, DiskSpaceMonitor


@dataclass
class Disk:
    free: int = 1000
    unused: int = 0
    reserve: bool = True
    given_back: int = 0
    looks: list[int] = field(default_factory=list)

    def look(self) -> int:
        self.looks.append(self.free)
        return self.free

    def give_back(self) -> None:
        self.given_back += 1

    def room(self) -> DiskSpaceMonitor:
        return DiskSpaceMonitor(1000, self.look, lambda: self.unused, lambda: self.reserve, self.give_back)


def test_looks_once_a_second() -> None:
    disk = Disk()
    room = disk.room()
    assert room.allows_mail(0)
    disk.free = 999
    assert room.allows_mail(LOOK_EVERY_MS - 1)
    assert len(disk.looks) == 1
    assert not room.allows_mail(LOOK_EVERY_MS)
    disk.free = 1000
    assert not room.allows_mail(2 * LOOK_EVERY_MS - 1)
    assert room.allows_mail(2 * LOOK_EVERY_MS)


def test_looks_when_the_clock_was_set_back() -> None:
    disk = Disk()
    room = disk.room()
    assert room.allows_mail(10**9)
    disk.free = 0
    assert not room.allows_mail(5)


def test_looks_when_much_came_in() -> None:
    disk = Disk()
    room = disk.room()
    assert room.allows_mail(0)
    disk.free = 0
    room.accepted(250)
    assert room.allows_mail(1)
    room.accepted(1)
    assert not room.allows_mail(2)


def test_gives_the_log_back_before_it_refuses() -> None:
    disk = Disk(free=999)

    def give_back() -> None:
        disk.free = 1000

    disk.give_back = give_back  # type: ignore[method-assign]
    assert disk.room().allows_mail(0)


def test_room_inside_the_database_counts_while_the_log_has_room() -> None:
    assert Disk(free=250, unused=750).room().allows_mail(0)
    assert not Disk(free=250, unused=749).room().allows_mail(0)
    assert not Disk(free=249, unused=10_000).room().allows_mail(0)


def test_the_reserve_has_to_be_there_first() -> None:
    disk = Disk(reserve=False)
    room = disk.room()
    assert not room.allows_mail(0)
    disk.reserve = True
    assert room.allows_mail(1000)


def test_found_full_until_the_next_look() -> None:
    disk = Disk()
    room = disk.room()
    assert room.allows_mail(0)
    room.found_full(10)
    assert disk.given_back == 1
    assert not room.allows_mail(1009)
    assert room.allows_mail(1010)
