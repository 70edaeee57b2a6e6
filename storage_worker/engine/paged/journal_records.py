"""The bytes of a turn's records, as the journal keeps them.

Owns: their encoding. Promises: what one version wrote the next one reads.
Exposure: none; written and read by this program alone.
"""

from typing import Final

import msgspec

from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.records import Record

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def encode_records(records: list[Record]) -> bytes:
    """The bytes of one turn's records."""
    return _encoder.encode(records)


def decode_records(data: bytes) -> list[Record]:
    """The pair of `encode_records`. Raises `StoreFailed` for what no version of this
    program wrote.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreFailed(f"the journal holds something that can't be read: {error}") from error
