"""The way between the session's rate and the model's, against resampling the whole signal at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.conversion import InputPath, OutputPath
from backline.engine.errors import BadInput
from backline.kernels.resample import Resampler
from backline.models.stream import Audio, ChunkOutput, Port, StreamSpec
from tests.support.playing import make_config

RATES = st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])


def make_spec(rate: int | None, channels: int | None = 2) -> StreamSpec:
    return StreamSpec(rate, rate, channels, (Port("a", 2), Port("b", 1)))


def noise(channels: int, count: int) -> Audio:
    return np.random.default_rng(count).standard_normal((channels, count)).astype(np.float32)


def resampled(audio: Audio, rate_in: int, rate_out: int) -> Audio:
    """The whole signal at once, without the filter's delay."""
    resampler = Resampler(rate_in, rate_out, audio.shape[0])
    return resampler.process(audio)[:, resampler.delay_out :]


@given(rate=RATES, model_rate=RATES, advances=st.lists(st.integers(-50, 900), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_the_model_gets_exactly_what_it_requires_as_soon_as_it_can(
    rate: int, model_rate: int, advances: list[int]
) -> None:
    path = InputPath(make_spec(model_rate), make_config(sample_rate=rate), 100_000)
    audio = noise(2, 90_000)
    expected = resampled(audio, rate, model_rate)
    required, highest, written = -20, 0, 0
    for advance in advances:
        required += advance
        needed = path.needed(required)
        if needed > written:
            path.write(audio[:, written:needed])
            written = needed
        taken = path.take(required)
        assert path.ring.available == written - path.ring.read_count
        assert np.array_equal(taken, expected[:, highest : max(highest, required)])
        highest = max(highest, required)
    if highest:  # one sample less would not have been enough
        delay = Resampler(rate, model_rate, 1).delay_out
        assert -(-(written - 1) * model_rate // rate) < highest + delay


def test_a_closed_input_is_followed_by_silence() -> None:
    path = InputPath(make_spec(None), make_config(), 100)
    path.write(np.ones((2, 30), np.float32))
    assert path.take(50)[0].tolist() == [1.0] * 30 + [0.0] * 20


@given(rate=RATES, model_rate=RATES, chunks=st.lists(st.integers(0, 900), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_output_is_the_models_whole_output_resampled_and_cut_to_length(
    rate: int, model_rate: int, chunks: list[int]
) -> None:
    path = OutputPath(make_spec(model_rate), make_config(sample_rate=rate), [2, 1])
    audio = noise(3, sum(chunks))
    at, parts = 0, []
    for count in chunks:
        block = audio[:, at : at + count]
        start = path.end
        parts.append(path.add(ChunkOutput(0, at, (block[:2], block[2:]))))
        assert path.end == start + parts[-1].shape[1]
        at += count
    length = sum(chunks) * rate // model_rate  # of the session's samples, the model has said all about so many
    assert path.covers(length)
    assert not path.covers(length + 1)
    parts.append(path.finish(length))
    output = np.concatenate(parts, axis=1)[:, :length]
    assert output.shape[1] == length
    padded = np.pad(audio, ((0, 0), (0, 1_000)))
    assert np.array_equal(output, resampled(padded, model_rate, rate)[:, :length])
    assert [part.shape[0] for part in path.split(output)] == [2, 1]


def test_channels_that_no_down_mix_leads_to_are_refused() -> None:
    with pytest.raises(BadInput, match="takes 4 channels and the session has 6"):
        InputPath(make_spec(None, channels=4), make_config(channels=6), 100)


def test_a_mono_session_goes_to_every_channel_of_the_model() -> None:
    path = InputPath(make_spec(None, channels=4), make_config(channels=1), 100)
    path.write(np.arange(6, dtype=np.float32)[np.newaxis])
    assert path.take(6).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]] * 4


def test_the_ring_holds_the_models_channels_where_it_takes_fewer_than_the_session_has() -> None:
    spec = make_spec(48_000, channels=1)
    path = InputPath(spec, make_config(sample_rate=192_000, channels=64), 4_096)
    assert path.ring.channels == 1
    path.write_silence(100)
    assert path.ring.available == 100
    assert InputPath(make_spec(None, channels=None), make_config(channels=64), 10).ring.channels == 64


def test_delays_are_the_filters() -> None:
    spec = StreamSpec(24_000, 24_000, 1, (Port("a", 1),))
    config = make_config()
    assert InputPath(spec, config, 100).delay_seconds == pytest.approx(64 / 24_000)
    assert OutputPath(spec, config, [1]).delay_seconds == pytest.approx(64 / 24_000)
