"""A recording through a stream comes out as through an engine: in its place, as long as it was, whatever shares it."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from backline.evaluation.live import Setting, Take, check_setting, default_setting, play, play_ports
from backline.models.hafm.load import load, tiny_random
from backline.models.hafm.stream import HafmStream
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import ChunkInput, ChunkOutput, Transport
from tests.support.hafm import voice
from tests.support.playing import open_session, running, write_blocks

RATE = 24_000
SETTING = Setting(Fraction(1, 5), 0.1)
BEATS = (Transport(0.0, True, 90.0), Transport(0.5, True, 140.0, numerator=3))


@pytest.fixture(scope="module")
def tiny() -> HafmStream:
    return load(*tiny_random(), "cpu")


@pytest.mark.parametrize("samples", [1, 999, 24_007])
@pytest.mark.parametrize("chunk", [Fraction(1, 100), Fraction(1, 7), Fraction(4)])
@pytest.mark.parametrize("late", [0, 333])
def test_a_passthrough_gives_back_its_input_sample_for_sample(samples: int, chunk: Fraction, late: int) -> None:
    stream = PassthroughStream(PassthroughConfig(ports=("a", "b"), latency_samples=late))
    sound = voice(1.1)[0, :samples]
    (played,) = play(stream, [Take(sound, 0)], RATE, Setting(chunk, float(chunk)))
    np.testing.assert_array_equal(played, sound)


def test_what_a_chunk_has_not_heard_is_not_in_it() -> None:
    sound = np.ones(RATE, np.float32)
    (played,) = play(PassthroughStream(PassthroughConfig()), [Take(sound, 0)], RATE, Setting(Fraction(1, 10), 0.05))
    assert played.mean() == pytest.approx(0.5, abs=0.001)


def test_an_engine_plays_the_same(tiny: HafmStream) -> None:
    sound = voice(1.3)
    (played,) = play(tiny, [Take(sound[0], 5, BEATS)], RATE, SETTING)
    with running(tiny=load(*tiny_random(), "cpu")) as engine:
        session, listener = open_session(
            engine, "tiny", 1000, sample_rate=RATE, channels=1, seed=5, chunk_seconds=SETTING.chunk_seconds,
            visibility_seconds=SETTING.visibility_seconds,
        )  # fmt: skip
        for beat in BEATS:
            session.set_transport(
                round(beat.at_seconds * RATE), playing=True, tempo=beat.tempo, numerator=beat.numerator
            )
        write_blocks(session, sound, 1000)
        session.close_input()
        listener.finished()
    np.testing.assert_array_equal(played, listener.audio()[0])


def test_a_take_sounds_the_same_whatever_shares_its_batch_and_the_rows_are_given_back(tiny: HafmStream) -> None:
    takes = [Take(voice(seconds, seed)[0], seed, BEATS) for seed, seconds in enumerate((0.5, 0.9, 0.3))]
    told: list[float] = []
    together = play(tiny, takes * 3, RATE, SETTING, told.append)  # more than there are rows
    for number, take in enumerate(takes * 3):
        np.testing.assert_array_equal(together[number], play(tiny, [take], RATE, SETTING)[0])
    assert sum(told) >= 3 * (0.5 + 0.9 + 0.3)


def test_without_transport_the_stream_is_not_told_the_beat(tiny: HafmStream) -> None:
    sound = voice(1.0)[0]
    silent = play(tiny, [Take(sound, 1, BEATS)], RATE, replace(SETTING, transport=False))
    np.testing.assert_array_equal(silent, play(tiny, [Take(sound, 1)], RATE, SETTING))
    assert not np.array_equal(silent, play(tiny, [Take(sound, 1, BEATS)], RATE, SETTING))


class Ports(PassthroughStream):
    """Its second port is half as loud, and mono where the first is as its input."""

    def __init__(self) -> None:
        super().__init__(PassthroughConfig(ports=("whole", "half")))
        whole, half = self.spec.ports
        self.spec = replace(self.spec, input_channels=2, ports=(whole, replace(half, channels=1)))

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput]:
        return [replace(output, audio=(output.audio[0], output.audio[1][:1] / 2)) for output in super().step(inputs)]


def test_every_port_is_heard_by_its_name_and_mixed_to_mono() -> None:
    sound = voice(0.3)[0]
    (played,) = play_ports(Ports(), [Take(sound, 0)], RATE, Setting(Fraction(1, 10), 0.1))
    assert list(played) == ["whole", "half"]
    np.testing.assert_array_equal(played["whole"], sound)
    np.testing.assert_array_equal(played["half"], sound / 2)
    np.testing.assert_array_equal(play(Ports(), [Take(sound, 0)], RATE, Setting(Fraction(1, 10), 0.1))[0], sound)


class Mute(PassthroughStream):
    """Takes everything and answers nothing."""

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput]:
        return [replace(output, audio=()) for output in super().step(inputs)]


def test_a_stream_that_does_not_advance_is_given_up() -> None:
    with pytest.raises(RuntimeError, match="do not advance"):
        play(Mute(PassthroughConfig()), [Take(voice(0.1)[0], 0)], RATE, Setting(Fraction(1), 0.5))


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"chunk_seconds": Fraction(1, 30)}, "multiples of 0.04 s up to 3.2 s"),
        ({"chunk_seconds": Fraction(4)}, "up to 3.2 s"),
        ({"visibility_seconds": 0.5}, "-2 s to 0.4 s"),
        ({"visibility_seconds": -2.5}, "-2 s to 0.4 s"),
        ({"parameters": {"warmth": 1.0}}, "guidance, temperature, top_k"),
        ({"parameters": {"temperature": 3.0}}, "use 0 to 2"),
    ],
)
def test_a_setting_that_no_session_may_have_is_refused_with_the_range(
    tiny: HafmStream, change: dict[str, object], remedy: str
) -> None:
    setting = default_setting(tiny.spec)
    check_setting(tiny.spec, setting)
    with pytest.raises(ValueError, match=remedy):
        check_setting(tiny.spec, replace(setting, **change))  # type: ignore[arg-type]
