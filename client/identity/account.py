"""This home's identity.

Owns: the identity in memory, and the passphrase that it is read with.
Promises: it is read once; a private key is written under the passphrase if the home has one.
Exposure: holds the private key.
"""

from pathlib import Path

from client.crypto.ciphers import RandomBytes
from client.identity import identity_files
from client.identity.identity_files import Ask, Identity, Protection
from client.store.home_store import Store
from common.values import ClientId, PublicKey, Username


class Account:
    """The user of one home."""

    def __init__(
        self, home: Path, store: Store, passphrase: Ask, random_bytes: RandomBytes, identity: Identity | None = None
    ) -> None:
        self.home = home
        self.passphrase = passphrase
        self._store = store
        self._random_bytes = random_bytes
        self.loaded = identity

    def is_registered(self) -> bool:
        """Whether there is an identity file in this home, usable or not."""
        return identity_files.exists(self.home)

    def identity(self) -> Identity:
        """Return this home's user. Raises `NotRegistered`, `InfoFileError`, `PassphraseNeeded`,
        `PassphraseWrong`.
        """
        if self.loaded is None:
            identity = identity_files.load(self.home, self.passphrase)
            # If the home can only be read, the next process that can write completes it.
            if self._store.unwritable is None:
                identity_files.complete(self.home, identity)
            self.loaded = identity
        return self.loaded

    def identity_or_none(self) -> Identity | None:
        """Return this home's user, or None before the registration. Raises what
        `identity` raises.
        """
        return self.identity() if self.loaded is not None or self.is_registered() else None

    def registered(self, identity: Identity) -> None:
        """Set the identity, after a registration."""
        self.loaded = identity

    def me(self) -> tuple[ClientId, PublicKey]:
        """Return our id and public key. Raises what `identity` raises."""
        identity = self.identity()
        return identity.client_id, identity.private_key.public_key()

    def pending_name(self) -> Username | None:
        """Return the name whose registration was begun and not completed. Raises
        `InfoFileError`.
        """
        return identity_files.pending_name(self.home)

    def protection(self) -> Protection | None:
        """Return what a private key is encrypted with."""
        return Protection(self.passphrase(), self._random_bytes) if self._store.sealing.has_passphrase else None
