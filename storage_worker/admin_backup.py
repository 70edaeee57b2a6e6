"""`scripts/admin backup FOLDER`: a copy of the data folder while the storage worker runs.

Owns: the files in the data folder that are not the storage worker's, such as the gateway's
certificates, and their place in the copy. The worker copies the rest
(`storage_worker.engine.sqlite.online_backup`).
Promises: the copy is a data folder; the two programs can be started on it. It has everything that
was acknowledged before the command was given. If it could not be made, the exit code is not 0, the
folder has no `mail.db`, and a start on it is refused.
Exposure: whoever may read the data folder. The copy has the certificates' keys in it, and mode
0700.

Source: docs/operations.md, "Backup".
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from common.data_folder import link_endpoint, require_utf8
from common.errors import SettingRejected
from common.filesystem import sync_folder
from common.options import folder_path
from common.storage_protocol.administration import Backup, BeginBackup, GetBackup
from storage_worker.engine.errors import StoreFailed, StoreUnusable
from storage_worker.engine.sqlite.folder import DATABASE_NAME, OWN_NAMES
from storage_worker.server.admin_link import AdminLink, asked, is_served

Say = Callable[[str], object]
LINK_NAME: Final = "link"
_LOOK_EVERY: Final = 0.05
_STOPPED: Final = (
    "no storage worker is running on {folder}. While the server is stopped a backup is a copy of the whole folder: "
    "`cp -a {folder} {target}`, and before the first start on the copy "
    "`scripts/admin --data-folder {target} new-generation`"
)


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    command = commands.add_parser("backup", help="copy the data folder while the server runs")
    command.add_argument(
        "target", type=folder_path, metavar="FOLDER", help="an empty folder, or one that does not exist yet"
    )


def run(folder: Path, target: Path, say: Say, *, as_json: bool) -> int:
    """Make the copy. Raises `SettingRejected`, `StorageError`, `NotObeyed`, `OSError`."""
    target = target.resolve()
    require_utf8(target)
    endpoint = link_endpoint(folder)
    if not is_served(endpoint):
        raise StoreUnusable(_STOPPED.format(folder=folder, target=target))
    if target.is_relative_to(folder):
        raise SettingRejected(f"{target} is inside the data folder: choose another one")
    _make_empty(target)
    copy_others(folder, target)
    with closing(AdminLink(endpoint)) as link:
        done = asked(link, BeginBackup(str(target)), Backup)
        while done.running:
            time.sleep(_LOOK_EVERY)
            done = asked(link, GetBackup(), Backup)
    if done.problem:
        raise StoreFailed(f"{done.problem}. {target} is no backup and has no {DATABASE_NAME}: delete it")
    if done.folder != str(target):
        raise StoreFailed(f"the storage worker was started again meanwhile: {target} is no backup, delete it")
    _show(done, say, as_json=as_json)
    return 0


def _make_empty(target: Path) -> None:
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        there = next(target.iterdir(), None)
        target.chmod(0o700)
    except OSError as error:
        raise SettingRejected(f"{target} can't be used: {error.strerror}") from error
    if there is not None:
        raise SettingRejected(f"{target} is not empty: choose an empty folder, or one that does not exist yet")


def copy_others(folder: Path, target: Path) -> None:
    """Copy other programs' files, except sockets, locks and files that were set aside. Raises
    `OSError`.
    """
    for path in sorted(folder.iterdir()):
        is_own = path.name in OWN_NAMES or any(path.name.startswith(f"{name}.") for name in OWN_NAMES)
        if is_own or path.name == LINK_NAME or path.suffix == ".lock" or not (path.is_dir() or path.is_file()):
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name)
    for place, _folders, files in os.walk(target):
        for name in files:
            descriptor = os.open(Path(place) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))


def _show(done: Backup, say: Say, *, as_json: bool) -> None:
    if as_json:
        line: dict[str, object] = {
            "type": "backup",
            "folder": done.folder,
            "database_bytes": done.database_bytes,
            "contents": done.contents,
            "content_bytes": done.content_bytes,
            "missing": done.missing,
            "pause_ms": done.pause_ms,
        }
        say(json.dumps(line))
        return
    say(f"{done.folder} is a copy of the data folder: {done.database_bytes} bytes, and {done.contents} large")
    say(f"contents of {done.content_bytes} bytes. Requests waited {done.pause_ms} ms for it.")
    if done.missing:
        say(f"{done.missing} large contents were lost before: `scripts/admin check` names them.")
