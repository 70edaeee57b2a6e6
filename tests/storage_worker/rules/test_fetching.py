"""604 and 643 at the storage worker: intervals, leases, pages, acknowledging, watching."""

from collections.abc import Callable

import apsw
import pytest

from common.storage_protocol.operations import (
    NO_MAIL,
    Done,
    Fetch,
    Fetched,
    MarkAuthenticated,
    Page,
    Pull,
    Pulled,
    PullPage,
    Release,
    Settle,
    StoreMessage,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.rules import fetching
from tests.storage_worker.rules.asking import NOBODY, after, contents, fetch
from tests.storage_worker.worker_under_test import Gateway, Piece, SqliteWorker, pieces


class TestFetchWaiting:
    def test_empty(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert fetch(gateway, alice) == Pulled(0, 0, 0, 0, NO_MAIL)

    def test_a_mailbox_without_mail_is_known_without_the_database(
        self, worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob = gateway.register("alice", "bob")
        [sequence] = gateway.store(alice, bob, b"x")
        worker.flush()
        leased = fetch(gateway, bob)
        assert leased.count == 1
        gateway.ask(Settle(1, bob, False, sequence, sequence))
        monkeypatch.setattr(MailPages, "overlapping", None)
        for nobody in (alice, bob):
            assert fetch(gateway, nobody) == Pulled(0, 0, 0, 0, NO_MAIL)
            outcome = gateway.one(Fetch(nobody, True, 0, 100, 54, 100, False))
            assert isinstance(outcome, Fetched)
            assert outcome.count == 0

    def test_order(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(*[StoreMessage(alice, False, bob, 3, bytes([n])) for n in range(50)])
        assert contents(fetch(gateway, bob).page) == [bytes([n]) for n in range(50)]

    def test_max_bytes_counts_envelopes_and_gives_at_least_one(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes(10)] * 5)
        assert fetch(gateway, alice, max_bytes=69, envelope_bytes=25).count == 1
        assert fetch(gateway, alice, max_bytes=70, envelope_bytes=25).count == 2
        assert fetch(gateway, alice, max_bytes=0).count == 1
        assert fetch(gateway, alice).count == 1
        assert fetch(gateway, alice).count == 0

    def test_a_lease_hides_its_interval_and_no_more(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"a", b"b")
        first = fetch(gateway, bob, 1)
        gateway.store(alice, bob, b"c")
        assert contents(fetch(gateway, bob, 2).page) == [b"c"]
        gateway.store(alice, alice, b"other mailbox")
        assert contents(fetch(gateway, alice, 3).page) == [b"other mailbox"]
        assert gateway.one(Release(1)) == Done()
        gateway.store(alice, bob, b"d")
        assert contents(fetch(gateway, bob, 4).page) == [b"a", b"b"], "it ends before what is leased"
        assert contents(fetch(gateway, bob, 5).page) == [b"d"]
        assert gateway.one(Settle(4, bob, False, first.first, first.last)) == Done()
        gateway.ask(Release(2), Release(5))
        assert contents(fetch(gateway, bob, 6).page) == [b"c", b"d"]

    def test_a_release_in_the_middle(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes([n]) for n in range(6)])
        for lease in (1, 2, 3):
            assert fetch(gateway, alice, lease, max_bytes=52).count == 2
        gateway.ask(Release(2))
        assert contents(fetch(gateway, alice, 4).page) == [b"\2", b"\3"]
        assert fetch(gateway, alice, 5).count == 0

    def test_a_repeat_gives_the_same_interval(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        first = fetch(gateway, alice, 1)
        gateway.store(alice, alice, b"b")
        assert fetch(gateway, alice, 1) == first

    def test_a_lease_is_its_users_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice, 1)
        assert gateway.refused(Pull(1, bob, False, 100, 25, 100)) is Reason.MALFORMED

    def test_leases_of_two_slots(self, worker: SqliteWorker, gateway: Gateway) -> None:
        other = Gateway(worker, slot=1)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice, 1)
        assert fetch(other, alice, 1).count == 0
        gateway.store(alice, alice, b"b")
        assert contents(fetch(other, alice, 1).page) == [b"b"]
        successor = Gateway(worker)
        assert contents(fetch(successor, alice, 1).page) == [b"a"]
        assert fetch(other, alice, 2).count == 0, "the other slot's lease stands"

    def test_settle_takes_only_the_interval(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, alice, b"a", b"b")
        gateway.store(bob, bob, b"x")
        gateway.store(alice, alice, b"c")
        leased = fetch(gateway, alice, 1, max_bytes=52)
        gateway.ask(Settle(1, alice, False, leased.first, leased.last))
        assert contents(fetch(gateway, alice).page) == [b"c"]
        assert contents(fetch(gateway, bob).page) == [b"x"]

    def test_settle_after_a_restart(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a", b"b")
        leased = fetch(gateway, alice, 1)
        worker.kill()
        gateway.worker = open_worker()
        gateway.store(alice, alice, b"c")
        assert gateway.one(Settle(1, alice, False, leased.first, leased.last)) == Done()
        assert contents(fetch(gateway, alice, 2).page) == [b"c"]

    def test_settle_of_what_is_gone_or_nobodys_changes_nothing(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        assert (
            gateway.ask(Settle(9, alice, False, 7, 9), Settle(9, NOBODY, True, 1, 1), Settle(9, alice, False, 2, 1))
            == [Done()] * 3
        )
        assert fetch(gateway, alice).count == 1


def test_past_its_leases_a_mailbox_looks_empty_until_one_ends(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LEASES_OF_MAILBOX", 2)
    [alice] = gateway.register("alice")
    for number in (1, 2):
        gateway.store(alice, alice, b"x")
        leased = gateway.one(Pull(number, alice, False, 2**40, 25, 100))
        assert isinstance(leased, Pulled)
        assert leased.count == 1
    gateway.store(alice, alice, b"y")
    assert gateway.one(Pull(3, alice, False, 2**40, 25, 100)) == Pulled(0, 0, 0, 0, NO_MAIL)
    gateway.ask(Release(1))
    again = gateway.one(Pull(4, alice, False, 2**40, 25, 100))
    assert isinstance(again, Pulled)
    assert again.first == 1


def test_a_small_fetch_looks_at_few_messages(gateway: Gateway, worker: SqliteWorker) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, *[b""] * 1000)
    gateway.ask(MarkAuthenticated(alice), Fetch(alice, True, 0, 60, 54, 100, False))
    seen: list[int] = []
    worker.database.connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda event: seen.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
    )
    fetched = gateway.one(Fetch(alice, True, 0, 60, 54, 100, False))
    worker.database.connection.trace_v2(0, None)
    assert isinstance(fetched, Fetched)
    assert fetched.count == 1
    assert sum(seen) < 1000


class TestPages:
    def pages(self, gateway: Gateway, user: bytes, page_bytes: int) -> tuple[Pulled, list[list[Piece]]]:
        """All pages of a fetch, asked for as a gateway would."""
        leased = fetch(gateway, user, page_bytes=page_bytes)
        pages = [pieces(leased.page)]
        while True:
            piece = pages[-1][-1]
            end = piece.offset + len(piece.content)
            at = (piece.sequence, end) if end < piece.size else (piece.sequence + 1, 0)
            outcome = gateway.one(PullPage(user, False, *at, leased.last, page_bytes))
            assert isinstance(outcome, Page)
            if not outcome.page:
                return leased, pages
            pages.append(pieces(outcome.page))

    @pytest.mark.parametrize("page_bytes", [0, 1, 99, 100, 250, 1000, 100_000, 2**30])
    def test_all_comes_whole_and_in_order(self, gateway: Gateway, page_bytes: int) -> None:
        [alice] = gateway.register("alice")
        wholes = [b"a" * 100, b"", b"b" * 99, b"c" * 500, b"", b"d" * 101]
        if page_bytes >= 1000:
            wholes.append(bytes(range(256)) * 1200)
        sequences = gateway.store(alice, alice, *wholes)
        leased, pages = self.pages(gateway, alice, page_bytes)
        assert (leased.first, leased.last, leased.count) == (sequences[0], sequences[-1], len(wholes))
        assert leased.content_bytes == sum(map(len, wholes))
        found = dict.fromkeys(sequences, b"")
        for page in pages:
            assert 0 < sum(len(piece.content) for piece in page) <= max(page_bytes, 1) or not page[0].size
            for piece in page:
                assert piece.offset == len(found[piece.sequence])
                assert piece.offset == 0 or piece.size > page_bytes, "small messages come whole"
                found[piece.sequence] += piece.content
        assert list(found.values()) == wholes

    def test_a_page_of_empty_messages_ends(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[b""] * 100)
        assert len(pieces(fetch(gateway, alice, page_bytes=640).page)) == 10

    def test_gone_messages_leave_an_empty_page(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a" * 100)
        leased = fetch(gateway, alice, page_bytes=50)
        gateway.ask(MarkAuthenticated(alice))
        after(gateway, alice, leased.last)
        assert gateway.one(PullPage(alice, True, leased.last, 50, leased.last, 50)) == Page(NO_MAIL)

    def test_from_the_end_of_a_message(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"abc", b"def")
        page = gateway.one(PullPage(alice, False, 1, 3, 2, 100))
        assert isinstance(page, Page)
        assert contents(page.page) == [b"def"]


class TestFetchAfter:
    def test_needs_an_authenticated_connection(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(Fetch(alice, False, 0, 100, 54, 100, False)) is Reason.PROOF_NEEDED

    def test_deletes_what_is_acknowledged_and_reads_on(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"a", b"b", b"c")
        gateway.store(alice, alice, b"not his")
        everything = after(gateway, bob, 0)
        assert contents(everything.page) == [b"a", b"b", b"c"]
        assert (everything.last, everything.count, everything.content_bytes, everything.committed) == (3, 3, 3, 4)
        assert contents(after(gateway, bob, 0).page) == [b"a", b"b", b"c"]
        assert contents(after(gateway, bob, 2).page) == [b"c"]
        assert contents(after(gateway, bob, 0).page) == [b"c"], "the acknowledged ones are gone"
        assert after(gateway, bob, 4) == Fetched(0, 0, 0, 4, NO_MAIL)
        assert contents(after(gateway, alice, 0).page) == [b"not his"]

    def test_max_bytes(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes(10)] * 3)
        assert after(gateway, alice, 0, max_bytes=0).count == 1
        assert after(gateway, alice, 0, max_bytes=128).count == 2
        assert after(gateway, alice, 1, max_bytes=127).last == 2

    def test_an_acknowledgement_of_what_never_was(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        assert gateway.refused(Fetch(alice, True, 2, 100, 54, 100, False)) is Reason.MALFORMED
        assert after(gateway, alice, 0).count == 1

    def test_leases_hide_nothing(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice)
        assert after(gateway, alice, 0).count == 1


class TestWatches:
    def test_one_hint_then_silence(self, gateway: Gateway) -> None:
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        for user in (alice, bob):
            after(gateway, user, 0, watch=True)
        gateway.store(carol, carol, b"nobody waits")
        assert gateway.arrived == []
        gateway.ask(*[StoreMessage(carol, False, user, 3, b"x") for user in (alice, alice, carol)])
        [notice] = gateway.arrived
        assert (notice.slot, notice.epoch, notice.sequence, notice.recipients) == (0, 1, 4, [alice])
        gateway.store(carol, alice, b"used up")
        assert len(gateway.arrived) == 1
        gateway.store(carol, bob, b"x")
        assert gateway.arrived[1].recipients == [bob]

    def test_no_watch_where_mail_waits_or_none_was_asked_for(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        after(gateway, alice, 0, watch=False)
        gateway.store(alice, alice, b"a")
        after(gateway, alice, 0, watch=True)
        gateway.store(alice, alice, b"b")
        assert gateway.arrived == []

    def test_mail_in_the_same_batch(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        watch = Fetch(alice, True, 0, 100, 54, 100, True)
        gateway.ask(watch, watch, StoreMessage(alice, True, alice, 3, b"x"))
        assert [notice.recipients for notice in gateway.arrived] == [[alice]]

    def test_every_slot_hears_and_a_greeting_ends_its_watches(self, worker: SqliteWorker, gateway: Gateway) -> None:
        others = [Gateway(worker, slot, peer=b"peer%d" % slot) for slot in (1, 2)]
        [alice] = gateway.register("alice")
        for each in (gateway, *others):
            after(each, alice, 0, watch=True)
        Gateway(worker, slot=1)
        gateway.store(alice, alice, b"x")
        assert sorted(notice.slot for notice in gateway.arrived) == [0, 2]
