"""Separation as a stream: through the engine it gives what the file gives, however it is cut, and no more is held."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.engine.errors import BadInput
from backline.kernels.resample import Resampler
from backline.models.rows import raised
from backline.models.stream import Audio, ChunkInput, ChunkOutput, SessionConfig
from backline.models.windowed.consistency import MASK, OFF, RESIDUAL
from backline.models.windowed.offline import separate_file
from backline.models.windowed.separator import Window
from backline.models.windowed.settings import WindowedSettings, make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from tests.support.bands import TRACKS, BandSeparator
from tests.support.playing import open_session, play, running, write_blocks

RATE = 8_000  # of the separator in most tests, so that they are fast
FRAME = RATE * 2 // 25
SETTINGS = WindowedSettings()


def make_stream(rate: int = RATE, settings: WindowedSettings = SETTINGS) -> WindowedStream:
    return WindowedStream(BandSeparator(rate), settings, resident_bytes=1_000)


def music(samples: int, channels: int = 2, seed: int = 0, rate: int = RATE) -> Audio:
    """Noise in bursts and gliding tones, different in every channel."""
    random, time = np.random.default_rng(seed), np.arange(samples) / rate
    bursts = random.standard_normal((samples, channels)).T * np.exp(-8 * (time % 0.37)) * 0.2
    tones = 0.3 * np.sin(2 * np.pi * 200 * time * (1 + 0.1 * np.sin(time)))
    return (bursts + tones * np.linspace(0.5, 1.0, channels)[:, np.newaxis]).astype(np.float32)


def seconds(**lengths: float) -> dict[str, object]:
    """Chunk and guard of a session as the engine wants them."""
    chunk = Fraction(lengths["chunk"]).limit_denominator(1_000)
    return {"chunk_seconds": chunk, "visibility_seconds": float(chunk) + lengths["guard"]}


def whole(audio: Audio, chunk: float, guard: float, rate: int = RATE, **parameters: float) -> Audio:
    """The oracle's stems [track, channel, sample]."""
    separator = BandSeparator(rate)
    frame = separator.frame_samples
    windows = Windows(50 * frame, round(chunk * rate), round(guard * rate), rate // 25, frame)
    return separate_file(separator, audio, windows, make_finish(SETTINGS, parameters))


def streamed(audio: Audio, block: int, chunk: float, guard: float, rate: int = RATE, **changes: object) -> Audio:
    """[track, channel, sample] of `audio` at `sample_rate`, through an engine, with a separator at `rate`."""
    with running(stems=make_stream(rate)) as engine:
        heard = play(
            engine, "stems", audio, block, **{"sample_rate": rate, **seconds(chunk=chunk, guard=guard), **changes}
        )
    return np.stack([heard.audio(port) for port in range(len(TRACKS))])


@pytest.mark.parametrize(
    ("chunk", "guard", "channels", "parameters"),
    [
        (0.96, 0.48, 2, {}),
        (0.08, 0.08, 1, {}),
        (0.4, 0.24, 2, {"consistency": OFF}),
        (1.2, 0.48, 1, {"consistency": MASK}),
        (3.04, 0.48, 2, {"transients": 1.0}),
        (0.96, 0.08, 2, {"consistency": MASK, "transients": 0.5}),
    ],
)
def test_the_stream_gives_what_the_whole_file_gives(
    chunk: float, guard: float, channels: int, parameters: dict[str, float]
) -> None:
    audio = music(7 * RATE + 123, channels)
    found = streamed(audio, 777, chunk, guard, parameters=parameters)
    expected = whole(audio, chunk, guard, **parameters)
    assert found.shape == expected.shape == (4, channels, 7 * RATE + 123)
    assert np.abs(expected).max(axis=(1, 2)).min() > 0.02, "every stem has something to compare"
    assert np.abs(found - expected).max() < 1e-5


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 4_096), min_size=1, max_size=5), samples=st.integers(1, 3 * RATE))
def test_it_does_not_matter_how_the_input_is_cut(sizes: list[int], samples: int) -> None:
    audio = music(samples)
    with running(stems=make_stream()) as engine:
        session, heard = open_session(engine, "stems", sample_rate=RATE, **seconds(chunk=0.48, guard=0.16))
        at = 0
        while at < samples:
            size = sizes[at % len(sizes)]
            session.write(at, audio[:, at : at + size])
            at += size
        session.close_input()
        heard.finished()
    found = np.stack([heard.audio(port) for port in range(4)])
    assert found.shape[2] == samples
    assert np.abs(found - whole(audio, 0.48, 0.16)).max() < 1e-5


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 2), (44_100, 1), (44_100, 2), (96_000, 1), (192_000, 2)])
def test_at_any_rate_it_is_the_whole_file_resampled_there_and_back(rate: int, channels: int) -> None:
    audio = music(int(2.5 * rate), channels, rate=rate)
    found = streamed(audio, 4_096, 0.96, 0.48, 48_000, sample_rate=rate)
    at_48k = resampled(audio, rate, 48_000, 48_000 * 4)
    expected = [resampled(stem, 48_000, rate, audio.shape[1]) for stem in whole(at_48k, 0.96, 0.48, 48_000)]
    assert np.abs(found - np.stack(expected)).max() < 1e-5


def resampled(audio: Audio, rate_in: int, rate_out: int, length: int) -> Audio:
    """`length` samples at `rate_out`, in place; silence follows the input."""
    if rate_in == rate_out:
        return np.pad(audio, ((0, 0), (0, max(0, length - audio.shape[1]))))[:, :length]
    resampler = Resampler(rate_in, rate_out, len(audio))
    needed = resampler.input_needed(length + resampler.delay_out)
    padded = np.pad(audio, ((0, 0), (0, max(0, needed - audio.shape[1]))))
    return resampler.process(padded)[:, resampler.delay_out :][:, :length]


@pytest.mark.parametrize("samples", [1, FRAME - 1, RATE])
def test_a_clip_shorter_than_a_window_comes_out_whole(samples: int) -> None:
    audio = music(samples)
    found = streamed(audio, 512, 0.96, 0.48)
    assert found.shape == (4, 2, samples)
    assert np.abs(found.sum(axis=0) - audio).max() < 1e-5
    assert np.abs(found - whole(audio, 0.96, 0.48)).max() < 1e-5


@pytest.mark.parametrize("mode", [RESIDUAL, MASK])
@pytest.mark.parametrize("transients", [0.0, 1.0])
def test_the_stems_sum_to_the_mixture_in_every_channel(mode: int, transients: float) -> None:
    audio = music(5 * RATE, channels=3)
    parameters = {"consistency": mode, "transients": transients}
    found = streamed(audio, 1_000, 0.96, 0.48, parameters=parameters)
    assert np.sqrt(((found.sum(axis=0) - audio) ** 2).mean() / (audio**2).mean()) < 1e-5, "-100 dB"


def test_digital_silence_asks_the_separator_for_nothing_and_is_silent() -> None:
    stream = make_stream()
    calls = stream.separator.calls  # type: ignore[attr-defined]
    audio = music(12 * RATE, channels=1)
    audio[:, : 3 * RATE] = 0
    audio[:, 5 * RATE :] = 0
    with running(stems=stream) as engine:
        calls.clear()
        heard = play(engine, "stems", audio, 480, sample_rate=RATE, **seconds(chunk=0.8, guard=0.4))
    found = np.stack([heard.audio(port) for port in range(4)])
    # The windows of 4 s that end after 3.0 s and begin before 5.0 s: those of chunks 3 (ends at 3.6 s) to 9 (at 8.4 s).
    assert calls == [10] * 7
    assert not found[..., : 2 * RATE].any()
    assert not found[..., 10 * RATE :].any()
    assert np.abs(found - whole(audio, 0.8, 0.4)).max() < 1e-5


def test_the_first_window_forces_no_silence_where_there_is_sound() -> None:
    stream = make_stream()
    calls = stream.separator.calls  # type: ignore[attr-defined]
    row = stream.open(config(chunk=0.96, guard=0.48))
    feed(stream, row, 3)
    assert calls == [18, 12, 12], "the chunk and its guard, then the chunks, in frames of 80 ms"


def test_what_was_said_of_one_window_is_kept_in_the_next() -> None:
    stream = make_stream()
    row = stream.open(config(chunk=0.96, guard=0.48))
    feed(stream, row, 4)
    before = stream._rows[row].history
    (output,) = feed(stream, row, 1)
    after = stream._rows[row].history
    np.testing.assert_array_equal(after.codes[..., :38], before.codes[..., 12:])
    assert output.first_frame == 4 * 12
    assert output.frames is not None
    # The chunk's frames end before the guard's six; ports, paths and codebooks lie side by side.
    np.testing.assert_array_equal(output.frames, after.codes.reshape(24, 50)[:, 32:44].T)


def test_forced_codes_change_what_is_heard() -> None:
    audio = music(4 * RATE, channels=1)
    separator = BandSeparator(RATE)
    (before,) = separator.separate([Window(0, music(4 * RATE, channels=1, seed=1), separator.silence(), 50)])
    history = raised(before).history
    forced, free = separator.separate([Window(row, audio, history, new) for row, new in ((0, 12), (1, 50))])
    assert np.abs(raised(forced).estimates - raised(free).estimates)[..., -12 * FRAME :].max() > 1e-3


def config(channels: int = 2, **lengths: float) -> SessionConfig:
    return SessionConfig(RATE, channels, seed=0, **seconds(**lengths))  # type: ignore[arg-type]


def feed(
    stream: WindowedStream, row: int, chunks: int, channels: int = 2, parameters: dict[str, float] | None = None
) -> list[ChunkOutput]:
    """The next chunks of a row, of music that is the same wherever it is asked for."""
    outputs = []
    for _ in range(chunks):
        state = stream._rows[row]
        fed = state.windows.end(state.chunk - 1) if state.chunk else 0
        audio = music(stream.required_input(row), channels, seed=row)[:, fed:]
        outputs += stream.step([ChunkInput(row, audio, None, parameters or {})])
    return outputs


def test_a_row_does_not_grow() -> None:
    stream = make_stream()
    row = stream.open(config(chunk=0.96, guard=0.48))
    feed(stream, row, 1)
    sizes, total = stream.row_bytes(row).other, stream.resident_bytes()
    assert total == 1_000 + sizes > 1_000 + 2 * 4 * RATE * 4
    for _ in range(60):
        feed(stream, row, 1)
        assert stream.row_bytes(row).other == sizes
    assert stream.resident_bytes() == total
    stream.close(row)
    assert stream.resident_bytes() == 1_000


def test_rows_are_independent() -> None:
    alone = make_stream()
    expected = [alone.open(config(chunk=0.96, guard=0.48)), alone.open(config(chunk=0.4, guard=0.16))]
    outputs = [feed(alone, row, 5) for row in expected]
    together = make_stream()
    rows = [together.open(config(chunk=0.96, guard=0.48)), together.open(config(chunk=0.4, guard=0.16))]
    for chunk in range(5):
        inputs = []
        for row in rows:
            state = together._rows[row]
            fed = state.windows.end(chunk - 1) if chunk else 0
            audio = music(together.required_input(row), seed=row)[:, fed:]
            inputs.append(ChunkInput(row, audio, None, {}))
        for row, output in zip(rows, together.step(inputs), strict=True):
            for found, wanted in zip(output.audio, outputs[row][chunk].audio, strict=True):
                np.testing.assert_array_equal(found, wanted)


def test_a_parameter_may_change_between_chunks_without_a_gap() -> None:
    stream = make_stream()
    row = stream.open(config(chunk=0.96, guard=0.48))
    outputs: list[ChunkOutput] = []
    for parameters in ({"consistency": 0.0}, {"consistency": 1.0}, {"consistency": 2.0, "transients": 1.0}):
        outputs += feed(stream, row, 2, parameters=parameters)
    assert [output.position for output in outputs] == [number * 12 * FRAME for number in range(6)]
    total = np.concatenate([np.sum(output.audio, axis=0) for output in outputs], axis=1)
    audio = music(total.shape[1] + RATE, seed=row)[:, : total.shape[1]]
    consistent = slice(2 * 12 * FRAME + RATE // 25, None)  # after the fade from the last chunk that was not
    assert np.abs(total - audio)[:, consistent].max() < 1e-5


@pytest.mark.parametrize(
    ("chunk", "visibility", "guard"),
    [
        (0.96, None, 0.48),  # what a session gets that asks for nothing
        (0.4, None, 0.48),
        (3.04, None, 0.48),
        (0.96, 1.44, 0.48),
        (0.96, 1.28, 0.32),
        (0.96, 1.30, 0.32),  # whole frames
        (0.96, 0.96, 0.08),  # the least guard there is
        (0.96, 0.16, 0.08),
    ],
)
def test_the_latency_is_the_chunk_and_what_its_visibility_leaves_for_the_guard(
    chunk: float, visibility: float | None, guard: float
) -> None:
    stream = make_stream()
    length = Fraction(chunk).limit_denominator(1_000)
    asked = stream.spec.visibility(length) if visibility is None else visibility
    made = SessionConfig(RATE, 2, length, asked, seed=0)
    items = {item.name: item.seconds for item in stream.latency(made)}
    assert sum(items.values()) == pytest.approx(chunk + guard)
    assert items["visibility"] == pytest.approx(min(asked, chunk + guard))
    row = stream.open(made)
    assert stream.required_input(row) == round((chunk + guard) * RATE)
    with running(stems=stream) as engine:
        changes = {"chunk_seconds": length, "visibility_seconds": asked, "offline": False, "sample_rate": 44_100}
        session, _ = open_session(engine, "stems", **changes)
        contract = {item.name: item.seconds for item in session.ledger.items}
        assert contract["visibility"] + contract["front_end"] >= chunk + guard
        session.abort()


def test_what_no_session_can_have_is_refused_by_the_engine() -> None:
    with running(stems=make_stream()) as engine:
        for changes, text in [
            ({"chunk_seconds": Fraction(1)}, "chunk is 1 s: use a multiple of 0.08 s up to 3.04 s"),
            ({"chunk_seconds": Fraction(16, 5)}, "up to 3.04 s"),
            ({**seconds(chunk=0.96, guard=0.56)}, "visibility is 1.52 s: use 0.16 to 1.44 s"),
            ({"visibility_seconds": -1.0}, "visibility is -1 s: use 0.16 to"),
            ({**seconds(chunk=0.96, guard=0.48), "parameters": {"consistency": 3.0}}, "use 0 to 2"),
        ]:
            with pytest.raises(BadInput, match=text):
                open_session(engine, "stems", **changes)


def test_warming_up_measures_and_leaves_nothing_behind() -> None:
    stream = make_stream()
    length = stream.spec.default_chunk_seconds
    made = SessionConfig(48_000, 2, length, stream.spec.visibility(length), seed=0)
    assert 0 < stream.warm_up(made) < 1
    assert stream.resident_bytes() == 1_000
    rows = [stream.open(made) for _ in range(stream.capacity)]
    with pytest.raises(RuntimeError, match="all 8 rows"):
        stream.open(made)
    stream.close(rows[3])
    assert stream.open(made) == 3


@pytest.mark.slow
def test_twenty_minutes_stream_as_they_are_separated_offline() -> None:
    minute = music(60 * RATE, channels=1)
    audio = np.tile(minute, 20)
    with running(stems=make_stream()) as engine:
        session, heard = open_session(engine, "stems", channels=1, sample_rate=RATE, **seconds(chunk=3.04, guard=0.48))
        write_blocks(session, audio, 4_096)
        session.close_input()
        heard.finished()
    found = np.stack([heard.audio(port) for port in range(4)])
    assert found.shape == (4, 1, audio.shape[1])
    assert np.abs(found - whole(audio, 3.04, 0.48)).max() < 1e-5


def test_live_every_port_comes_at_the_latency_that_the_ledger_says() -> None:
    audio = music(4 * RATE)
    with running(stems=make_stream()) as engine:
        heard = play(engine, "stems", audio, 800, sample_rate=RATE, offline=False, **seconds(chunk=0.96, guard=0.48))
    assert not heard.warnings("late_output")
    found = np.stack([heard.audio(port) for port in range(4)])
    assert np.abs(found - whole(audio, 0.96, 0.48)).max() < 1e-5
