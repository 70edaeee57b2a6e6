"""Orders to a running server: `log-level`, `expire` and `drain` of `scripts/admin`.

Owns: these commands. Promises: they need a running storage worker, and say so if there is none.
`drain` returns when the storage worker has ended, which is after its gateways.
Exposure: whoever may use the storage worker's socket.

Source: docs/operations.md, "Looking after a server".
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from common.data_folder import link_endpoint
from common.errors import SettingRejected
from common.options import number, user_name
from common.storage_protocol.administration import (
    LONGEST_EXPIRY,
    DrainServer,
    Expire,
    Expiry,
    GetExpiry,
    Obeyed,
    SetDisabled,
    SetLogLevel,
)
from common.storage_protocol.frames import LEVELS
from storage_worker.admin_output import Say, show
from storage_worker.engine.errors import StoreFailed, StoreUnusable
from storage_worker.server.admin_link import AdminLink, asked, is_served

_LOOK_EVERY: Final = 0.01
DRAINED_WITHIN: Final = 30.0
"""Seconds; the gateways have ten of them."""


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    level = commands.add_parser("log-level", help="set the log level of both programs, until they end")
    level.add_argument("level", choices=LEVELS)
    expire = commands.add_parser("expire", help="delete mail now that was not fetched for DAYS days")
    expire.add_argument("days", type=number, metavar="DAYS")
    for name, help_ in (
        ("disable", "do nothing for a user any more; what is sent to them is kept"),
        ("enable", "let a disabled user in again"),
    ):
        commands.add_parser(name, help=help_).add_argument("name", type=user_name, metavar="NAME")
    commands.add_parser("drain", help="finish what is in flight, then end gateway and storage worker")


def log_level(folder: Path, level: Any, say: Say, *, as_json: bool) -> int:
    """`level`: one of `LEVELS`. Raises `StorageError`, `NotObeyed`, `SettingRejected`."""
    with closing(AdminLink(_served(folder))) as link:
        asked(link, SetLogLevel(level), Obeyed)
    sentence = f"Storage worker and gateways log from {level} on, until they end."
    show(say, {"type": "log-level", "level": level}, sentence, as_json=as_json)
    return 0


def expire(folder: Path, days: int, say: Say, *, as_json: bool) -> int:
    """Delete old mail, and wait for it. Raises `StorageError`, `NotObeyed`, `SettingRejected`."""
    if not 1 <= days <= LONGEST_EXPIRY:
        raise SettingRejected(f"DAYS is 1 to {LONGEST_EXPIRY}, not {days}")
    with closing(AdminLink(_served(folder))) as link:
        done = asked(link, Expire(days), Expiry)
        while done.running:
            time.sleep(_LOOK_EVERY)
            done = asked(link, GetExpiry(), Expiry)
    sentence = f"{done.messages} messages were deleted, {done.content_bytes} bytes of content."
    line = {"type": "expired", "messages": done.messages, "bytes": done.content_bytes}
    show(say, line, sentence, as_json=as_json)
    return 0


def disable(folder: Path, name: str, say: Say, *, disabled: bool, as_json: bool) -> int:
    """Disable or enable a user. Raises `StorageError`, `NotObeyed`, `SettingRejected`."""
    with closing(AdminLink(_served(folder))) as link:
        asked(link, SetDisabled(name, disabled), Obeyed)
    sentence = f"{name} is disabled: what is sent to them is kept." if disabled else f"{name} is enabled again."
    show(say, {"type": "disabled" if disabled else "enabled", "name": name}, sentence, as_json=as_json)
    return 0


def drain(folder: Path, say: Say, *, as_json: bool = False) -> int:
    """End the server in order. Raises `StorageError`, `NotObeyed`, `SettingRejected`."""
    endpoint = _served(folder)
    began = time.monotonic()
    with closing(AdminLink(endpoint)) as link:
        asked(link, DrainServer(), Obeyed)
    while is_served(endpoint):
        if time.monotonic() - began > DRAINED_WITHIN:
            raise StoreFailed(f"the storage worker did not end within {DRAINED_WITHIN:.0f} s")
        time.sleep(_LOOK_EVERY)
    seconds = round(time.monotonic() - began, 1)
    show(
        say,
        {"type": "drained", "seconds": seconds},
        f"The server has ended, after {seconds:.1f} s.",
        as_json=as_json,
    )
    return 0


def _served(folder: Path) -> str:
    endpoint = link_endpoint(folder)
    if not is_served(endpoint):
        raise StoreUnusable(f"no storage worker is running on {folder}")
    return endpoint
