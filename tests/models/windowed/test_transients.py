"""Blurred drums get their attacks back from the mixture, and nobody else's."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from backline.models.windowed.stft import Transform
from backline.models.windowed.transients import restored
from backline.music import fluidsynth
from backline.music.songs import song

Audio = NDArray[np.float32]
RATE = 48_000
DRUMS = 1


def hits(seconds: float = 2.0) -> Audio:
    """Noise that begins at once and dies away, four times a second."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (np.random.default_rng(0).standard_normal(len(time)) * np.exp(-30 * (time % 0.25)) * 0.3).astype(np.float32)


def tones(seconds: float = 2.0) -> Audio:
    """[track, sample] three steady sounds."""
    time = np.arange(int(seconds * RATE)) / RATE
    return np.stack([0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (330.0, 82.0, 1_000.0)]).astype(np.float32)


def blurred(drums: Audio, seconds: float = 0.06) -> Audio:
    """The same spectra, their power spread over time as a codec of few tokens does."""
    transform = Transform(2_048, 512)
    spectra = transform.analyse(drums[None])
    power = uniform_filter1d(np.abs(spectra).astype(np.float64) ** 2, round(seconds * RATE / 512), axis=1)
    smooth = np.sqrt(np.maximum(power, 0)) * np.exp(1j * np.angle(spectra))
    return transform.synthesise(smooth.astype(np.complex64), len(drums))[0]


def separated(drums: Audio, others: Audio) -> tuple[NDArray[np.float32], Audio]:
    """Stems [track, channel, sample] with blurred drums, and their sum [channel, sample]; the others have the rest."""
    mixture, found = drums + others.sum(axis=0), blurred(drums)
    rest = (drums - found) / len(others)
    stems = np.insert(others + rest, DRUMS, found, axis=0)
    return np.repeat(stems[:, None], 2, axis=1).astype(np.float32), np.repeat(mixture[None], 2, axis=0)


def rise_error(found: Audio, truth: Audio) -> float:
    """How far the level, of 2 ms, rises otherwise than the truth does within 5 ms, of all that the truth rises."""
    rises = []
    for audio in (found, truth):
        level = np.sqrt(uniform_filter1d(audio.astype(np.float64) ** 2, 96))[::48]
        rises.append(np.maximum(level[5:] - level[:-5], 0))
    return float(np.abs(rises[0] - rises[1]).sum() / rises[1].sum())


def distortion(found: Audio, truth: Audio) -> float:
    return float(((found - truth) ** 2).sum() / (truth**2).sum())


def test_attacks_come_closer_to_the_truth_the_more_the_closer() -> None:
    drums = hits()
    stems, mixture = separated(drums, tones())
    found = [restored(stems, mixture, DRUMS, amount)[DRUMS, 0] for amount in (0.5, 1.0)]
    rises = [rise_error(audio, drums) for audio in (stems[DRUMS, 0], *found)]
    errors = [distortion(audio, drums) for audio in (stems[DRUMS, 0], *found)]
    assert rises[2] < rises[1] < rises[0]
    assert rises[2] < 0.8 * rises[0]
    assert errors[2] < errors[1] < errors[0]


def test_what_the_drums_take_the_others_lose() -> None:
    stems, mixture = separated(hits(), tones())
    found = restored(stems, mixture, DRUMS, 1.0)
    assert np.abs(found - stems).max() > 0.01
    assert np.abs(found.sum(axis=0) - mixture).max() < 1e-5


def test_without_drums_nothing_changes() -> None:
    others = tones()
    others[2] += hits()  # a guitar that is plucked
    stems = np.insert(others, DRUMS, 0, axis=0)[:, None].astype(np.float32)
    found = restored(stems, stems.sum(axis=0), DRUMS, 1.0)
    assert np.abs(found - stems).max() < 1e-4


def test_silence_stays_silence() -> None:
    assert not restored(np.zeros((4, 1, 5_000), np.float32), np.zeros((1, 5_000), np.float32), DRUMS, 1.0).any()


@pytest.mark.slow
@pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))
def test_the_drums_of_a_composed_song_come_closer_to_the_truth() -> None:
    made, part = song(2, sample_rate=RATE), slice(5 * RATE, 9 * RATE)
    drums = made.stems["drums"][part]
    others = np.stack([made.vocal, made.stems["bass"], made.stems["comp"] + made.stems["pad"]])[:, part]
    stems, mixture = separated(drums, others)
    found = restored(stems, mixture, DRUMS, 1.0)[DRUMS, 0]
    assert rise_error(found, drums) < rise_error(stems[DRUMS, 0], drums)
    assert distortion(found, drums) < distortion(stems[DRUMS, 0], drums)
