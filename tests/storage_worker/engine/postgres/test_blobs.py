"""Large contents in pieces: what is durable when, and what an altered piece does."""

from collections.abc import Callable

import pytest

from storage_worker.engine.errors import StoreDamaged
from tests.storage_worker.worker_under_test import PostgresWorker

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres.blobs import PIECE_BYTES

CONTENT = bytes(range(256)) * 10_000


def pieces(worker: PostgresWorker) -> list[tuple[int, int, int]]:
    return [
        (row[0], row[1], row[2])
        for row in worker.beside.rows(
            "SELECT blob, piece, octet_length(data)::bigint FROM blob_piece ORDER BY blob, piece"
        )
    ]


def upload(worker: PostgresWorker, content: bytes) -> int:
    blobs, blob_id = worker.engine.blobs, worker.engine.mailboxes.new_blob_id()
    for at in range(0, len(content), 100_000):
        blobs.append(blob_id, content[at : at + 100_000])
    assert blobs.finish(blob_id) == 0
    return blob_id


def test_whole_pieces_are_durable_while_it_grows(worker: PostgresWorker) -> None:
    blobs = worker.engine.blobs
    blobs.append(1, CONTENT[: PIECE_BYTES - 1])
    assert (blobs.unsynced(1), pieces(worker)) == (PIECE_BYTES - 1, [])
    blobs.append(1, CONTENT[PIECE_BYTES - 1 : PIECE_BYTES + 10])
    assert (blobs.unsynced(1), pieces(worker)) == (10, [(1, 0, PIECE_BYTES)])
    assert blobs.finish(1) == 0
    assert (blobs.unsynced(1), pieces(worker)) == (0, [(1, 0, PIECE_BYTES), (1, 1, 10)])


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(CONTENT)])
def test_every_part_of_it_is_read(worker: PostgresWorker, size: int) -> None:
    content = CONTENT[:size]
    blob_id = upload(worker, content)
    for at, length in ((0, size), (0, size // 2), (size // 3, size // 2), (max(size - 5, 0), min(size, 5))):
        assert worker.engine.blobs.read(blob_id, at, length, size) == content[at : at + length]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE blob_piece SET data = set_byte(data, 9, 99) WHERE piece = 1", "is altered"),
        ("UPDATE blob_piece SET data = substr(data, 2) WHERE piece = 1", "is altered"),
        ("UPDATE blob_piece SET checksum = checksum + 1 WHERE piece = 1", "is altered"),
        ("DELETE FROM blob_piece WHERE piece = 1", "is missing"),
    ],
)
def test_an_altered_piece_is_not_handed_out(worker: PostgresWorker, damage: str, told: str) -> None:
    blobs, blob_id = worker.engine.blobs, upload(worker, CONTENT)
    assert worker.beside.change(damage) == 1
    assert blobs.read(blob_id, 0, PIECE_BYTES, len(CONTENT)) == CONTENT[:PIECE_BYTES]
    with pytest.raises(StoreDamaged, match=f"piece 1 of content {blob_id} {told}"):
        blobs.read(blob_id, PIECE_BYTES, 10, len(CONTENT))
    assert blobs.unread == {blob_id}


def test_pieces_are_not_another_content_s(worker: PostgresWorker) -> None:
    one, other = upload(worker, CONTENT), upload(worker, CONTENT[::-1])
    worker.beside.change("DELETE FROM blob_piece WHERE blob = $1", one)
    worker.beside.change("UPDATE blob_piece SET blob = $1 WHERE blob = $2", one, other)
    with pytest.raises(StoreDamaged, match="is altered"):
        worker.engine.blobs.read(one, 0, 10, len(CONTENT))


def test_what_no_message_needs_is_gone_after_a_start(
    worker: PostgresWorker, open_worker: Callable[..., PostgresWorker]
) -> None:
    upload(worker, CONTENT)
    worker.engine.blobs.append(99, CONTENT)
    assert len(pieces(worker)) == 5
    worker.kill()
    assert pieces(open_worker()) == []


def test_a_number_that_a_turn_gave_back(worker: PostgresWorker) -> None:
    blobs = worker.engine.blobs
    blobs.append(1, CONTENT)
    worker.engine.roll_back()
    assert worker.engine.mailboxes.new_blob_id() == 1
    blobs.remove(1)
    blobs.append(1, CONTENT[::-1])
    assert blobs.finish(1) == 0
    assert blobs.read(1, 0, len(CONTENT), len(CONTENT)) == CONTENT[::-1]
