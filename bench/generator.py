"""Start a load generator, let it run a plan, and read its report.

Owns: the choice of the generator (the one in C if a compiler is found, else the one in Python), and
its process.
Promises: the generator is a process of its own; it is compiled once for each version of its source;
it never outlives the `Run` that started it.
Exposure: it trusts the compiler named by `CC`, else `cc`.
"""

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.plan import Dialect, Plan, Report
from bench.signing_in import signed_in
from bench.subject import SubjectFailed

_HERE: Final = Path(__file__).parent
SOURCES: Final = _HERE / "loadgen"
BUILD_FOLDER: Final = _HERE / ".build"
_FLAGS: Final = ("-O2", "-std=c11", "-Wall", "-Wextra")
_READY_SECONDS: Final = 60.0
_SPARE_SECONDS: Final = 10.0


class GeneratorFailed(RuntimeError):
    """The generator ended or fell silent; the text has what it said."""


@dataclass(frozen=True, slots=True)
class Generator:
    """How a generator is called."""

    command: tuple[str, ...]
    remark: str = ""
    """What a reader of the figures has to know; empty for the C generator."""
    dialects: frozenset[Dialect] = frozenset(Dialect)
    """Whose answers it can read."""


def find_generator(*, allow_compiler: bool = True, build_folder: Path = BUILD_FOLDER) -> Generator:
    """The C generator, compiled into `build_folder` where it is not yet; without a
    compiler the one in Python.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not allow_compiler:
        return _in_python("generator in Python, as asked: it may be the bottleneck")
    if compiler is None:
        return _in_python("no C compiler: generator in Python, which may be the bottleneck")
    try:
        return Generator((str(_compile(compiler, build_folder)),))
    except (OSError, subprocess.SubprocessError) as error:
        said = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        return _in_python(
            f"the C generator can't be compiled ({said}): generator in Python, which may be the bottleneck"
        )


def _in_python(remark: str) -> Generator:
    command = (sys.executable, "-P", "-m", "bench.slow_generator")
    return Generator(command, remark, frozenset({Dialect.MESSAGEU}))


def _compile(compiler: str, build_folder: Path) -> Path:
    sources = sorted(SOURCES.glob("*.c"))
    parts = [path.read_bytes() for path in [*sources, *sorted(SOURCES.glob("*.h"))]]
    parts += [text.encode() for text in (compiler, *_FLAGS)]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    program = build_folder / f"loadgen-{digest[:16]}"
    if program.exists():
        return program
    build_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build_folder) as folder:
        fresh = Path(folder) / "loadgen"
        command = [compiler, *_FLAGS, "-o", str(fresh), *map(str, sources)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        fresh.replace(program)
    return program


class Run:
    """One generator's process: its connections are open once this is made; leaving the `with` ends
    it.

    Raises `GeneratorFailed`.
    """

    def __init__(self, generator: Generator, plan: Plan) -> None:
        self._plan = plan
        self._files = tempfile.TemporaryDirectory(prefix="messageu-bench-")
        plan_file = Path(self._files.name) / "plan"
        plan_file.write_bytes(plan.encode())
        self._said = (Path(self._files.name) / "stderr").open("w+")
        project = str(_HERE.parent)
        with ExitStack() as handed_over:
            descriptors: list[int] = []
            arguments = [str(plan_file)]
            if plan.extension:
                try:
                    descriptors = [one.fileno() for one in handed_over.enter_context(signed_in(plan))]
                except (OSError, SubjectFailed) as error:
                    self._said.close()
                    self._files.cleanup()
                    raise GeneratorFailed(f"nobody can sign in: {error}") from error
                connections_file = Path(self._files.name) / "connections"
                connections_file.write_bytes(array("I", descriptors).tobytes())
                arguments.append(str(connections_file))
            self._process = subprocess.Popen(
                [*generator.command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                cwd=self._files.name,
                env={**os.environ, "PYTHONPATH": project},
                bufsize=0,
                pass_fds=descriptors,
            )
        try:
            if self._line(_READY_SECONDS) != b"ready\n":
                raise self._failed("did not open its connections")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def go(self) -> Report:
        """Let it work, and take the report. The connections stay open. Raises `GeneratorFailed`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"g")
        except BrokenPipeError as error:
            raise self._failed("ended before it was started") from error
        line = self._line(self._plan.limit_time + _SPARE_SECONDS)
        if not line.endswith(b"\n"):
            raise self._failed("did not report")
        return Report.from_json(json.loads(line))

    def stop(self) -> None:
        """Let a load of sends end now, as if its time were over; from another thread than
        that in `go`.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"s")

    def close(self) -> None:
        """Close the connections and end the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_SPARE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()
        self._files.cleanup()

    def _line(self, seconds: float) -> bytes:
        """A line of the generator, or what came of it in `seconds`."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        line = b""
        # Its number may be above 1,023, behind those of the connections that were handed over.
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while not line.endswith(b"\n"):
            readable = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            data = os.read(descriptor, 1 << 16) if readable else b""
            if not data:
                break
            line += data
        return line

    def _failed(self, what: str) -> GeneratorFailed:
        self._said.seek(0)
        said = self._said.read().strip()[-500:]
        return GeneratorFailed(f"the load generator {what}: {said or 'it said nothing'}")


def run_plan(generator: Generator, plan: Plan) -> Report:
    """Run a plan from beginning to end. Raises `GeneratorFailed`."""
    with Run(generator, plan) as run:
        return run.go()
