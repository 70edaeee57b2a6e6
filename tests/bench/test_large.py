import os

import pytest

from bench.generator import Generator
from bench.large import download, forget_peaks, measure_large, peak_bytes, upload
from bench.loads import QUICK
from bench.messageu import RunningMessageU
from bench.subject import SubjectFailed
from common.client_protocol.responses import ERROR
from common.values import ClientId
from tests.bench.scripted_peer import CLOSE
from tests.bench.scripted_server import ScriptedServer

SENDER, RECIPIENT = ClientId(b"s" * 16), ClientId(b"r" * 16)
SIZE = (3 << 20) + 5


def test_what_goes_up_comes_down() -> None:
    with ScriptedServer() as server:
        upload(server.port, SENDER, RECIPIENT, SIZE)
        assert [len(content) for _, content in server.mail[RECIPIENT]] == [SIZE]
        download(server.port, RECIPIENT, SIZE)
        # It was asked for a second time, which is how the server learns that the first has come.
        assert server.requests == 3
        assert not server.mail[RECIPIENT]


def test_what_goes_up_by_642_comes_down_by_643_and_is_acknowledged() -> None:
    with ScriptedServer() as server:
        upload(server.port, SENDER, RECIPIENT, SIZE, extension=True)
        download(server.port, RECIPIENT, SIZE, extension=True)
        assert (len(server.tokens), server.acks) == (1, [(RECIPIENT, 0), (RECIPIENT, 1)])
        assert not server.mail[RECIPIENT]


@pytest.mark.parametrize("answer", [ERROR, CLOSE])
def test_an_upload_that_is_not_acknowledged_is_a_failure(answer: bytes | None) -> None:
    with ScriptedServer(lambda _number, _answer: answer) as server, pytest.raises(SubjectFailed, match="was answered"):
        upload(server.port, SENDER, RECIPIENT, SIZE)


def test_a_download_of_something_else_is_a_failure() -> None:
    with ScriptedServer() as server:
        server.put(RECIPIENT, bytes(SIZE))
        with pytest.raises(SubjectFailed, match="differs after 0 bytes"):
            download(server.port, RECIPIENT, SIZE)
        server.put(RECIPIENT, bytes(SIZE + 1))
        with pytest.raises(SubjectFailed, match="announced as 2104"):
            download(server.port, RECIPIENT, SIZE)


def test_a_download_that_breaks_is_a_failure() -> None:
    with ScriptedServer(lambda _number, _answer: CLOSE) as server, pytest.raises(ConnectionResetError):
        download(server.port, RECIPIENT, SIZE)


def test_small_sends_are_measured_alone_and_beside_each_transfer(generator: Generator) -> None:
    with ScriptedServer() as server:
        running = RunningMessageU(server.port, {"worker": os.getpid()})
        running.register_users(3, 4)
        figures = measure_large(running, generator, QUICK, 0, "ours", running.transfers(QUICK.large_size))
    assert figures.errors == 0
    for when in ("alone", "beside upload", "beside download"):
        assert figures.values[f"{when} sends/s"] > 0
        assert 0 < figures.values[f"{when} p50 ms"] <= figures.values[f"{when} p99 ms"]
    assert figures.values["upload MB/s"] > 0
    assert figures.values["download MB/s"] > 0
    assert figures.values["worker peak MB"] > 1


def test_a_transfer_that_fails_fails_the_measurement(generator: Generator) -> None:
    def fail() -> None:
        raise ConnectionResetError("gone")

    with ScriptedServer() as server:
        running = RunningMessageU(server.port, {"worker": os.getpid()})
        running.register_users(3, 4)
        with pytest.raises(SubjectFailed, match="upload: gone"):
            measure_large(running, generator, QUICK, 0, "ours", {"upload": fail})


def test_a_peak_is_that_since_it_was_forgotten() -> None:
    block = bytearray(os.urandom(1)) * (64 << 20)
    high = peak_bytes(os.getpid())
    del block
    forget_peaks({"this": os.getpid()})
    assert peak_bytes(os.getpid()) < high


def test_a_process_that_is_gone_has_no_peak() -> None:
    with pytest.raises(SubjectFailed, match="can't be looked at"):
        peak_bytes(2**22 + 1)
