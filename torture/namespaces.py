"""A network of this machine's own, for drills: hosts that can be cut off.

Owns: the network namespaces, and the links between them. Promises: nothing of the machine's own
network is touched, and nothing is left. Sockets in folders work across it, as they do not go over a
network.
Exposure: root alone may make it; `is_possible` asks.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final, Self

NETWORK: Final = "10.213.77"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def is_possible() -> bool:
    """Whether this user may make namespaces here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "setpriv"))):
        return False
    name = f"messageu-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return False
    _ip("netns", "del", name)
    return True


class Network:
    """Hosts 1, 2, …, each in a namespace, at a bridge in one more."""

    def __init__(self, hosts: int) -> None:
        self._hosts = range(1, hosts + 1)
        self._base = f"messageu-{os.getpid()}"
        self._hub = f"{self._base}-hub"

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self._hub)
            _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "bridge", "up")
            for host in self._hosts:
                name, port = self.namespace(host), f"port{host}"
                _ip("netns", "add", name)
                words = ("type", "veth", "peer", "name", port, "netns", self._hub)
                _ip("link", "add", "name", "eth0", "netns", name, *words)
                _ip("-n", self._hub, "link", "set", port, "master", "bridge")
                _ip("-n", self._hub, "link", "set", port, "up")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*map(self.namespace, self._hosts), self._hub):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def namespace(self, host: int) -> str:
        """Its name."""
        return f"{self._base}-{host}"

    @staticmethod
    def address(host: int) -> str:
        """Of IPv4."""
        return f"{NETWORK}.{host}"

    def prefix(self, host: int, user: str | None = None) -> Sequence[str]:
        """What a command is put behind to run on that host, as `user` if that is another one."""
        inside = ["ip", "netns", "exec", self.namespace(host)]
        if user is None:
            return inside
        return [*inside, "setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", "--pdeathsig", "QUIT"]

    def cut(self, host: int) -> None:
        """Nothing of it reaches the others any more, and nothing of theirs it."""
        _ip("-n", self._hub, "link", "set", f"port{host}", "down")

    def heal(self, host: int) -> None:
        """It is reached again."""
        _ip("-n", self._hub, "link", "set", f"port{host}", "up")
