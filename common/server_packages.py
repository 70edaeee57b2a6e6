"""Imported before anything that needs the packages of the server's programs.

Owns: their names. Promises: if one is not installed, the program ends here, with one sentence and
the exit code for "a restart won't help" (78).
Exposure: none.
"""

from importlib.util import find_spec

from common.packages import end_without

for _name in ("apsw", "Crypto", "cryptography", "msgspec", "precis_i18n", "zlib_ng", "zmq"):
    if find_spec(_name) is None:
        end_without(ModuleNotFoundError(f"No module named {_name!r}", name=_name), 78)
