"""Several storage workers over one PostgreSQL database, and several gateways, to start, stop and
kill.

Owns: their processes, each in a folder of its own. Promises: as `torture.programs`.
Exposure: 127.0.0.1 only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.client_protocol.requests import PublicKeyRequest
from common.client_protocol.responses import ErrorResponse
from common.shards import shard_of
from common.values import ClientId, RefusalReason
from torture.caller import Caller
from torture.patience import HANG_SECONDS
from torture.programs import Program, Server, free_port, wait_until

_IMPATIENT: Final = 3.0


class ShardedServer(Server):
    """`url`: of a database in which `messageu-admin store create` has made all shards.
    `worker_arguments` and `gateway_arguments` go to all of them.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        shards: int,
        gateways: int = 1,
        *,
        worker_arguments: Sequence[str] = (),
        gateway_arguments: Sequence[str] = (),
    ) -> None:
        self.shards = shards
        folders = [folder / f"shard-{number}" for number in range(shards)]
        addresses = [word for one in folders for word in ("--worker", str((one / "data").absolute()))]

        def of_worker(number: int) -> tuple[str, ...]:
            return ("--store", url, "--shard", f"{number}/{shards}", *worker_arguments)

        # The gateways' data folder; the first worker has another one.
        gateway_words = (*addresses, *gateway_arguments)
        super().__init__(folder, gateway_arguments=gateway_words, worker_arguments=of_worker(0), store=())
        self.workers: list[Program] = []
        for number, its_folder in enumerate(folders):
            (its_folder / "data").mkdir(parents=True, exist_ok=True)
            environment = {**self.environment, "MESSAGEU_DATA": str((its_folder / "data").absolute())}
            self.workers.append(Program("storage_worker", its_folder, environment, of_worker(number), kept=False))
        self.worker = self.workers[0]
        self.gateways = [self.gateway]
        self.ports = [self.port]
        for slot in range(1, gateways):
            port = free_port()
            its_folder = folder / f"gateway-{slot}"
            its_folder.mkdir(exist_ok=True)
            arguments = (*addresses, *gateway_arguments, "--slot", str(slot), "--port", str(port))
            self.gateways.append(Program("gateway", its_folder, self.environment, arguments, kept=False))
            self.ports.append(port)
        self.programs = (*self.workers, *self.gateways)

    def data_folders(self) -> list[Path]:
        """Of the workers."""
        return [self.folder / f"shard-{number}" / "data" for number in range(self.shards)]

    def answers(self) -> bool:
        """Whether every gateway gets answers from every worker."""
        try:
            for port in self.ports:
                with Caller(port, patience=_IMPATIENT) as caller:
                    caller.hello()
                    for number in range(self.shards):
                        nobody = ClientId(bytes((number * 256 // self.shards, *[0] * 15)))
                        answer = caller.ask(PublicKeyRequest(nobody, nobody))
                        assert isinstance(answer, ErrorResponse), answer
                        if answer.reason == RefusalReason.UNAVAILABLE:
                            return False
        except OSError:
            return False
        return True

    def await_ready(self, seconds: float = HANG_SECONDS) -> None:
        """Wait until all that was started answers. Raises `ProgramFailed`."""
        wait_until(lambda: self.answers() or any(not program.running for program in self.programs), "answers", seconds)
        super().await_ready(seconds)

    def worker_of(self, client_id: bytes) -> Program:
        """The worker that has a user's mail."""
        return self.workers[shard_of(client_id, self.shards)]
