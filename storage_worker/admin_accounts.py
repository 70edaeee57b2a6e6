"""What an operator does about accounts: `invite`, `invitations`, `invitation revoke`, `delete`,
`free`, `re-key`, `unprove`.

Owns: these commands of `scripts/admin`. Promises: they work while the storage worker runs, which
notices with its next turn, and while it does not. An invitation is shown once and kept nowhere: the
store has its SHA-256, whose first digits name it. A deletion is marked here and made by the worker,
which has the mail. With `--store` they change the tables of that database.
Exposure: whoever may write to the data folder, or connect to the database. Names are quoted, so
that a terminal obeys nothing.

Source: docs/operations.md, "Accounts".
"""

import argparse
import base64
import binascii
import contextlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from common.data_folder import link_endpoint
from common.errors import FrameUndecodable, SettingRejected
from common.options import Bound, check_bounds, number, user_name
from common.rsa_key_form import numbers_of_der
from common.server_address import INVITATION_SIZE
from common.storage_protocol.administration import UsersChanged
from common.values import PUBLIC_KEY_SIZE
from storage_worker import admin_tls
from storage_worker.admin_output import Say, refuse, refuse_unknown_user, show
from storage_worker.engine.interface import OperatorsTables
from storage_worker.engine.records import InvitationMade
from storage_worker.engine.values import Invitation
from storage_worker.server.admin_link import AdminLink, WorkerSilent, is_served

COMMANDS: Final = frozenset({"invite", "invitations", "invitation", "delete", "free", "re-key", "unprove"})

_SHOWN: Final = 8
"""Hex digits of an invitation's SHA-256 that name it."""
_MOST_USES: Final = 1_000_000
_MOST_DAYS: Final = 3650
_DAY_MS: Final = 24 * 3600 * 1000
_PEM: Final = re.compile(r"-----BEGIN PUBLIC KEY-----(.*)-----END PUBLIC KEY-----", re.DOTALL)


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    invite = commands.add_parser("invite", help="print a link that lets somebody register")
    invite.add_argument(
        "place", nargs="?", metavar="HOST:PORT", help="where clients reach the server (default: as in the log)"
    )
    invite.add_argument(
        "--uses", type=number, default=1, help="how many users may register with it (default: %(default)s)"
    )
    invite.add_argument("--days", type=number, default=7, help="days until it expires (default: %(default)s)")
    invite.add_argument("--qr", action="store_true", help="show it as a QR code too")
    commands.add_parser("invitations", help="list the invitations that can still be used")
    one = commands.add_parser("invitation", help="revoke an invitation")
    one.add_argument("step", choices=("revoke",))
    one.add_argument("id", help="as `invitations` shows it")
    delete = commands.add_parser("delete", help="delete a user and their pending mail; the name stays taken")
    delete.add_argument("name", type=user_name)
    free = commands.add_parser("free", help="let others register the name of a deleted user")
    free.add_argument("name", nargs="?", type=user_name, help="without a name, list the names that can be freed")
    commands.add_parser(
        "unprove", help="let a user connect without a proof again, until their next proof"
    ).add_argument("name", type=user_name)
    re_key = commands.add_parser("re-key", help="give a user who lost their home another public key")
    re_key.add_argument("name", type=user_name)
    re_key.add_argument(
        "key_file", type=Path, metavar="KEYFILE", help="what `messageu account recover NAME` printed; or PEM, or DER"
    )
    re_key.add_argument(
        "--shard-store", metavar="URL", help="the database that has the user's part, if it is not that of --store"
    )


def run(
    settings: argparse.Namespace,
    folder: Path,
    tables: OperatorsTables,
    say: Say,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
) -> int:
    """Run one of `COMMANDS`. Raises `SettingRejected`, and as `Database` does."""
    code = _run(settings, folder, tables, say, now_ms, random_bytes)
    _wake(folder)
    return code


def _wake(folder: Path) -> None:
    """Have a worker that runs take a turn now, in which it sees what has changed."""
    endpoint = link_endpoint(folder)
    if is_served(endpoint):
        # One that does not answer, or is of another version, sees it with its next turn.
        with contextlib.suppress(WorkerSilent, FrameUndecodable), contextlib.closing(AdminLink(endpoint, 1.0)) as link:
            link.ask(UsersChanged())


def _run(
    settings: argparse.Namespace,
    folder: Path,
    tables: OperatorsTables,
    say: Say,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
) -> int:
    as_json = settings.json
    match settings.command:
        case "invite":
            return invite(tables, settings, folder, say, now_ms, random_bytes)
        case "invitations":
            return invitations(tables, say, now_ms, as_json=as_json)
        case "invitation":
            return revoke(tables, settings.id, say, as_json=as_json)
        case "delete":
            return delete(tables, settings.name, say, as_json=as_json)
        case "free":
            if settings.name is None:
                return kept_names(tables, say, as_json=as_json)
            return free(tables, settings.name, say, as_json=as_json)
        case "unprove":
            return unprove(tables, settings.name, say, as_json=as_json)
        case _:
            return re_key(tables, settings.name, settings.key_file, say, now_ms, as_json=as_json)


def invite(
    tables: OperatorsTables,
    settings: argparse.Namespace,
    folder: Path,
    say: Say,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
) -> int:
    """Make an invitation, and print a link with it for each address. Raises `SettingRejected`."""
    uses, days = settings.uses, settings.days
    check_bounds((Bound("--uses", uses, 1, _MOST_USES), Bound("--days", days, 1, _MOST_DAYS)))
    # Before anything is made: without a certificate there is no link.
    addresses = admin_tls.addresses(settings.place, folder)
    if not addresses:
        raise SettingRejected("no address is known: start the gateway with --tls-listen once, or name HOST:PORT")
    invitation = random_bytes(INVITATION_SIZE)
    digest = sha256(invitation).digest()
    tables.make_invitation(InvitationMade(digest, uses, now_ms + days * _DAY_MS), now_ms)
    links = [address._replace(invitation=invitation).link for address in addresses]
    if settings.json:
        made = Invitation(digest, uses, now_ms + days * _DAY_MS)
        say(json.dumps({**_object(made, now_ms), "links": links}))
        return 0
    for link in links:
        say(link)
        if settings.qr:
            admin_tls.say_picture(link, say)
    return 0


def invitations(tables: OperatorsTables, say: Say, now_ms: int, *, as_json: bool) -> int:
    """One line for each: what names it, how many may register with it, until when."""
    if not as_json:
        say(f"{'id':<{_SHOWN}}  {'uses left':>9}  until (UTC)")
    for one in tables.invitations():
        over = ", over" if _is_over(one, now_ms) else ""
        sentence = f"{_named(one)}  {one.uses:>9}  {_end(one).strftime('%Y-%m-%d %H:%M')}{over}"
        show(say, _object(one, now_ms), sentence, as_json=as_json)
    return 0


def _object(one: Invitation, now_ms: int) -> dict[str, object]:
    return {
        "type": "invitation",
        "id": _named(one),
        "uses_left": one.uses,
        "until": _end(one).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "over": _is_over(one, now_ms),
    }


def _end(one: Invitation) -> datetime:
    return datetime.fromtimestamp(one.expires_at / 1000, UTC)


def _is_over(one: Invitation, now_ms: int) -> bool:
    return now_ms >= one.expires_at


def _named(invitation: Invitation) -> str:
    return invitation.digest.hex()[:_SHOWN]


def revoke(tables: OperatorsTables, wanted: str, say: Say, *, as_json: bool) -> int:
    """Let nobody register with an invitation any more."""
    found = [one for one in tables.invitations() if _named(one) == wanted.lower()]
    if not found:
        return refuse(say, f"There is no invitation {wanted!a}.", as_json=as_json)
    tables.revoke([one.digest for one in found])
    id_ = _named(found[0])
    sentence = f"Nobody can register with invitation {id_} any more."
    show(say, {"type": "invitation-revoked", "id": id_}, sentence, as_json=as_json)
    return 0


def delete(tables: OperatorsTables, name: str, say: Say, *, as_json: bool) -> int:
    """Mark a user: from now on they are none."""
    if not tables.delete(name):
        return refuse_unknown_user(say, name, as_json=as_json)
    show(
        say,
        {"type": "deleted", "name": name},
        f"{name} is no user any more. The storage worker deletes what there is of them, at its next start if it",
        f"does not run. Nobody else can register the name, unless you free it: `free {name}`.",
        as_json=as_json,
    )
    return 0


def kept_names(tables: OperatorsTables, say: Say, *, as_json: bool) -> int:
    """Print the names of deleted users that nobody can register, in quotes: a name may look like
    the remark behind it.
    """
    for kept in tables.kept_names():
        line = {"type": "kept-name", "name": kept.name, "being_deleted": kept.goes_on}
        show(say, line, f"{kept.name!r}{' (is being deleted)' if kept.goes_on else ''}", as_json=as_json)
    return 0


def free(tables: OperatorsTables, name: str, say: Say, *, as_json: bool) -> int:
    """Let others register a deleted user's name."""
    if tables.free(name):
        sentence = f"{name} may be registered again, by anybody. Contacts of the user before see a new key."
        show(say, {"type": "freed", "name": name}, sentence, as_json=as_json)
        return 0
    is_leaving = tables.is_leaving(name)
    if is_leaving is None:
        reason = f"Nobody named {name!r} was deleted."
    elif is_leaving:
        reason = f"{name} is still being deleted; try again when the storage worker has done it."
    else:
        reason = f"{name} is registered: `delete {name}` comes first."
    return refuse(say, reason, as_json=as_json)


def unprove(tables: OperatorsTables, name: str, say: Say, *, as_json: bool) -> int:
    """Clear the mark that a user has authenticated: programs of the published protocol may act for
    them again.
    """
    if not tables.unprove(name):
        return refuse_unknown_user(say, name, as_json=as_json)
    sentence = f"{name} may be used without proof again, until the next proof."
    show(say, {"type": "unproven", "name": name}, sentence, as_json=as_json)
    return 0


def re_key(tables: OperatorsTables, name: str, key_file: Path, say: Say, now_ms: int, *, as_json: bool) -> int:
    """Give a user another public key, under the same name and id. They count as seen today, so that
    the new home finds them. Raises `SettingRejected`.
    """
    key = read_key(key_file)
    if not tables.re_key(name, key, now_ms // _DAY_MS):
        return refuse_unknown_user(say, name, as_json=as_json)
    digest = sha256(key).hexdigest()
    show(
        say,
        {"type": "re-keyed", "name": name, "key_sha256": digest},
        f"{name} has the key with the SHA-256 {digest} now: `messageu account recover` in the new home",
        "completes it. Contacts are told that the key has changed.",
        "Connections of the old home, if somebody else has it, last until the gateway is started again.",
        as_json=as_json,
    )
    return 0


def read_key(path: Path) -> bytes:
    """The public key in a file: base64 over any number of lines, PEM, or DER. Raises
    `SettingRejected`.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingRejected(f"{path} can't be read: {error.strerror}") from error
    if len(raw) != PUBLIC_KEY_SIZE:
        try:
            text = raw.decode("ascii")
            pem = _PEM.search(text)
            raw = base64.b64decode("".join((pem[1] if pem else text).split()), validate=True)
        except (UnicodeDecodeError, binascii.Error) as error:
            raise SettingRejected(f"{path} has no public key: neither base64, nor PEM, nor DER") from error
    if numbers_of_der(raw) is None:
        raise SettingRejected(f"{path} has no public key that clients could use (RSA of 1024 bits, DER of 160 bytes)")
    return raw
