"""Any separator is a stream: of any tracks, of every channel by itself, asked for the windows of all rows at once."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import scipy.fft

from backline.models.rows import each
from backline.models.stream import ChunkInput, RowFailed, SessionConfig
from backline.models.windowed.consistency import MASK, OFF, RESIDUAL
from backline.models.windowed.offline import separate_file
from backline.models.windowed.separator import History, Separated, Window
from backline.models.windowed.settings import WindowedSettings, make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from tests.models.windowed.test_stream import music
from tests.support.playing import play, running

RATE, FRAME = 8_000, 640
SETTINGS = WindowedSettings()
CUT = {"sample_rate": RATE, "chunk_seconds": Fraction(24, 25), "visibility_seconds": 1.44}
SESSION = SessionConfig(RATE, 2, Fraction(24, 25), 1.44, seed=0)


class Halves:
    """The lower and the upper half of each channel's spectrum, each a little too loud; it says nothing of them."""

    device = "cpu"
    sample_rate, frame_samples, window_frames = RATE, FRAME, 50
    tracks = ("low", "high")

    def __init__(self) -> None:
        self.calls: list[list[int]] = []  # the rows of every call

    def silence(self) -> History:
        return History(np.zeros((0, self.window_frames), np.int64))

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        self.calls.append([window.row for window in windows])
        return each(self._separate, windows)

    def _separate(self, window: Window) -> Separated:
        if np.abs(window.audio).max() > 10:
            raise OverflowError("too loud")
        spectrum = scipy.fft.rfft(window.audio)
        low = np.arange(spectrum.shape[1]) < spectrum.shape[1] // 2
        halves = [1.1 * scipy.fft.irfft(spectrum * share, window.audio.shape[1]) for share in (low, ~low)]
        return Separated(np.stack(halves).astype(np.float32), self.silence())


def halved() -> WindowedStream:
    return WindowedStream(Halves(), SETTINGS, resident_bytes=0)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("mode", [OFF, RESIDUAL, MASK])
def test_the_stream_of_two_tracks_gives_what_the_whole_file_gives_in_every_channel(channels: int, mode: int) -> None:
    audio = music(5 * RATE + 123, channels)
    windows = Windows(50 * FRAME, 12 * FRAME, 6 * FRAME, RATE // 25, FRAME)
    expected = separate_file(Halves(), audio, windows, make_finish(SETTINGS, {"consistency": mode}))
    with running(halves=halved()) as engine:
        heard = play(engine, "halves", audio, 777, **CUT, parameters={"consistency": mode})
    found = np.stack([heard.audio(port) for port in range(2)])
    assert found.shape == expected.shape == (2, channels, 5 * RATE + 123)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(expected).max(axis=(1, 2)).min() > 0.02, "every track has something to compare"
    if mode != OFF:
        assert np.abs(found.sum(axis=0) - audio).max() < 1e-5


def test_channels_out_of_phase_are_estimated_as_they_are() -> None:
    voice = music(4 * RATE, channels=1)
    tracks = []
    for sign in (1, -1):
        with running(halves=halved()) as engine:
            heard = play(engine, "halves", np.concatenate([voice, sign * voice]), 777, **CUT)
        tracks.append(np.stack([heard.audio(port) for port in range(2)]))
    np.testing.assert_array_equal(tracks[1][:, 0], tracks[0][:, 0])
    np.testing.assert_array_equal(tracks[1][:, 1], -tracks[0][:, 1])


def test_attacks_are_offered_only_to_drums() -> None:
    assert [parameter.name for parameter in halved().spec.parameters] == ["consistency"]


def test_all_rows_are_one_call_and_one_that_fails_ends_alone() -> None:
    stream = halved()
    rows = [stream.open(SESSION) for _ in range(4)]
    audios = [music(stream.required_input(row), seed=row) for row in rows]
    audios[1] = 100 * audios[1]
    audios[3] = 0 * audios[3]
    inputs = [ChunkInput(row, audio, None, {}) for row, audio in zip(rows, audios, strict=True)]
    answers = stream.step(inputs)
    assert stream.separator.calls == [[0, 1, 2]], "silence is not asked about"  # type: ignore[attr-defined]
    failed = answers[1]
    assert isinstance(failed, RowFailed)
    assert isinstance(failed.error, OverflowError)
    alone = halved()
    alone.open(SESSION)
    alone.open(SESSION)
    assert alone.open(SESSION) == 2
    (expected,) = alone.step([inputs[2]])
    for found, wanted in zip(answers[2].audio, expected.audio, strict=True):  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, wanted)
    assert not np.any(answers[3].audio)  # type: ignore[union-attr]


def test_where_the_separator_itself_fails_no_row_has_moved() -> None:
    stream = halved()
    row = stream.open(SESSION)
    given = [ChunkInput(row, music(stream.required_input(row)), None, {})]
    working = stream.separator.separate
    stream.separator.separate = lambda windows: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        stream.step(given)
    stream.separator.separate = working  # type: ignore[method-assign]
    fresh = halved()
    fresh.open(SESSION)
    np.testing.assert_array_equal(stream.step(given)[0].audio, fresh.step(given)[0].audio)  # type: ignore[union-attr]
