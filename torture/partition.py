"""Drills: PostgreSQL's primary is cut off from its standby and from the storage worker, and lives;
and the same with a standby that nobody waits for, which must lose.

Owns: a network of this machine's own, what is cut, and when the standby is promoted and the old
primary found out.
Promises: two primaries at a time lose nothing and double nothing: the old one acknowledges nothing
for want of its standby, whether the worker reaches it again or not.
Exposure: root alone may make such a network; where it can't be made the row says so.
"""

import time
from typing import Final

from cluster.postgres import Address
from torture.caller import new_account
from torture.cast import extension_cast
from torture.checker import Verdict
from torture.drill import Place, Row, say
from torture.failover import Keeper, Probe
from torture.namespaces import Network, is_possible
from torture.programs import Server
from torture.replicated import Site, loss_without_a_standby, percentile

NAME: Final = "partition"
CONTROL: Final = "control-partition-asynchronous"
IMPOSSIBLE: Final = "not run: this machine allows no network namespaces"
_FULL_ROUNDS: Final = 20
_QUICK_ROUNDS: Final = 1
_MORE: Final = 20
_WORKER: Final = 3
"""The worker's host; 1 and 2 are those of PostgreSQL."""
_NOBODY: Final = "nobody"


def _site(place: Place, drill: str, network: Network) -> Site:
    return Site(
        place.folder_of(drill),
        [Address(network.address(host)) for host in (1, 2)],
        [network.prefix(host, _NOBODY) for host in (1, 2)],
        network.prefix(_WORKER),
    )


def _server(site: Site, network: Network) -> Server:
    """The gateway is where its clients are: its link to the worker is a socket in a folder."""
    server = site.server()
    server.worker.prefix = list(network.prefix(_WORKER))
    return server.start()


def run(place: Place) -> Row:
    """In every second round the worker reaches the old primary again, which still takes itself for
    one.
    """
    if not is_possible():
        return Row(NAME, 0, Verdict(), passed=True, note=IMPOSSIBLE)
    chance = place.chance(NAME)
    rounds = place.rounds_of(_FULL_ROUNDS, _QUICK_ROUNDS)
    took: list[float] = []
    with Network(3) as network, _site(place, NAME, network) as site:
        server = _server(site, network)
        probe = new_account(server.port, "probe")
        cast = extension_cast(place, NAME, server)
        keeper = Keeper(server.worker)
        keeper.start()
        hosts = {node.name: host for host, node in enumerate(site.pair.nodes, 1)}
        try:
            cast.start()
            for number in range(rounds):
                cast.await_more(_MORE)
                time.sleep(chance.uniform(0, 0.3))
                old = site.pair.primary
                network.cut(hosts[old.name])
                waiting = Probe(server.port, probe, f"{place.seed} {number}")
                time.sleep(chance.uniform(0, 3))
                began = time.monotonic()
                site.pair.promote()
                if number % 2:
                    network.heal(hosts[old.name])
                    time.sleep(chance.uniform(0, 3))
                    # Found out: what watches them ends it.
                    old.kill()
                waiting.join()
                took.append(waiting.answered_at - began)
                old.kill()
                network.heal(hosts[old.name])
                site.pair.follow()
                say(f"  {number + 1} partitions, this one {took[-1]:.2f} s")
            cast.await_more(1)
            keeper.end()
            cast.look_for_deaths()
            cast.finish()
            note = (
                f"{rounds} partitions, seconds from the promotion to the first answer: median "
                f"{percentile(took, 50):.2f}, most {max(took):.2f}"
            )
            return cast.row(NAME, rounds, note)
        finally:
            keeper.end()
            cast.end()


def run_control(place: Place) -> Row:
    """The standby is cut off, nobody waits for it, and it is promoted."""
    if not is_possible():
        return Row(CONTROL, 0, Verdict(), passed=True, note=IMPOSSIBLE)
    with Network(3) as network, _site(place, CONTROL, network) as site:
        server = _server(site, network)
        return loss_without_a_standby(place, CONTROL, site, server, lambda: network.cut(2), lambda: network.heal(2))
