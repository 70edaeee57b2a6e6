"""Every exception of the client.

Owns: the client's exceptions, except for two of one module each: `OutputRefused`
(client/cli/output.py) and `LaterExport` (client/crypto/sealed_storage.py). The roots that the
client shares with the servers' programs are in common/errors.py.
Promises: the client and the library raise these and the shared ones on purpose, and nothing else.
Exposure: sentences are shown to people; whoever puts a stranger's name into one sanitizes it first.

    MessageUError             the root, in common/errors.py
    └── ClientError               what the user is told; `advice` is the next step
        ├── ServerUnreachable         no connection
        ├── OutcomeUnknown            the connection broke or timed out before the answer
        ├── ServerAnsweredError       9000 or 9001
        ├── InvalidServerResponse     an answer that can't be parsed
        ├── WrongServer               the server is not the one this identity proved itself to
        │   ├── WrongCertificate          its certificate is not the pinned one
        │   └── PlainRefused              its pin is known, and the address names none
        ├── NotRegistered             there is no identity in this home
        ├── AlreadyRegistered         there is one, and it is not replaced
        ├── NameUnknown               nobody of that name; carries the nearest names
        ├── KeyChanged                another key or account is named for somebody known
        ├── KeysWithheld              the server gives no good keys of somebody who has shown some
        ├── SafetyNumberDiffers       the number the other side sees is not ours
        ├── NoPublicKey               the contact's public key was not fetched yet
        ├── NoSharedKey               no symmetric key is shared with the contact
        ├── CipherError               decryption failed: wrong key or damaged content
        ├── FileUnreadable            a file to send can't be read
        ├── FileUnsaved               a received file can't be written; its message is kept
        ├── OutboxFull                too many messages wait to be sent
        ├── HomeInUse                 another process receives for this home
        ├── StoreUnusable             the home's store.db can't be used
        │   ├── StoreOfLaterVersion       a later version of this program wrote it
        │   └── StoreUnwritable           it can be read, and not written
        ├── PassphraseNeeded          the home is locked, and there is nobody to ask for its passphrase
        └── PassphraseWrong           another passphrase; nothing was changed

Source: docs/library.md, "Failures"; docs/client.md, "Exit codes".
"""

from common.errors import MessageUError


class ClientError(MessageUError):
    """An error for the user. `str(error)` is the sentence, `advice` is the next step."""

    kept: bool = False
    """Whether the message that could not be sent is in the outbox, and will be sent later."""

    def __init__(self, sentence: str, advice: str = "") -> None:
        super().__init__(sentence)
        self.advice = advice


class ServerUnreachable(ClientError):
    """There is no connection to the server."""


class OutcomeUnknown(ClientError):
    """The connection broke or timed out before the answer: whether the request was done is
    unknown.
    """


class ServerAnsweredError(ClientError):
    """The server answered 9000 or 9001: the request was not done. `reason` is 9001's number, None
    after 9000.
    """

    def __init__(self, sentence: str, advice: str = "", reason: int | None = None, retry_after: int = 0) -> None:
        super().__init__(sentence, advice)
        self.reason = reason
        self.retry_after = retry_after


class InvalidServerResponse(ClientError):
    """The server's answer can't be parsed or does not fit the request."""


class WrongServer(ClientError):
    """The server is not the one this identity proved itself to, or refuses to be."""


class WrongCertificate(WrongServer):
    """The server's certificate is not the pinned one; nothing was sent. `expected` and
    `presented` are pins as a link has them.
    """

    def __init__(self, sentence: str, advice: str = "", *, expected: tuple[str, ...] = (), presented: str = "") -> None:
        super().__init__(sentence, advice)
        self.expected = expected
        self.presented = presented


class PlainRefused(WrongServer):
    """This home knows its server's pin, and the address names none: nothing is sent unprotected."""


class NotRegistered(ClientError):
    """There is no identity in this home."""


class AlreadyRegistered(ClientError):
    """There is an identity in this home and it is not replaced."""


class NameUnknown(ClientError):
    """The server does not know that name. `nearest` holds similar names, best first."""

    def __init__(self, sentence: str, advice: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(sentence, advice)
        self.nearest = nearest


class KeyChanged(ClientError):
    """The server gives another key, or another account, for a known contact, or keys of the modern
    cipher suite for one who was verified by the key of the old one. Nothing was sent.
    `met` and `since`: when the old key was verified or first seen, and when the new one was first
    named, in Unix milliseconds.
    """

    def __init__(
        self, sentence: str, advice: str, *, name: str, old_number: str, new_number: str, met: int, since: int
    ) -> None:
        super().__init__(sentence, advice)
        self.name = name
        self.old_number = old_number
        self.new_number = new_number
        self.met = met
        self.since = since


class KeysWithheld(ClientError):
    """The server gives no keys of the modern cipher suite, or none that pass the checks, for
    somebody who has shown some. Nothing was sent.
    """


class SafetyNumberDiffers(ClientError):
    """The number that the other side sees is not ours."""


class NoPublicKey(ClientError):
    """The contact's public key was not fetched yet."""


class NoSharedKey(ClientError):
    """No symmetric key is shared with the contact."""


class CipherError(ClientError):
    """Decryption failed: another key, or damaged content."""


class FileUnreadable(ClientError):
    """A file to send can't be read."""


class FileUnsaved(ClientError):
    """A received file can't be written where it should go; its message is kept."""


class OutboxFull(ClientError):
    """Too many messages wait to be sent; this one was not accepted."""


class HomeInUse(ClientError):
    """Another process receives for this home."""


class StoreUnusable(ClientError):
    """The home's store.db can't be used."""


class StoreOfLaterVersion(StoreUnusable):
    """The store.db was written by a later version of this program."""


class StoreUnwritable(StoreUnusable):
    """The home's store.db can't be written: the disk is full or read-only, or only another user may
    write there.

    Its content can still be read.
    """


class PassphraseNeeded(ClientError):
    """The home is locked, and no passphrase is available."""


class PassphraseWrong(ClientError):
    """The passphrase is wrong. Nothing was changed."""
