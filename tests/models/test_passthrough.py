"""The passthrough gives back what it hears, bit for bit, in its place, however it is chunked."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.models.errors import PackError
from backline.models.passthrough import PassthroughConfig, PassthroughStream, load, read_config
from backline.models.stream import Audio, ChunkInput, Notes, SessionConfig


def session(
    rate: int = 48_000, channels: int = 2, chunk: Fraction = Fraction(1, 100), visibility: float | None = None
) -> SessionConfig:
    return SessionConfig(rate, channels, chunk, float(chunk) if visibility is None else visibility, seed=0)


def play(stream: PassthroughStream, row: int, audio: Audio) -> list[Audio]:
    """All chunks whose input lies within `audio`, per port; checks that each chunk follows the last."""
    given = 0
    ports: list[list[Audio]] = [[] for _ in stream.spec.ports]
    position = 0
    while (required := max(given, stream.required_input(row))) <= audio.shape[1]:
        (output,) = stream.step([ChunkInput(row, audio[:, given:required], None, {})])
        given = required
        assert output.position == position
        position += output.audio[0].shape[1]
        for kept, block in zip(ports, output.audio, strict=True):
            kept.append(block)
    return [np.concatenate(blocks, axis=1) for blocks in ports]


def noise(channels: int, count: int) -> Audio:
    return np.random.default_rng(1).standard_normal((channels, count)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([8_000, 22_050, 44_100, 48_000, 192_000]),
    channels=st.integers(1, 5),
    chunk=st.integers(1, 50).map(lambda k: Fraction(k, 1000)),
    latency=st.integers(0, 3_000),
    ports=st.integers(1, 4),
)
def test_output_is_the_input_on_every_port_whatever_rate_chunk_and_latency(
    rate: int, channels: int, chunk: Fraction, latency: int, ports: int
) -> None:
    names = tuple(f"port {index}" for index in range(ports))
    stream = PassthroughStream(PassthroughConfig(ports=names, latency_samples=latency))
    audio = noise(channels, rate // 5 + latency)
    outputs = play(stream, stream.open(session(rate, channels, chunk)), audio)
    assert len(outputs) == ports
    for output in outputs:
        assert np.array_equal(output, audio[:, : output.shape[1]])
        assert output.shape[1] + latency + 2 * chunk * rate + 2 >= audio.shape[1]


def test_declared_latency_is_input_that_a_chunk_waits_for() -> None:
    stream = PassthroughStream(PassthroughConfig(latency_seconds=Fraction(1, 10), latency_samples=7))
    row = stream.open(session(rate=48_000, chunk=Fraction(1, 100)))
    assert stream.required_input(row) == 480 + 4_800 + 7
    items = {item.name: item.seconds for item in stream.latency(session())}
    assert items == {"front_end": pytest.approx(0.1 + 7 / 48_000), "visibility": pytest.approx(0.01)}


def test_what_is_not_yet_heard_is_silent() -> None:
    stream = PassthroughStream(PassthroughConfig(latency_samples=100))
    row = stream.open(session(rate=48_000, chunk=Fraction(1, 100), visibility=0.004))
    audio = noise(2, 4_800)
    (output,) = play(stream, row, audio)
    heard = np.arange(output.shape[1]) % 480 < 192  # 4 ms of every 10 ms
    assert np.array_equal(output, np.where(heard, audio[:, : output.shape[1]], 0.0))


def test_gain_is_in_force_from_the_chunk_that_gets_it() -> None:
    stream = PassthroughStream(PassthroughConfig())
    row = stream.open(session(rate=48_000, channels=1))
    audio = noise(1, 960)
    (first,) = stream.step([ChunkInput(row, audio[:, :480], None, {"gain": 1.0})])
    (second,) = stream.step([ChunkInput(row, audio[:, 480:], None, {"gain": 0.5})])
    assert np.array_equal(first.audio[0], audio[:, :480])
    assert np.array_equal(second.audio[0], audio[:, 480:] * np.float32(0.5))


def test_rows_are_independent_and_can_be_taken_again() -> None:
    stream = PassthroughStream(PassthroughConfig())
    first, second = stream.open(session()), stream.open(session(channels=1))
    stereo, mono = noise(2, 2_000), noise(1, 2_000)
    assert np.array_equal(play(stream, first, stereo)[0], stereo[:, :1_920])
    assert np.array_equal(play(stream, second, mono)[0], mono[:, :1_920])
    stream.close(first)
    assert stream.open(session()) == first
    assert stream.required_input(first) == 480


def test_every_fault_of_a_configuration_is_named_at_once() -> None:
    with pytest.raises(PackError) as raised:
        read_config({"passthrough": {"ports": [], "latency_samples": 0.5, "chunk_quantum": "x/y", "color": 1}})
    assert [problem.split(" ")[1] for problem in raised.value.problems] == [
        "has",
        "ports",
        "latency_samples",
        "chunk_quantum",
    ]


def test_default_chunk_must_be_a_multiple_of_the_quantum() -> None:
    with pytest.raises(PackError, match="default_chunk is 1/100 s: use a multiple of chunk_quantum"):
        load({"passthrough": {"chunk_quantum": "1/750"}}, {}, "cpu")


def test_a_chunk_may_be_any_fraction_of_a_second() -> None:
    made = read_config({"passthrough": {"chunk_quantum": "1/750", "default_chunk": "2/75", "latency_seconds": 0.25}})
    assert (made.chunk_quantum, made.default_chunk, made.latency_seconds) == (
        Fraction(1, 750),
        Fraction(2, 75),
        Fraction(1, 4),
    )


@settings(max_examples=30, deadline=None)
@given(
    places=st.lists(st.integers(0, 4_700), unique=True, max_size=6),
    chunk=st.integers(1, 50).map(lambda k: Fraction(k, 1000)),
    visibility=st.integers(-5, 5).map(lambda k: k / 100),
)
def test_a_click_stands_at_the_sample_of_its_note_on(places: list[int], chunk: Fraction, visibility: float) -> None:
    """However early or late a chunk hears; what comes after its chunk is played at once, at the start of the next."""
    stream = PassthroughStream(PassthroughConfig(clicks=True))
    visibility = min(visibility, float(chunk))
    row = stream.open(session(chunk=chunk, visibility=visibility))
    left, heard, at = sorted(places), [], 0
    for _ in range(math.ceil(Fraction(4_800, 48_000) / chunk) + 60):
        end = max(1, stream.required_input(row))
        notes = tuple(Notes(place, bytes([0xC0, 1, 0x90, 60, 100, 0x80, 60, 0])) for place in left if place < end)
        left = left[len(notes) :]
        audio = np.zeros((2, max(0, stream.required_input(row) - at)), np.float32)
        at += audio.shape[1]
        (output,) = stream.step([ChunkInput(row, audio, None, {}, notes=notes)])
        heard += [output.position + int(sample) for sample in np.flatnonzero(output.audio[0][0])]
    if visibility == float(chunk):
        assert heard == sorted(places)
    assert len(heard) <= len(places)
    assert all(any(place <= found for place in places) for found in heard)


def test_only_the_beginning_of_a_note_clicks() -> None:
    row_of = {
        b"\x90\x3c\x00": 0,
        b"\x80\x3c\x40": 0,
        b"\xb0\x07\x7f": 0,
        b"\x9f\x3c\x01": 1,
        b"\xd0\x10\x90\x3c\x40": 1,
    }
    for data, clicks in row_of.items():
        stream = PassthroughStream(PassthroughConfig(clicks=True))
        row = stream.open(session())
        audio = np.zeros((2, stream.required_input(row)), np.float32)
        (output,) = stream.step([ChunkInput(row, audio, None, {}, notes=(Notes(5, data),))])
        assert np.count_nonzero(output.audio[0][0]) == clicks
