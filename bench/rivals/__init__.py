"""Other servers that keep messages for somebody who is not there, as something to measure beside
this one.

Owns: how each is configured, started and spoken to.
Promises: each promises what the table says of it (on the disk before the acknowledgement, or not);
each is started by the run itself, on a port of 127.0.0.1 and in a folder of its own, and ended with
it. The system's own services are never touched.
"""

from pathlib import Path
from typing import Final, Protocol

from bench.figures import REDIS
from bench.rivals.mosquitto import Mosquitto
from bench.rivals.postgres import Postgres
from bench.rivals.rabbitmq import RabbitMQ
from bench.rivals.redis import Redis, Valkey
from bench.subject import Subject

WHEELS_FOLDER: Final = Path(__file__).resolve().parent.parent / ".work" / "wheels"
"""Where the servers are that come from PyPI."""


class Rival(Subject, Protocol):
    """A server of somebody else, which the system's packages have, or PyPI."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian's names."""

    @property
    def wheels(self) -> tuple[str, ...]:
        """What PyPI has; each is fixed to a version."""


RIVALS: Final[dict[str, Rival]] = {
    "redis": Redis(REDIS, "always"),
    "valkey": Valkey(WHEELS_FOLDER),
    "redis-everysec": Redis("Redis AOF everysec", "everysec"),
    "mosquitto": Mosquitto(),
    "rabbitmq": RabbitMQ(),
    "postgres": Postgres(),
}
"""By the name that `--rival` takes, in the order of the table."""
ALWAYS: Final = ("redis",)
"""Those that are measured where nothing else is asked for."""
