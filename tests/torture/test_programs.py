"""Ports of the programs that drills and tests start."""

import random
from pathlib import Path

from torture.programs import free_port


def test_a_port_is_given_once_also_where_chance_repeats() -> None:
    given = [free_port(random.Random(5)) for _ in range(20)]
    assert len(set(given)) == 20


def test_no_outgoing_connection_can_have_it() -> None:
    lowest, _highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert 1024 <= free_port() < min(lowest, 30_000)
