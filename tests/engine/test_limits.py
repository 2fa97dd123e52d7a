"""What a session may hold, and what is said where a client asks for more."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from backline.engine.errors import BadInput, Refused
from backline.engine.limits import (
    ECHOED,
    INPUT_BYTES,
    MAXIMUM_BLOCK,
    MAXIMUM_CHANNELS,
    MESSAGE_BYTES,
    NAME_BYTES,
    UNREAD_BYTES,
    check_name,
    findable,
    quoted,
)
from backline.engine.rings import Ring
from backline.models.errors import NoRowFree
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import SessionConfig
from tests.support.playing import open_session, play, running
from tests.support.streams import GainStream


def test_the_largest_block_fits_into_a_message() -> None:
    assert MESSAGE_BYTES > MAXIMUM_CHANNELS * MAXIMUM_BLOCK * 4


def test_a_ring_that_is_too_large_is_refused_before_memory_is_taken() -> None:
    assert Ring(INPUT_BYTES // 8, 2).capacity == INPUT_BYTES // 8
    with pytest.raises(Refused, match="take 2048 MiB, and a session may hold 64 of input: choose a shorter chunk"):
        Ring(1 << 23, 64)


@pytest.mark.parametrize(
    ("channels", "rate", "chunk", "served"),
    [(2, 48_000, 4, True), (64, 192_000, Fraction(1, 100), True), (64, 192_000, 4, False), (64, 192_000, 1, False)],
)
def test_what_a_session_holds_is_bounded_whatever_it_asks_for(
    channels: int, rate: int, chunk: Fraction, served: bool
) -> None:
    config: dict[str, Any] = {"channels": channels, "sample_rate": rate, "chunk_seconds": Fraction(chunk)}
    config["visibility_seconds"] = float(chunk)
    with running(echo=PassthroughStream(PassthroughConfig())) as engine:
        if not served:
            with pytest.raises(Refused, match="MiB, and a session may hold"):
                open_session(engine, "echo", block_size=4096, **config)
            assert engine.list_sessions() == []
            return
        session, _ = open_session(engine, "echo", block_size=4096, **config)
        ring = session.take.input.ring
        assert 4 * ring.capacity * ring.channels <= INPUT_BYTES
        chunk_bytes = 4 * channels * chunk * rate
        unread = session._outlet.limit
        assert unread >= 3
        assert unread == 3 or unread * chunk_bytes <= UNREAD_BYTES
        session.abort()


def test_a_client_that_never_reads_is_sent_no_more_than_may_wait() -> None:
    rate, channels, chunk = 192_000, 64, Fraction(1, 25)
    stream = GainStream(rate=None, channels=None)
    with running(gain=stream) as engine:
        session, heard = open_session(
            engine,
            "gain",
            acknowledges=False,
            sample_rate=rate,
            channels=channels,
            chunk_seconds=chunk,
            visibility_seconds=float(chunk),
        )
        block = np.zeros((channels, 4_096), np.float32)
        while session.try_write(session.takes.timeline.end, block) or session.ready():
            pass
        heard.wait(lambda: len(heard.blocks()) == session._outlet.limit)
        assert sum(entry.audio.nbytes for entry in heard.blocks()) <= UNREAD_BYTES
        other = play(engine, "gain", np.ones((2, 20_000), np.float32), 1_000)  # nobody else is disturbed
        assert other.audio().shape[1] == 20_000
        session.abort()


def test_names_are_repeated_in_part_and_none_is_as_long_as_a_page() -> None:
    assert quoted("gain") == "'gain'"
    assert quoted("g" * 10_000) == "'" + "g" * ECHOED + "…'"
    assert findable("g" * NAME_BYTES) == "g" * NAME_BYTES
    assert len(findable("g" * 10_000)) == ECHOED + 1
    check_name("ü" * (NAME_BYTES // 2), "name")
    with pytest.raises(BadInput, match=r"name 'ü+…' is 258 bytes long: use at most 256"):
        check_name("ü" * (NAME_BYTES // 2 + 1), "name")


# ---- memory and rows -----------------------------------------------------------------------------------


class Failing(GainStream):
    """Its rows do not open."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def open(self, config: SessionConfig) -> int:
        raise self.error


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_no_memory_for_a_row_is_not_a_lack_of_rows(error: Exception) -> None:
    with running(gain=Failing(error)) as engine:
        with pytest.raises(Refused, match=r"not enough memory for 'gain' .*: close sessions or unload packs") as raised:
            open_session(engine, "gain")
        assert "rows" not in str(raised.value)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_no_memory_for_a_chunk_does_not_call_the_pack_broken(error: Exception) -> None:
    stream = GainStream()

    def fail(inputs: object) -> None:
        raise error

    with running(gain=stream) as engine:
        session, heard = open_session(engine, "gain")
        stream.before_step = fail
        session.write(0, np.ones((2, 4_000), np.float32))
        failed = heard.failed().error
        assert type(failed) is Refused
        assert "not enough memory for 'gain'" in str(failed)


def test_rows_that_are_all_taken_are_said_to_be_so_by_whatever_stream() -> None:
    with running(gain=GainStream(capacity=2)) as engine:  # raises a plain RuntimeError, as third parties do
        for _ in range(2):
            open_session(engine, "gain")
        with pytest.raises(Refused, match="all 2 rows of 'gain' are taken: close a session"):
            open_session(engine, "gain")
    with (
        running(gain=Failing(NoRowFree("none"))) as engine,
        pytest.raises(Refused, match="all 4 rows of 'gain' are taken"),
    ):
        open_session(engine, "gain")


def test_another_failure_to_open_is_not_hidden_behind_rows() -> None:
    with running(gain=Failing(RuntimeError("shapes differ"))) as engine, pytest.raises(RuntimeError, match="shapes"):
        open_session(engine, "gain")
