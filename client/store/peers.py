"""Users who have shown keys of cipher suite 1, and the state of the sessions with them.

Owns: the table `peer`.
Promises: whoever is in `peer` stays there: nothing of the published suite is sent to them again. An
identity is replaced only by `accept`. The state changes only within a transaction, together with
what was sealed or opened by it.
Exposure: holds the ratchets' secrets.

Source: docs/suite-1.md; docs/decisions/0030-a-ratchet-in-the-store.md.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from client.errors import CipherError
from client.store.database import Database
from client.store.sealing import PEER_STATE, Sealing
from client.suite1.payloads import MAX_IDS
from client.suite1.values import Identity
from common.values import ClientId

_COLUMNS: Final = (
    "number, client_id, ed25519, curve25519, since, after, verified_at, offered_ed25519, offered_curve25519, "
    "offered_since, told, asked_at, state"
)
REQUESTS: Final = "asked:"
"""The setting that holds the newest requests to a user to send something again, behind it the id in
hex. A line for each, oldest first: its token, and those that it asks for, in hex.
"""
_MOST_REQUESTS: Final = 7
"""Of one user: so the setting is below 65,536 characters."""
_HEX: Final = frozenset("0123456789abcdef")
_ID_DIGITS: Final = 32
_LONGEST_LINE: Final = (1 + MAX_IDS) * _ID_DIGITS


class PeerRow(NamedTuple):
    """A user who has shown keys of suite 1. Times are Unix milliseconds by our clock."""

    number: int
    client_id: ClientId
    identity: Identity
    since: int
    after: int
    """The number of the newest message that had been received then. Later ones under the published
    suite are not believed.
    """
    verified_at: int | None
    offered: Identity | None
    """What was shown since, if it is something else; the identity itself if the user has not
    decided about it yet.
    """
    offered_since: int | None
    told: bool
    """Whether the user was told of the change of the safety number."""
    asked_at: int | None
    """When they were asked last to send again what could not be opened; None: they were not, or
    have answered since.
    """
    state: bytes | None
    """As `client.suite1` writes it; None: there is none yet, or it was altered."""

    @property
    def is_undecided(self) -> bool:
        """Whether the user compared an older key of theirs, and has to decide about this one."""
        return self.offered == self.identity


class PeerTable:
    """The users who have shown keys of suite 1."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def of_id(self, client_id: ClientId) -> PeerRow | None:
        """Return what is known of a user."""
        # The columns are our own text, here and below.
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM peer WHERE client_id = ?", client_id)  # noqa: S608
        return self._row(rows[0]) if rows else None

    def is_known(self, client_id: ClientId) -> bool:
        """Whether a user has ever shown keys."""
        return bool(self._database.rows("SELECT 1 FROM peer WHERE client_id = ?", client_id))

    def all(self) -> list[PeerRow]:
        """Return everybody who has shown keys."""
        return [self._row(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM peer ORDER BY number")]  # noqa: S608

    def changed(self) -> list[ClientId]:
        """Return those about whose identity the user has to decide."""
        rows = self._database.rows("SELECT client_id FROM peer WHERE offered_ed25519 IS NOT NULL ORDER BY number")
        return [client_id for (client_id,) in rows]

    def add(self, client_id: ClientId, identity: Identity, now: int, *, verified: bool = False) -> bool:
        """Within a transaction: keep the identity that a user has shown; return whether it is the
        first.
        """
        self._database.run(
            "INSERT INTO peer (client_id, ed25519, curve25519, since, verified_at, told, after) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT coalesce(max(number), 0) FROM inbox)) "
            "ON CONFLICT (client_id) DO NOTHING",
            client_id,
            *identity,
            now,
            now if verified else None,
            int(verified),
        )
        return bool(self._database.changed())

    def put_state(self, client_id: ClientId, state: bytes) -> None:
        """Within a transaction: keep the state of the sessions with a user."""
        # What it replaces are used keys: nothing of them stays in the file.
        self._database.overwrite_freed()
        number = self._database.value("SELECT number FROM peer WHERE client_id = ?", client_id)
        self._database.run(
            "UPDATE peer SET state = ? WHERE number = ?",
            self._sealing.seal(PEER_STATE, state, number, client_id),
            number,
        )

    def offer(self, client_id: ClientId, offered: Identity | None, now: int | None) -> None:
        """Within a transaction: note an identity about which the user has to decide; None: there is
        nothing to decide.
        """
        ed25519, curve25519 = offered or (None, None)
        self._database.run(
            "UPDATE peer SET offered_ed25519 = ?1, offered_curve25519 = ?2, offered_since = ?3 "
            "WHERE client_id = ?4 AND (offered_ed25519 IS NOT ?1 OR offered_curve25519 IS NOT ?2)",
            ed25519,
            curve25519,
            None if offered is None else now,
            client_id,
        )

    def accept(self, client_id: ClientId, now: int) -> bool:
        """Within a transaction: know a user by the identity that was offered, not verified; return
        whether there was one. The sessions with another identity are gone.
        """
        self._database.overwrite_freed()
        # Every column on the right is as it was before.
        self._database.run(
            "UPDATE peer SET ed25519 = offered_ed25519, curve25519 = offered_curve25519, since = ?, "
            "state = CASE WHEN (ed25519, curve25519) = (offered_ed25519, offered_curve25519) THEN state END, "
            "verified_at = NULL, offered_ed25519 = NULL, offered_curve25519 = NULL, offered_since = NULL, "
            "told = 1 WHERE client_id = ? AND offered_ed25519 IS NOT NULL",
            now,
            client_id,
        )
        return bool(self._database.changed())

    def verify(self, client_id: ClientId, identity: Identity, now: int) -> bool:
        """Note that the safety number was compared, if the identity is still this one; return
        whether it is.
        """
        with self._database.transaction():
            self._database.run(
                "UPDATE peer SET verified_at = ?, told = 1 WHERE client_id = ? AND ed25519 = ? AND curve25519 = ?",
                now,
                client_id,
                *identity,
            )
            return bool(self._database.changed())

    def was_told(self, client_id: ClientId) -> None:
        """Note that the user knows of the new safety number."""
        with self._database.transaction():
            self._database.run("UPDATE peer SET told = 1 WHERE client_id = ?", client_id)

    def was_asked(self, client_id: ClientId, now: int) -> None:
        """Within a transaction: note that a user is asked to send again what was not opened."""
        self._database.run("UPDATE peer SET asked_at = ? WHERE client_id = ?", now, client_id)

    def has_answered(self, client_id: ClientId) -> None:
        """Within a transaction: note that something of a user's was opened, so that they may be
        asked at once when something is not.
        """
        self._database.run("UPDATE peer SET asked_at = NULL WHERE client_id = ? AND asked_at IS NOT NULL", client_id)

    def keep_request(self, client_id: ClientId, token: bytes, asked: Iterable[bytes]) -> None:
        """Within a transaction: note what a request to a user asks for."""
        line = "".join(one.hex() for one in (token, *asked))
        self._put_requests(client_id, [*self._requests(client_id), line][-_MOST_REQUESTS:])

    def take_requests(self, client_id: ClientId, tokens: Collection[bytes]) -> list[bytes]:
        """Within a transaction: forget the requests with these tokens, which a user could not open;
        return what they asked for. A request is in one answer: else two homes, each of which asks
        for what the other one does not know, would go on for ever.
        """
        wanted = {token.hex() for token in tokens}
        found: list[str] = []
        others: list[str] = []
        for line in self._requests(client_id):
            (found if line[:_ID_DIGITS] in wanted else others).append(line)
        if found:
            self._put_requests(client_id, others)
        return [
            bytes.fromhex(line[at : at + _ID_DIGITS])
            for line in found
            for at in range(_ID_DIGITS, len(line), _ID_DIGITS)
        ]

    def _requests(self, client_id: ClientId) -> list[str]:
        value = self._database.value("SELECT value FROM setting WHERE name = ?", f"{REQUESTS}{client_id.hex()}")
        lines = str(value or "").split("\n")
        # Whoever made an imported store chose the text.
        return [one for one in lines if len(one) <= _LONGEST_LINE and not len(one) % 2 and _HEX.issuperset(one) and one]

    def _put_requests(self, client_id: ClientId, lines: list[str]) -> None:
        self._database.run(
            "INSERT OR REPLACE INTO setting VALUES (?, ?)", f"{REQUESTS}{client_id.hex()}", "\n".join(lines)
        )

    def move(self, old: ClientId, client_id: ClientId) -> None:
        """Know a user by another id, with the same keys. If that id has shown others, these are
        what the user has to decide about. The old id stays known: what comes in its name under the
        published suite is still not believed.

        The sessions speak of the old id: new ones are begun.
        """
        with self._database.transaction():
            before, present = self.of_id(old), self.of_id(client_id)
            if before is None:
                return
            self._database.overwrite_freed()
            self._database.run("UPDATE peer SET state = NULL WHERE client_id = ?", old)
            if present is None:
                self.add(client_id, before.identity, before.since)
            known, shown, since = before.identity, before.offered, before.offered_since
            if present is not None and present.identity != known:
                shown, since = present.identity, present.since
                if before.is_undecided:
                    # The user decides about the newest.
                    known = shown
            self._database.run(
                "UPDATE peer SET ed25519 = ?1, curve25519 = ?2, verified_at = ?3, offered_ed25519 = ?4, "
                "offered_curve25519 = ?5, offered_since = ?6, told = ?7, after = min(after, ?8), "
                "state = CASE WHEN (ed25519, curve25519) = (?1, ?2) THEN state END WHERE client_id = ?9",
                *known,
                before.verified_at,
                *(shown or (None, None)),
                since,
                int(before.told),
                before.after,
                client_id,
            )

    def _row(self, row: tuple[Any, ...]) -> PeerRow:
        (
            number,
            client_id,
            ed25519,
            curve25519,
            since,
            after,
            verified_at,
            *offer,
            offered_since,
            told,
            asked_at,
            state,
        ) = row
        offered = None if offer[0] is None else Identity(*offer)
        try:
            state = self._sealing.open(PEER_STATE, state, number, client_id)
        except CipherError:
            state = None
        return PeerRow(
            number, client_id, Identity(ed25519, curve25519), since, after, verified_at, offered, offered_since,
            bool(told), asked_at, state,
        )  # fmt: skip
