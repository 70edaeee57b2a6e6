"""The import table, checked over the source of every module.

Which package may import which, and which modules alone are the adapters to an outside thing. The
rules read the source, so that an import inside a function or for type checking counts like any
other. docs/architecture.md shows the same to readers.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ("common", "gateway", "storage_worker", "client")
PROJECT = frozenset({*PROGRAMS, "bench", "cluster", "scripts", "tests", "torture"})

ZMQ = frozenset({"zmq"})
CRYPTO = frozenset({"Crypto", "Cryptodome", "cryptography", "vodozemac"})
SQLITE = frozenset({"sqlite3", "_sqlite3", "apsw"})
POSTGRES = frozenset({"psycopg", "psycopg_binary"})
SOCKETS = frozenset({"socket", "_socket", "select", "_select", "selectors", "socketserver", "ssl", "asyncio"})
TERMINAL_CONTROL = frozenset({"fcntl", "termios"})
CLOCKS_AND_LOGS = frozenset({"time", "logging"})
EVENT_MASKS = frozenset(f"gateway.event_loop.{name}" for name in ("READABLE", "WRITABLE", "BROKEN", "HUNG_UP"))

COMMON_CORE = frozenset(
    {
        "common.values",
        "common.names",
        "common.name_table",
        "common.storage_protocol.operations",
        "common.storage_protocol.message_format",
        "common.errors",
        "common.info_files",
        "common.server_address",
        "common.link_address",
        "common.tables",
        "common.packages",
    }
)


@dataclass(frozen=True)
class Rule:
    """What the modules of one part may import of the project, and which outside things
    only some of them may use: the adapters to it.
    """

    part: str
    may_import: frozenset[str]
    never: frozenset[str] = frozenset()
    # An outside thing's modules, and the only modules of the part that may import them.
    adapters: tuple[tuple[frozenset[str], frozenset[str]], ...] = field(default=())

    def covers(self, module: str) -> bool:
        return is_within(module, self.part)


def only(*modules: str) -> frozenset[str]:
    return frozenset(modules)


SEAM_OF_ENGINES = frozenset({"__init__", "interface", "records", "values", "sender_counts", "errors"})
SHARED_BY_ENGINES = only("storage_worker.engine.paged")
ENGINES = frozenset(
    f"storage_worker.engine.{path.stem}"
    for path in (ROOT / "storage_worker" / "engine").iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in {*SEAM_OF_ENGINES, "paged"}
)
"""Whatever else lies beside the seam is an engine."""
BEHIND_THE_SEAM = ENGINES | SHARED_BY_ENGINES

ZMQ_OF_THE_WORKER = only(
    "storage_worker.server.admin_link", "storage_worker.server.tcp_link", "storage_worker.server.zmq_server"
)

# The first rule that covers a module counts.
RULES = (
    Rule(
        "common.client_protocol",
        may_import=COMMON_CORE | {"common.client_protocol"},
        never=ZMQ | CRYPTO | SQLITE | POSTGRES | SOCKETS | TERMINAL_CONTROL | CLOCKS_AND_LOGS,
    ),
    Rule(
        "common.storage_protocol",
        may_import=COMMON_CORE | {"common.storage_protocol"},
        never=ZMQ | CRYPTO | SQLITE | POSTGRES | SOCKETS | TERMINAL_CONTROL | CLOCKS_AND_LOGS,
    ),
    Rule(
        "common",
        may_import=COMMON_CORE,
        never=CRYPTO | SQLITE | POSTGRES,
        adapters=((ZMQ, only("common.zmq_calls")), (SOCKETS, only("common.service_manager", "common.status_server"))),
    ),
    Rule(
        "gateway",
        may_import=only("gateway", "common"),
        never=SQLITE | POSTGRES,
        adapters=(
            (ZMQ, only("gateway.storage.link")),
            (
                SOCKETS,
                only(
                    "gateway.event_loop",
                    "gateway.handed_over",
                    "gateway.listener",
                    "gateway.addresses",
                    "gateway.certificate",
                    "gateway.connection.proxy_header",
                    "gateway.connection.tls_transport",
                    "gateway.connection.transport",
                    "gateway.delivery.tcp_info",
                ),
            ),
            (TERMINAL_CONTROL, only("gateway.delivery.tcp_info")),
            # A session sees its transport, no descriptor and no mask of the event loop.
            (
                EVENT_MASKS,
                only(
                    "gateway.listener",
                    "gateway.connection.proxy_header",
                    "gateway.connection.tls_transport",
                    "gateway.connection.transport",
                    "gateway.storage.link",
                ),
            ),
            (
                only("gateway.delivery.tcp_info"),
                only("gateway.connection.proxy_header", "gateway.connection.transport"),
            ),
            (CRYPTO, only("gateway.authentication", "gateway.certificate")),
        ),
    ),
    # The seam of engines: rules, state and server see the interface, no engine; an engine sees no
    # rules.
    Rule(
        "storage_worker.engine.sqlite",
        may_import=only("storage_worker.engine", "common"),
        never=(ENGINES - only("storage_worker.engine.sqlite"))
        | only("common.client_protocol")
        | CRYPTO
        | ZMQ
        | POSTGRES,
        adapters=(
            (SQLITE, only("storage_worker.engine.sqlite.database", "storage_worker.engine.sqlite.sqlite_errors")),
        ),
    ),
    Rule(
        "storage_worker.engine.postgres",
        may_import=only("storage_worker.engine", "common"),
        never=(ENGINES - only("storage_worker.engine.postgres"))
        | only("common.client_protocol")
        | CRYPTO
        | ZMQ
        | SQLITE
        | SOCKETS,
        adapters=((POSTGRES, only("storage_worker.engine.postgres.connection")),),
    ),
    Rule(
        "storage_worker.engine.paged",
        may_import=only("storage_worker.engine", "common"),
        never=ENGINES | only("common.client_protocol") | CRYPTO | ZMQ | SQLITE | POSTGRES,
    ),
    Rule(
        "storage_worker.engine",
        may_import=only("storage_worker.engine", "common"),
        never=BEHIND_THE_SEAM | only("common.client_protocol") | CRYPTO | ZMQ | SQLITE | POSTGRES,
    ),
    Rule(
        "storage_worker.state",
        may_import=only("storage_worker.state", "storage_worker.engine", "common"),
        never=BEHIND_THE_SEAM | only("common.client_protocol") | CRYPTO | ZMQ | SQLITE | POSTGRES | CLOCKS_AND_LOGS,
    ),
    Rule(
        "storage_worker.rules",
        may_import=only("storage_worker.rules", "storage_worker.state", "storage_worker.engine", "common"),
        never=BEHIND_THE_SEAM | only("common.client_protocol") | CRYPTO | ZMQ | SQLITE | POSTGRES,
    ),
    Rule(
        "storage_worker.server",
        may_import=only("storage_worker.server", "storage_worker.rules", "storage_worker.engine", "common"),
        never=BEHIND_THE_SEAM | only("common.client_protocol") | CRYPTO | SQLITE | POSTGRES,
        adapters=((ZMQ, ZMQ_OF_THE_WORKER),),
    ),
    # The operator's command line is one for both programs.
    Rule(
        "storage_worker.admin_tls",
        may_import=only("gateway.certificate", "storage_worker.admin_output", "common"),
        never=only("common.client_protocol") | CRYPTO | ZMQ | SQLITE | SOCKETS,
    ),
    Rule(
        "storage_worker",
        may_import=only("storage_worker", "common"),
        never=only("common.client_protocol") | CRYPTO,
        adapters=(
            (ZMQ, ZMQ_OF_THE_WORKER),
            (SQLITE, only("storage_worker.engine.sqlite.database", "storage_worker.engine.sqlite.sqlite_errors")),
            (POSTGRES, only("storage_worker.engine.postgres.connection")),
        ),
    ),
    # Pure: whatever it keeps, its caller saves.
    Rule(
        "client.suite1",
        may_import=only("client.suite1", "client.errors", "common"),
        never=only("common.storage_protocol", "common.client_protocol")
        | ZMQ
        | SQLITE
        | POSTGRES
        | SOCKETS
        | TERMINAL_CONTROL
        | CLOCKS_AND_LOGS,
        adapters=(
            (only("vodozemac"), only("client.suite1.olm")),
            (
                CRYPTO,
                only("client.suite1.bundles", "client.suite1.file_stream", "client.suite1.olm", "client.suite1.outer"),
            ),
            (only("cbor2"), only("client.suite1.payloads", "client.suite1.state_codec")),
        ),
    ),
    Rule(
        "client",
        may_import=only("client", "common"),
        never=only("common.storage_protocol") | ZMQ | POSTGRES,
        adapters=(
            # The other one looks at the terminal.
            (
                SOCKETS - only("asyncio"),
                only(
                    "client.connection.server_link",
                    "client.connection.tls",
                    "client.connection.transport",
                    "client.terminal.typed",
                ),
            ),
            # It opens no connection of its own.
            (only("asyncio"), only("client.async_messenger")),
            (CRYPTO, only("client.crypto.ciphers", "client.crypto.sealed_storage")),
            # The library's face is for other programs; our own use the parts of an open home.
            (only("client.messenger"), only("client.async_messenger")),
            (SQLITE, only("client.store.database", "client.store.memory_copy", "client.store.glance")),
        ),
    ),
)


def is_within(module: str, part: str) -> bool:
    """Whether a dotted name is the part or lies inside it."""
    return module == part or module.startswith(part + ".")


def is_any_within(module: str, parts: frozenset[str]) -> bool:
    return any(is_within(module, part) for part in parts)


def imports_of(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return the dotted names that a module's source imports; `from a import b` counts as a.b."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{name}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"}:
            found.append("(an import by name, which nobody can check)")
    return found


def called_name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def offences(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return a sentence for everything in a module's source that the rules do not allow."""
    rule = next(rule for rule in RULES if rule.covers(module))
    found: list[str] = []
    for name in imports_of(source, module, is_package):
        if name.startswith("("):
            found.append(f"{module} holds {name}")
        top = name.partition(".")[0]
        # A program's own folder may be named whole (`import common`); its contents must be
        # allowed.
        if top in PROJECT and not (is_any_within(name, rule.may_import) or name == "common"):
            found.append(f"{module} may not import {name}")
        if is_any_within(name, rule.never):
            found.append(f"{module} may never import {name}")
        found += [
            f"{module} may not import {name}; that is for {', '.join(sorted(adapters))}"
            for things, adapters in rule.adapters
            if is_any_within(name, things) and module not in adapters
        ]
    if not (ast.get_docstring(ast.parse(source)) or "").strip():
        found.append(f"{module} does not say in a docstring what it is")
    return found


def modules() -> list[tuple[str, Path]]:
    """Return the dotted name and the file of every module of the programs."""
    found = []
    for program in PROGRAMS:
        for path in sorted((ROOT / program).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_every_module_keeps_the_rules() -> None:
    looked_at = modules()
    found = [
        offence
        for module, path in looked_at
        for offence in offences(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    ]
    assert found == []
    # Every program was looked at.
    assert {module.partition(".")[0] for module, _ in looked_at} == set(PROGRAMS)


DOC = '"""Says what it is."""\n'


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.connection.session", "import storage_worker.rules.sending"),
        ("gateway.connection.session", "from client import messenger"),
        ("gateway.connection.session", "import zmq"),
        ("gateway.connection.session", "import zmq.asyncio"),
        ("gateway.connection.session", "from Crypto.PublicKey import RSA"),
        ("gateway.connection.session", "import socket"),
        ("gateway.connection.session", "from gateway.event_loop import READABLE"),
        ("gateway.connection.session", "from gateway.delivery import tcp_info"),
        ("gateway.storage.link", "import socket"),
        ("gateway.storage.link", "import fcntl"),
        ("gateway.__main__", "import select"),
        ("gateway.__main__", "import asyncio"),
        ("gateway.connection.session", "import sqlite3"),
        ("gateway.connection.session", "def f():\n    from storage_worker.engine.sqlite import database"),
        ("gateway.connection.session", "import importlib\nimportlib.import_module('client')"),
        ("gateway.connection.session", "__import__('client')"),
        ("gateway", "import tests.gateway.fake_storage"),
        ("storage_worker.rules.sending", "from common import client_protocol as wire"),
        ("storage_worker.rules.sending", "from common.client_protocol.requests import RequestCode"),
        ("storage_worker.rules.sending", "import zmq"),
        ("storage_worker.rules.sending", "from storage_worker.engine.sqlite.database import Database"),
        ("storage_worker.rules.sending", "from storage_worker.engine.memory import MemoryEngine"),
        ("storage_worker.server.batch_processor", "from storage_worker.engine.sqlite import engine"),
        ("storage_worker.state.uploads", "from storage_worker.engine.sqlite.blobs import Blobs"),
        ("storage_worker.engine.interface", "from storage_worker.state.sender_usage import Bounds"),
        ("storage_worker.engine.paged.mailboxes", "from storage_worker.state.leases import Leases"),
        ("storage_worker.engine.sqlite.engine", "from storage_worker.rules.admission import Limits"),
        ("storage_worker.engine.memory", "from storage_worker.engine.paged.mailboxes import Mailbox"),
        ("storage_worker.engine.interface", "import storage_worker.engine.sqlite.engine"),
        ("storage_worker.engine.interface", "from storage_worker.engine.paged.page import Pages"),
        ("storage_worker.engine.paged.page", "from storage_worker.engine.sqlite.mail_pages import MailPages"),
        ("storage_worker.engine.postgres.engine", "import psycopg"),
        ("storage_worker.engine.postgres.engine", "from storage_worker.engine.sqlite.slots import newest"),
        ("storage_worker.engine.sqlite.engine", "from storage_worker.engine.postgres.connection import Connection"),
        ("storage_worker.rules.sending", "from storage_worker.engine.postgres.connection import Connection"),
        ("storage_worker.__main__", "import psycopg"),
        ("storage_worker.rules.sending", "from storage_worker.engine.paged.mailboxes import Mailbox"),
        ("storage_worker.engine.paged.message_queue", "import apsw"),
        ("storage_worker.server.zmq_server", "import sqlite3"),
        ("storage_worker.server.zmq_server", "import gateway"),
        ("client.cli.watching", "from client.messenger import Messenger"),
        ("client.terminal.menu", "import socket"),
        ("client.messenger", "from Crypto.Cipher import AES"),
        ("client.mail.sending", "import vodozemac"),
        ("client.suite1.messages", "import vodozemac"),
        ("client.suite1.outer", "import vodozemac"),
        ("client.suite1.peers", "import time"),
        ("client.suite1.peers", "from client.store.home_store import Store"),
        ("client.trust.contacts", "import sqlite3"),
        ("client.trust.contacts", "import apsw"),
        ("client.identity.passphrase", "from Crypto.Protocol.KDF import scrypt"),
        ("client.connection.server_link", "import zmq"),
        ("client.connection.server_link", "import asyncio"),
        ("client.async_messenger", "import socket"),
        ("client.connection.server_link", "from common.storage_protocol import frames as schema"),
        ("client.connection.server_link", "import gateway"),
        ("common.values", "from common.client_protocol import versions"),
        ("common.values", "from .wire import versions"),
        ("common.values", "from . import ipc"),
        ("common.storage_protocol.operations", "import client"),
        ("common.client_protocol.versions", "from ..ipc import schema"),
        ("common.client_protocol.versions", "import socket"),
        ("common.client_protocol.versions", "import time"),
        ("common.storage_protocol.frames", "import zmq"),
        ("common.storage_protocol.batch_sender", "from common.client_protocol.requests import RequestCode"),
        ("common.storage_protocol.batch_sender", "import logging"),
    ],
)
def test_an_offence_is_found(module: str, source: str) -> None:
    assert len(offences(DOC + source, module)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.storage.link", "import zmq\nfrom common.storage_protocol import batch_sender as batches"),
        ("gateway.event_loop", "import select"),
        ("gateway.listener", "import socket"),
        (
            "gateway.connection.transport",
            "import socket\nfrom gateway.event_loop import READABLE\nfrom gateway.delivery import tcp_info",
        ),
        ("gateway.authentication", "from Crypto.Signature import pss"),
        (
            "storage_worker.server.zmq_server",
            "import zmq\nfrom common.storage_protocol import frames\nfrom storage_worker import engine",
        ),
        ("storage_worker.engine.sqlite.database", "import apsw"),
        ("client.store.database", "import apsw"),
        (
            "client.connection.server_link",
            "import socket\nfrom common.client_protocol import versions\nfrom common import values",
        ),
        ("client.crypto.ciphers", "from Crypto.PublicKey import RSA"),
        ("client.crypto.sealed_storage", "from Crypto.Cipher import AES"),
        ("common.client_protocol.versions", "import enum\nfrom common import errors\nfrom .fields import u32"),
        (
            "common.storage_protocol.frames",
            "import msgspec\nfrom common.storage_protocol.operations import Register\nfrom ..values import ClientId",
        ),
    ],
)
def test_what_the_table_allows_is_no_offence(module: str, source: str) -> None:
    assert offences(DOC + source, module) == []


def test_a_package_resolves_its_own_relative_imports() -> None:
    assert imports_of("from . import versions", "common.client_protocol", is_package=True) == [
        "common.client_protocol.versions"
    ]
    assert imports_of("from .. import errors", "common.client_protocol", is_package=True) == ["common.errors"]


def test_a_module_without_docstring_is_found() -> None:
    assert offences("import enum\n", "common.values") == ["common.values does not say in a docstring what it is"]


# Put together here, so that this file does not hold them itself.
PLACES_OF_ONE_MACHINE = ("/wo" + "rk/", "py" + "pi.org", "python" + "hosted.org", "index" + "-url", "/opt/py" + "pi")


def places_in(text: str) -> list[str]:
    """Return what a published file must not hold: paths of one machine and addresses of
    package registries.
    """
    return [place for place in PLACES_OF_ONE_MACHINE if place in text]


def test_no_published_file_holds_a_place_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert Path(__file__) in files or "test_code_rules.py" not in listed.stdout.decode()
    found = {
        str(path.relative_to(ROOT)): places
        for path in files
        if path.is_file() and (places := places_in(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert found == {}


def test_a_place_of_one_machine_is_found() -> None:
    assert places_in("see /wo" + "rk/notes") == ["/wo" + "rk/"]
    assert places_in("https://files.python" + "hosted.org/x") == ["python" + "hosted.org"]
    assert places_in("net" + "work/path and home" + "work/") == []


def test_what_lies_beside_the_seam_is_an_engine() -> None:
    assert only("storage_worker.engine.sqlite", "storage_worker.engine.memory") <= ENGINES
    assert all((ROOT / "storage_worker" / "engine" / f"{name}.py").exists() for name in SEAM_OF_ENGINES)


def test_no_program_is_named_like_a_standard_module() -> None:
    assert not PROJECT & sys.stdlib_module_names


def docstrings() -> dict[Path, str]:
    """The opening lines of every module of the server's programs and of what they share
    with the client.
    """
    found = {}
    for program in ("common", "gateway", "storage_worker"):
        for path in sorted((ROOT / program).rglob("*.py")):
            if path.name != "__init__.py":
                found[path] = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return found


def test_modules_say_what_they_own_what_they_promise_and_how_exposed_they_are() -> None:
    found = docstrings()
    assert len(found) > 40
    silent = [path for path, text in found.items() if not all(w in text for w in ("Owns:", "Promises:", "Exposure:"))]
    assert not silent


def test_sections_that_modules_name_as_their_source_exist() -> None:
    named = 0
    for path, text in docstrings().items():
        for document, sections in re.findall(r'(docs/[\w-]+\.md)((?:,? (?:and )?"[^"]+")*)', text):
            headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
            for section in re.findall(r'"([^"]+)"', sections):
                named += 1
                assert section in headings, f"{path}: {document} has no section {section!r}"
    assert named > 10


def loggers_in(source: str) -> list[str]:
    """The names of the loggers that a module's source asks for."""
    return [
        str(ast.literal_eval(node.args[0]))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and node.args
    ]


@pytest.mark.parametrize("program", ["gateway", "storage_worker"])
def test_a_line_of_the_log_names_its_module_or_a_package_above_it(program: str) -> None:
    named = {name: loggers_in(path.read_text(encoding="utf-8")) for name, path in modules() if is_within(name, program)}
    assert sum(map(len, named.values())) > 5
    wrong = {name: [one for one in loggers if not is_within(name, one)] for name, loggers in named.items()}
    assert {name: loggers for name, loggers in wrong.items() if loggers} == {}


def test_loggers_are_found() -> None:
    source = "log = logging.getLogger('a.b')\nroot = logging.getLogger()\nrare = Rare(logging.getLogger('c'))"
    assert loggers_in(source) == ["a.b", "c"]


def reaches_in(source: str) -> list[str]:
    """The calls of a module's source that go through two objects of somebody else: one of `self`,
    and one of that one's.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        steps, called = 0, node.func
        while isinstance(called, ast.Attribute):
            steps, called = steps + 1, called.value
        if isinstance(called, ast.Name) and called.id == "self" and steps >= 4:
            found.append(ast.unparse(node.func))
    return found


def test_nobody_reaches_through_two_objects() -> None:
    reaches = {name: reaches_in(path.read_text(encoding="utf-8")) for name, path in modules()}
    assert {name: found for name, found in reaches.items() if found} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("self._connection.context.link.submit(1)", ["self._connection.context.link.submit"]),
        ("self._link.submit(1)", []),
        ("self._store.settings.put(1)", []),
        ("now = self._context.loop.now", []),
    ],
)
def test_a_reach_through_two_objects_is_found(source: str, found: list[str]) -> None:
    assert reaches_in(source) == found
