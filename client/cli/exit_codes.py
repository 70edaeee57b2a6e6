"""What the command's exit codes mean, and which failure has which.

Owns: the table of exit codes, and the short name of each failure that `--json` gives.
Promises: the number alone tells a script what to do next.

Source: docs/client.md, "Exit codes".
"""

from typing import Final

from client.errors import (
    AlreadyRegistered,
    CipherError,
    ClientError,
    FileUnreadable,
    FileUnsaved,
    HomeInUse,
    InvalidServerResponse,
    KeyChanged,
    KeysWithheld,
    NameUnknown,
    NoPublicKey,
    NoSharedKey,
    NotRegistered,
    OutboxFull,
    OutcomeUnknown,
    PassphraseNeeded,
    PassphraseWrong,
    PlainRefused,
    SafetyNumberDiffers,
    ServerAnsweredError,
    ServerUnreachable,
    StoreUnusable,
    WrongCertificate,
    WrongServer,
)
from common.errors import FileUnwritten, InfoFileError, MessageUError, SettingRejected, ValueRejected
from common.values import RefusalReason

DONE: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
NO_SERVER: Final = 3
UNTRUSTED: Final = 4
OVER_LIMIT: Final = 5
SERVER_REFUSED: Final = 6
NO_SUCH_USER: Final = 7
NOT_REGISTERED: Final = 8
UNREADABLE: Final = 9
WRONG_CERTIFICATE: Final = 10
NOT_ADMITTED: Final = 11
WAIT_OVER: Final = 124
INTERRUPTED: Final = 130

MEANINGS: Final = {
    DONE: "done; an empty mailbox too",
    UNEXPECTED: "something unexpected: the store, the disk, another process, a bug",
    USAGE: "wrong usage: an option, a name, a setting or a file that can't be used",
    NO_SERVER: "no server, or no answer; if the account signs in, what it sends is kept and sent later",
    UNTRUSTED: "an untrusted or changed key, or not the server that this account belongs to",
    OVER_LIMIT: "over a quota or rate: too large, mailbox or storage full, too fast",
    SERVER_REFUSED: "the server answered with an error (9000), or with an invalid response",
    NO_SUCH_USER: "no such user",
    NOT_REGISTERED: "this home has no identity yet",
    UNREADABLE: "something that was received could not be decrypted; the rest was shown",
    WRONG_CERTIFICATE: "the certificate is not the pinned one, or the address lacks the known pin; nothing was sent",
    NOT_ADMITTED: "not registered: an invitation is needed, or is no longer valid, or registration is closed",
    WAIT_OVER: "the wait ended, and nothing had arrived",
    INTERRUPTED: "Ctrl-C",
}
_REASONS: Final = {
    RefusalReason.TOO_LARGE: OVER_LIMIT,
    RefusalReason.MAILBOX_FULL: OVER_LIMIT,
    RefusalReason.SENDER_SHARE: OVER_LIMIT,
    RefusalReason.TOO_FAST: OVER_LIMIT,
    RefusalReason.STORAGE_FULL: OVER_LIMIT,
    RefusalReason.RECIPIENT_UNKNOWN: NO_SUCH_USER,
    RefusalReason.INVITATION: NOT_ADMITTED,
    RefusalReason.REGISTRATION_CLOSED: NOT_ADMITTED,
}
_FAILURES: Final[tuple[tuple[type[MessageUError], int, str], ...]] = (
    (SettingRejected, USAGE, "usage"),
    (ValueRejected, USAGE, "usage"),
    (FileUnwritten, UNEXPECTED, "file-unwritten"),
    (InfoFileError, USAGE, "file-unusable"),
    (FileUnreadable, USAGE, "file-unreadable"),
    (AlreadyRegistered, USAGE, "already-registered"),
    (PassphraseNeeded, USAGE, "passphrase-needed"),
    (PassphraseWrong, USAGE, "passphrase-wrong"),
    (ServerUnreachable, NO_SERVER, "no-server"),
    (OutcomeUnknown, NO_SERVER, "no-answer"),
    (KeyChanged, UNTRUSTED, "key-changed"),
    (KeysWithheld, UNTRUSTED, "keys-withheld"),
    (SafetyNumberDiffers, UNTRUSTED, "safety-number-differs"),
    (WrongCertificate, WRONG_CERTIFICATE, "wrong-certificate"),
    (PlainRefused, WRONG_CERTIFICATE, "plain-refused"),
    (WrongServer, UNTRUSTED, "wrong-server"),
    (NoPublicKey, UNTRUSTED, "no-public-key"),
    (NoSharedKey, UNTRUSTED, "no-shared-key"),
    (CipherError, UNTRUSTED, "unusable-key"),
    (OutboxFull, OVER_LIMIT, "outbox-full"),
    (ServerAnsweredError, SERVER_REFUSED, "refused"),
    (InvalidServerResponse, SERVER_REFUSED, "nonsense"),
    (NameUnknown, NO_SUCH_USER, "no-such-user"),
    (NotRegistered, NOT_REGISTERED, "not-registered"),
    (FileUnsaved, UNEXPECTED, "file-unsaved"),
    (HomeInUse, UNEXPECTED, "home-in-use"),
    (StoreUnusable, UNEXPECTED, "store-broken"),
    (ClientError, UNEXPECTED, "unexpected"),
    (MessageUError, UNEXPECTED, "unexpected"),
)


def names() -> dict[int, list[str]]:
    """Return the short names of the failures that each exit code may mean."""
    found: dict[int, list[str]] = {code: [] for code in MEANINGS}
    for _, code, name in _FAILURES:
        found[code] += [name] if name not in found[code] else []
    for code in sorted(set(_REASONS.values())):
        found[code].append("refused")
    return found


def of_failure(error: MessageUError) -> tuple[int, str]:
    """Return a failure's exit code and short name."""
    code, name = next((code, name) for kind, code, name in _FAILURES if isinstance(error, kind))
    if isinstance(error, ServerAnsweredError) and error.reason is not None:
        code = _REASONS.get(RefusalReason(error.reason), code) if error.reason in set(RefusalReason) else code
    return code, name
