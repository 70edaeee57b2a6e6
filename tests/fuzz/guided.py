"""One target under atheris: `python -m tests.fuzz.guided TARGET [libFuzzer's words]`.

Owns: the process of one target, which `tests.fuzz` starts. Promises: everything that the target
imports is instrumented.
"""

import sys

import atheris

with atheris.instrument_imports(include=["client", "common", "gateway", "storage_worker"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
