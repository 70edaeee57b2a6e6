"""A server in a thread that speaks RESP from memory: RPUSH, LRANGE of everything, DEL and PING."""

from collections import defaultdict
from collections.abc import Callable

from tests.bench.scripted_peer import CLOSE, Read, ScriptedPeer, Send

Twist = Callable[[int, bytes], bytes | None]


def bulk(content: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(content), content)


class ScriptedRedis(ScriptedPeer):
    """See `ScriptedPeer`. `twist` gets the number of the command and its right answer,
    and gives what is sent.
    """

    def __init__(self, twist: Twist = lambda _number, answer: answer, *, piece: int = 0) -> None:
        self.lists: dict[bytes, list[bytes]] = defaultdict(list)
        self.commands: list[bytes] = []
        self._twist = twist
        super().__init__(piece=piece)

    def converse(self, read: Read, send: Send) -> None:
        while words := read_command(read):
            with self.lock:
                self.commands.append(words[0])
                answer = self._twist(len(self.commands), self._answer(words))
            if answer is CLOSE:
                return
            send(answer)

    def _answer(self, words: list[bytes]) -> bytes:
        match words:
            case [b"RPUSH", name, content]:
                self.lists[name].append(content)
                return b":%d\r\n" % len(self.lists[name])
            case [b"LRANGE", name, b"0", b"-1"]:
                contents = self.lists.get(name, [])
                return b"*%d\r\n" % len(contents) + b"".join(map(bulk, contents))
            case [b"DEL", name]:
                return b":%d\r\n" % (self.lists.pop(name, None) is not None)
            case [b"PING"]:
                return b"+PONG\r\n"
        return b"-ERR unknown command\r\n"


def read_command(read: Read) -> list[bytes]:
    """The words of one command; none at the end."""

    def number(sign: bytes) -> int:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = read(1)
            if not byte:
                return 0
            line += byte
        assert line[:1] == sign
        return int(line[1:])

    return [read(number(b"$") + 2)[:-2] for _ in range(number(b"*"))]
