"""client/suite1/file_stream.py: a file comes back as it was, or not at all."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.cobblestone import Cobblestone256Encryptor
from hypothesis import given, settings
from hypothesis import strategies as st

from client.suite1.file_stream import CHUNK, FileDamaged, FileOpener, FileSealer, sealed_size
from client.suite1.padding import padme
from client.suite1.values import Pair
from tests.client.suite1.two_homes import ALICE, BOB

KEY = b"a key of 32 bytes for a file ..."
PAIR = Pair(ALICE, BOB)


def sealed(content: bytes, piece: int = 1000) -> bytes:
    sealer = FileSealer(KEY, PAIR)
    parts = [sealer.update(content[at : at + piece]) for at in range(0, len(content), piece)]
    stream = b"".join([*parts, *sealer.finish()])
    assert (sealer.size, sealer.digest) == (len(content), hashlib.sha256(content).digest())
    return stream


def opened(stream: bytes, size: int, digest: bytes, *, key: bytes = KEY, pair: Pair = PAIR, piece: int = 1000) -> bytes:
    opener = FileOpener(key, pair, size, digest)
    parts = [opener.update(stream[at : at + piece]) for at in range(0, len(stream), piece)]
    return b"".join([*parts, opener.finish()])


@settings(max_examples=50)
@given(st.integers(0, 70_000), st.integers(1, 40_000), st.integers(1, 40_000))
def test_a_file_comes_back_whatever_the_pieces(size: int, one: int, other: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    stream = sealed(content, one)
    assert len(stream) == sealed_size(len(content))
    assert opened(stream, len(content), hashlib.sha256(content).digest(), piece=other) == content


@pytest.mark.parametrize("size", [0, 1, 256, 257, 16_383, 16_384, 16_385, 1_100_000, 5_000_000])
def test_the_size_of_a_stream(size: int) -> None:
    assert len(sealed(bytes(size), 65_536)) == sealed_size(size)


def test_nothing_piles_up_however_long_a_file_is() -> None:
    """What went in has come out but for one chunk: memory is that of a part and of a chunk."""
    part, count = bytes(256 * 1024), 160
    sealer, sealed_so_far = FileSealer(KEY, PAIR), 0
    stream = []
    for number in range(1, count + 1):
        stream.append(sealer.update(part))
        sealed_so_far += len(stream[-1])
        assert number * len(part) - sealed_so_far <= CHUNK
        assert len(stream[-1]) <= len(part) + CHUNK + 1024
    for last in sealer.finish():
        assert len(last) <= 1024 * 1024 + CHUNK + 2048
        stream.append(last)
    opener, went_in, came_out = FileOpener(KEY, PAIR, sealer.size, sealer.digest), 0, 0
    for piece in stream:
        opened_now = opener.update(piece)
        went_in, came_out = went_in + len(piece), came_out + len(opened_now)
        assert len(opened_now) <= len(piece) + CHUNK
        # The header, and of each chunk the tag, are no content.
        content = min(went_in - 56 - 16 * (went_in // CHUNK), sealer.size)
        assert content - came_out <= CHUNK + 16
    assert came_out + len(opener.finish()) == sealer.size == count * len(part)


CONTENT = b"0123456789" * 3300
STREAM = sealed(CONTENT)
DIGEST = hashlib.sha256(CONTENT).digest()


def test_a_flipped_bit_is_found() -> None:
    for at in (*range(80), *range(80, len(STREAM), 501), len(STREAM) - 1):
        altered = bytearray(STREAM)
        altered[at] ^= 1
        with pytest.raises(FileDamaged):
            opened(bytes(altered), len(CONTENT), DIGEST)


def test_a_cut_or_longer_stream_is_found() -> None:
    for size in (0, 1, 55, 56, 57, 16_456, 32_840, len(STREAM) - 16, len(STREAM) - 1):
        with pytest.raises(FileDamaged):
            opened(STREAM[:size], len(CONTENT), DIGEST)
    for more in (b"\0", bytes(16), STREAM[56:16_456]):
        with pytest.raises(FileDamaged):
            opened(STREAM + more, len(CONTENT), DIGEST)


def test_another_key_pair_size_or_digest_is_found() -> None:
    size = len(CONTENT)
    for key, pair in ((bytes(32), PAIR), (KEY, Pair(BOB, ALICE)), (KEY, Pair(ALICE, ALICE))):
        with pytest.raises(FileDamaged):
            opened(STREAM, size, DIGEST, key=key, pair=pair)
    for wrong_size in (0, size - 1, size + 1, 2 * size):
        with pytest.raises(FileDamaged):
            opened(STREAM, wrong_size, DIGEST)
    with pytest.raises(FileDamaged):
        opened(STREAM, size, bytes(32))


@pytest.mark.parametrize("padding", [b"", b"\1", bytes(6) + b"\1", bytes(8)])
def test_other_padding_than_zeros_to_the_right_length_is_found(padding: bytes) -> None:
    content = bytes(300)
    assert padme(len(content)) == 304
    cipher = Cobblestone256Encryptor(KEY, b"MessageU 5/1 file\0" + ALICE + BOB)
    stream = cipher.update(content + padding) + cipher.finalize()
    with pytest.raises(FileDamaged):
        opened(stream, len(content), hashlib.sha256(content).digest())
