"""Keys of cipher suite 1: this account's, which are published, and those that others have shown.

Owns: requests 644 and 645, when they are sent, and what becomes of their answers.
Promises: a private key is on disk before its public half leaves. Whoever has shown keys once is
known by them from then on; another identity replaces it only with the user's consent. An answer is
used only in the transaction that keeps what it changed.
Exposure: bundles come from a server that may lie; `client.suite1.bundles` checks them, and
`client.trust.trust` says what a new identity means.

    what the server answers to a claim    never shown any keys    known by keys
    ───────────────────────────────────   ─────────────────────   ───────────────────────────────
    a bundle of the known identity        –                       used
    a bundle, none is known               pinned, and used        –
    the same of whom the user has         pinned; `KeyChanged`    the newest is; `KeyChanged`
    compared by number 1                  until they decide       until they decide
    a bundle of another identity          –                       noted; `KeyChanged`
    a bundle that fails a check           `KeysWithheld`          `KeysWithheld`
    there are no keys                     the published suite     `KeysWithheld`: nothing is sent

Source: docs/suite-1.md; docs/client-protocol.md, "644" and "645".
"""

from collections.abc import Callable
from typing import Final

from client.connection.server_errors import refused, unexpected
from client.connection.server_link import REPLY_TIMEOUT, ServerLink
from client.crypto.ciphers import RandomBytes
from client.errors import CipherError, KeysWithheld, OutcomeUnknown, StoreUnusable
from client.store.home_store import Store
from client.store.own_keys import OwnKeysRow
from client.store.settings import RESTORED
from client.suite1 import bundles, identity_numbers, own_keys, peers
from client.suite1.own_keys import OwnKeys
from client.suite1.payloads import About, CouldNotOpen, encoded
from client.suite1.peers import Peer
from client.suite1.values import BundleFailure, BundleRefused, OpenFailure
from client.trust.contacts import Contacts
from client.trust.trust import Trust
from common import fail_points
from common.client_protocol.requests import ClaimKeyRequest, PublishKeysRequest, RequestCode
from common.client_protocol.responses import ErrorResponse, KeyClaimedResponse, KeysKeptResponse
from common.fail_points import FailPoint
from common.values import TOKEN_SIZE, ClientId, RefusalReason, token

ASK_AGAIN_AFTER: Final = 60_000
"""Milliseconds until the server is asked once more whether somebody has keys of this suite."""
MOST_TOLD: Final = 100
"""Users who are told by a message that this home began anew; the others learn it with the next one.
"""
STORE_INODE: Final = "store_inode"
"""The setting that holds the number of the store's file. A copy has another one."""
PROMISED: Final = "fingerprint:"
"""The setting that holds the fingerprint of a link, behind it the id in hex, until that user has
shown keys.
"""


class SuiteKeys:
    """The keys of one home, and those of its peers."""

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        trust: Trust,
        now: Callable[[], int],
        random_bytes: RandomBytes,
        tell: Callable[[str], None],
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._trust = trust
        self._now = now
        self._random_bytes = random_bytes
        self._tell = tell
        self._without: dict[ClientId, int] = {}
        """Who had no keys, and when that was answered."""

    # --- our own
    # ---------------------------------------------------------------------------------------------

    def own(self) -> OwnKeys | None:
        """Return this account's keys; None before the first sign-in to a server that has this
        suite. Raises `StoreUnusable`.
        """
        row = self._own_row()
        return None if row is None else OwnKeys.from_bytes(row.state)

    def keep_own(self, keys: OwnKeys) -> None:
        """Within a transaction: keep this account's keys, after a message has changed them."""
        row = self._own_row()
        assert row is not None
        self._store.own_keys.put(row._replace(state=keys.to_bytes()))

    def publish(self, link: ServerLink, me: ClientId, server_id: bytes, generation: int) -> None:
        """Publish what is due, on a connection that has just signed in. What the server refuses is
        published at the next sign-in. Raises `OutcomeUnknown`.
        """
        if self._is_old_copy():
            self._begin_anew()
        publication = self._publication(me, server_id, generation)
        if publication is None:
            return
        fail_points.reach(FailPoint.CLIENT_KEYS_MADE)
        forget = bool(publication.flags & own_keys.FORGET)
        request = PublishKeysRequest(me, forget, publication.bundle, b"".join(publication.one_time_keys))
        answer = link.exchange(request, REPLY_TIMEOUT)
        if answer is None:
            raise OutcomeUnknown(
                f"The server at {link.address.place} did not say whether it has our keys.", "Try again a little later."
            )
        fail_points.reach(FailPoint.CLIENT_KEYS_PUBLISHED)
        if isinstance(answer, KeysKeptResponse):
            with self._store.database.transaction():
                row = self._own_row()
                assert row is not None
                keys = OwnKeys.from_bytes(row.state)
                # Another process of this home may have replaced the keys meanwhile: those of now
                # are not confirmed by this.
                if keys.pending == publication:
                    keys = own_keys.published(keys, answer.kept, self._now())
                    self._store.own_keys.put(OwnKeysRow(me, keys.to_bytes(), server_id, generation))

    def are_replaced(self) -> bool:
        """Whether the server has other keys of ours than those of now, as far as is known."""
        keys = self.own()
        return keys is not None and (keys.forget or keys.outer[-1].published_at is None)

    def publish_replaced(self, link: ServerLink, me: ClientId, server_id: bytes, generation: int) -> None:
        """Publish now what a failure has replaced. All else waits for the next sign-in: else
        whoever begins sessions would have one-time keys made without end. Raises `OutcomeUnknown`.
        """
        if self.are_replaced():
            self.publish(link, me, server_id, generation)

    def _publication(self, me: ClientId, server_id: bytes, generation: int) -> own_keys.Publication | None:
        """Make what is to be published, and keep its private halves; None: nothing is due."""
        now = self._now()
        with self._store.database.transaction():
            row = self._own_row()
            if row is None:
                keys = own_keys.new_keys(now, self._random_bytes)
            else:
                keys = OwnKeys.from_bytes(row.state)
                if row.server_id is not None and (row.client_id, row.server_id, row.generation) != (
                    me, server_id, generation,
                ):  # fmt: skip
                    # Another server, or an earlier state of it, which may give out a key twice.
                    keys = keys._replace(kept=None, forget=True)
            if not own_keys.publication_due(keys, now):
                return None
            keys, publication = own_keys.prepare_publication(keys, me, now, self._random_bytes)
            before = row or OwnKeysRow(me, b"")
            self._store.own_keys.put(before._replace(client_id=me, state=keys.to_bytes()))
        return publication

    def _is_old_copy(self) -> bool:
        """Whether this home was copied, or restored from a copy: then keys of it may have been used
        since.
        """
        present = str(self._store.inode)
        known = self._store.settings.get(STORE_INODE)
        if known is None:
            self._store.settings.put(STORE_INODE, present)
        return self._store.settings.get(RESTORED) is not None or known not in {None, present}

    def _begin_anew(self) -> None:
        """Use no key again that the home may have used since it was copied: new sessions with
        everybody, who are told by that, and new keys of our own.
        """
        now, told = self._now(), 0
        with self._store.database.transaction():
            row, identity = self._own_row(), None
            if row is not None:
                keys = own_keys.replaced(OwnKeys.from_bytes(row.state), now, self._random_bytes)
                self._store.own_keys.put(row._replace(state=keys.to_bytes()))
                identity = keys.identity
            for peer in self._store.peers.all():
                # Notes to oneself have no session.
                if peer.state is not None and peer.identity != identity:
                    state = peers.restored(Peer.from_bytes(peer.state))
                    self._store.peers.put_state(peer.client_id, state.to_bytes())
                    if told < MOST_TOLD:
                        told += 1
                        put_request_to_repeat(self._store, peer.client_id, (), now, self._random_bytes)
            self._store.database.run("DELETE FROM setting WHERE name = ?", RESTORED)
            self._store.database.run(
                "INSERT OR REPLACE INTO setting VALUES (?, ?)", STORE_INODE, str(self._store.inode)
            )
        if told:
            self._tell(
                "This home was copied, or restored from a copy: its keys may have been used since. New ones are made, "
                "and those with whom you write under the modern cipher suite are told so."
            )

    def renew_after(self, failure: OpenFailure) -> None:
        """Within a transaction: a message was not opened. If that shows that others use keys of
        ours that this home does not have, everything that is published is replaced at the next
        sign-in.
        """
        row = self._own_row()
        if row is None:
            return
        keys = OwnKeys.from_bytes(row.state)
        now = self._now()
        if own_keys.replacement_due(keys, failure, now):
            keys = own_keys.replaced(keys, now, self._random_bytes)
            self._store.own_keys.put(row._replace(state=keys.to_bytes()))

    def drop_expired(self) -> None:
        """Forget outer keys whose time is over. Only when the mailbox was fetched until it was
        empty, and opened.
        """
        keys = self.own()
        if keys is None or own_keys.without_expired(keys, self._now()) == keys:
            return
        with self._store.database.transaction():
            keys = self.own()
            assert keys is not None
            self.keep_own(own_keys.without_expired(keys, self._now()))

    def _own_row(self) -> OwnKeysRow | None:
        try:
            return self._store.own_keys.get()
        except CipherError as error:
            raise StoreUnusable(
                "This account's keys of the modern cipher suite were altered or are damaged.", "Restore an export."
            ) from error

    # --- those of others
    # ---------------------------------------------------------------------------------------------

    def knows(self, client_id: ClientId) -> bool:
        """Whether somebody has ever shown keys, or is to show those of a link: then the published
        suite is out of the question.
        """
        return self._store.peers.is_known(client_id) or self._promised(client_id) is not None

    def may_use(self, client_id: ClientId) -> bool:
        """Whether somebody may have keys who is not known by any: they were not asked for just now,
        and it is not this account itself.
        """
        asked = self._without.get(client_id)
        is_fresh = asked is not None and 0 <= self._now() - asked < ASK_AGAIN_AFTER
        return not is_fresh and not self._store.settings.is_own(client_id)

    def claim(self, link: ServerLink, me: ClientId, client_id: ClientId) -> bool:
        """Claim keys of somebody: pin them, take over a newer outer key, begin a session if one is
        due. Returns whether there were any. Our own are asked of nobody.

        Raises `KeysWithheld`, `KeyChanged`, and what `ServerLink.ask` raises.
        """
        if client_id == me:
            return self._meet_oneself(me)
        answer = link.ask(ClaimKeyRequest(me, client_id))
        if isinstance(answer, ErrorResponse):
            if answer.reason != RefusalReason.NO_KEYS:
                raise refused(RequestCode.CLAIM_KEY, answer)
            if self.knows(client_id):
                raise self._withheld(client_id, "the server says that there are none")
            self._without[client_id] = self._now()
            return False
        if not isinstance(answer, KeyClaimedResponse):
            raise unexpected(answer)
        fail_points.reach(FailPoint.CLIENT_KEY_CLAIMED)
        try:
            with self._store.database.transaction():
                is_new = self._take(client_id, answer)
        except BundleRefused as error:
            raise self._withheld(client_id, str(error)) from error
        if is_new:
            self._store.settings.drop(f"{PROMISED}{client_id.hex()}")
            self._trust.explain(client_id)
        self.require_decided(client_id)
        return True

    def require_decided(self, client_id: ClientId) -> None:
        """Raise `KeyChanged` if the user has to decide about somebody's keys first."""
        row = self._store.peers.of_id(client_id)
        if row is not None and row.offered is not None:
            raise self._trust.changed_keys(client_id)

    def _take(self, client_id: ClientId, answer: KeyClaimedResponse) -> bool:
        """Within a transaction: take over a claim; return whether its owner is new. Another
        identity is only noted. Raises `BundleRefused`.
        """
        now = self._now()
        row = self._store.peers.of_id(client_id)
        peer = None if row is None or row.state is None else Peer.from_bytes(row.state)
        claim = bundles.checked_claim(answer.bundle, answer.one_time_key, client_id, now)
        identity = claim.bundle.identity
        if peer is not None and peer.identity == identity:
            # Of another identity it would be no older one, but a change.
            bundles.checked_bundle(answer.bundle, client_id, now, identity, peer.outer)
        if row is None:
            promised = self._promised(client_id)
            if promised not in {None, identity_numbers.fingerprint(client_id, identity).hex()}:
                raise BundleRefused(BundleFailure.IDENTITY_CHANGED)
            self._store.peers.add(client_id, identity, now, verified=promised is not None)
            if promised is None and self._trust.has_compared_old_key(client_id):
                self._store.peers.offer(client_id, identity, now)
            # What came before its sender's keys can be opened now.
            self._store.inbox.call_back(client_id)
        elif row.is_undecided:
            if row.identity != identity:
                # Nothing was sent to the one before. The user decides about the newest.
                self._store.peers.offer(client_id, identity, now)
                self._store.peers.accept(client_id, now)
                self._store.peers.offer(client_id, identity, now)
                self._store.inbox.call_back(client_id)
                peer = None
        elif row.identity != identity:
            self._store.peers.offer(client_id, identity, now)
            return False
        else:
            self._store.peers.offer(client_id, None, None)
        keys = self.own()
        assert keys is not None
        claimed = peers.claimed(keys, peer or peers.met(claim.bundle), claim, now)
        self._store.peers.put_state(client_id, claimed.to_bytes())
        return row is None

    def _meet_oneself(self, me: ClientId) -> bool:
        """Know this account by its own keys, for notes; return whether it has any."""
        with self._store.database.transaction():
            keys, row = self.own(), self._store.peers.of_id(me)
            if keys is None:
                return False
            if self._store.peers.add(me, keys.identity, self._now(), verified=True):
                self._store.inbox.call_back(me)
            if row is None or row.state is None:
                self._store.peers.put_state(me, peers.oneself(keys).to_bytes())
        return True

    def peer(self, client_id: ClientId) -> Peer | None:
        """Return the state of the sessions with somebody; None if there is none yet, or it is
        damaged.
        """
        row = self._store.peers.of_id(client_id)
        return None if row is None or row.state is None else Peer.from_bytes(row.state)

    def expect(self, client_id: ClientId, fingerprint: bytes) -> None:
        """Believe, of somebody who is not known by keys, only those with this fingerprint."""
        if not self._store.peers.is_known(client_id):
            self._store.settings.put(f"{PROMISED}{client_id.hex()}", fingerprint.hex())

    def _promised(self, client_id: ClientId) -> str | None:
        return self._store.settings.get(f"{PROMISED}{client_id.hex()}")

    def _withheld(self, client_id: ClientId, why: str) -> KeysWithheld:
        shown = self._contacts.shown_id(client_id)
        return KeysWithheld(
            f"No keys of {shown} can be had from the server: {why}. Nothing was sent: {shown} uses the modern cipher "
            "suite, and nothing of the published one goes there any more.",
            "Try again later; if it stays so, ask the server's operator.",
        )


def put_request_to_repeat(
    store: Store, client_id: ClientId, tokens: tuple[bytes, ...], now: int, random_bytes: RandomBytes
) -> None:
    """Within a transaction: tell somebody that what came under these tokens could not be opened,
    and, with the session that this begins, that their session is not used any more.
    """
    name = token(random_bytes(TOKEN_SIZE))
    store.outbox.insert_payload(client_id, encoded(CouldNotOpen(About(name, now), tokens)), name, now)
    if tokens:
        store.peers.keep_request(client_id, name, tokens)
