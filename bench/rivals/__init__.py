"""Other servers that keep messages for somebody who is not there, as something to measure beside this one.

Owns: how each is configured, started and spoken to.
Promises: each promises what the table says of it (on the disk before the acknowledgement, or not); each is started by
the run itself, on a port of 127.0.0.1 and in a folder of its own, and ended with it. The system's own services are
never touched.
"""

from typing import Final

from bench.figures import REDIS
from bench.rivals.redis import Redis
from bench.subject import Subject

RIVALS: Final[dict[str, Subject]] = {
    "redis": Redis(REDIS, "always"),
    "redis-everysec": Redis("Redis AOF everysec", "everysec"),
}
"""By the name that `--rival` takes, in the order of the table."""
ALWAYS: Final = ("redis",)
"""Those that are measured where nothing else is asked for."""
