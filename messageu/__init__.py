"""MessageU as a library: `from messageu import Messenger`.

Owns: the names that other programs may use.
Promises: they stay, with what they take and give, as docs/compatibility.md says; everything else is
the project's own. They are imported when the first of them is asked for: this package is loaded
with every program of the project, and those start fast.
Exposure: none.

Source: docs/library.md.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from messageu.public import *

__all__ = [
    "AlreadyRegistered",
    "AsyncMessages",
    "AsyncMessenger",
    "CipherError",
    "ClientError",
    "Contact",
    "ConversationSummary",
    "Failed",
    "FetchedKey",
    "FileUnreadable",
    "FileUnsaved",
    "FileUnwritten",
    "HomeInUse",
    "Identity",
    "InfoFileError",
    "InvalidServerResponse",
    "KeyChanged",
    "KeyReceived",
    "KeyRequested",
    "KeysWithheld",
    "MessageUError",
    "Messages",
    "Messenger",
    "NameUnknown",
    "NoPublicKey",
    "NoSharedKey",
    "NotRegistered",
    "OutboxFull",
    "OutcomeUnknown",
    "PassphraseNeeded",
    "PassphraseWrong",
    "PlainRefused",
    "Received",
    "Renewed",
    "Resent",
    "SafetyNumberDiffers",
    "SavedFile",
    "Sent",
    "SentMessage",
    "ServerAddress",
    "ServerAnsweredError",
    "ServerUnreachable",
    "SettingRejected",
    "Silenced",
    "StoreOfLaterVersion",
    "StoreUnusable",
    "StoreUnwritable",
    "Text",
    "UnknownKind",
    "Unreadable",
    "ValueRejected",
    "Verification",
    "WrongCertificate",
    "WrongServer",
]


def __getattr__(name: str) -> object:
    """Give a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from messageu import public  # noqa: PLC0415 - as late as possible

    return getattr(public, name)


def __dir__() -> list[str]:
    return sorted(__all__)
