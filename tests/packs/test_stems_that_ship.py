"""The stems pack that ships, on songs that no training heard: each track is closer to the truth than the mixture is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from backline.evaluation.live import Sound, Take, default_setting, play_ports
from backline.measures.spectra import si_sdr
from backline.models.stream import Stream
from backline.music.fluidsynth import missing
from backline.music.seeds import HELD_OUT_SEED
from backline.music.stems import TRACKS, song_stems
from backline.music.world import BAND
from backline.packs.pack import load_stream, read_pack
from backline.packs.registry import PackRegistry

RATE = 48_000
GAINS = {"vocals": 3.0, "drums": 5.0, "bass": 5.0, "other": 3.0}  # dB
SUM_DECIBELS = -60.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stream() -> Stream:
    return load_stream(read_pack(PackRegistry([]).entry("stems").folder))


def separated(stream: Stream, mixture: Sound) -> dict[str, Sound]:
    (ports,) = play_ports(stream, [Take(mixture, 1)], RATE, default_setting(stream.spec))
    return ports


def sum_error(stems: dict[str, Sound], mixture: NDArray[np.float32]) -> float:
    """Decibels of what the stems' sum lacks of the mixture."""
    rest = np.sum(list(stems.values()), axis=0) - mixture
    return 10 * float(np.log10(np.sum(rest**2) / np.sum(mixture**2)))


@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_every_track_of_held_out_songs_comes_out(stream: Stream) -> None:
    gains: dict[str, list[float]] = {track: [] for track in TRACKS}
    for seed in (HELD_OUT_SEED + 40, HELD_OUT_SEED + 41, HELD_OUT_SEED + 42):
        truth = song_stems(seed, BAND)[:, : 12 * RATE]
        mixture = truth.sum(0)
        stems = separated(stream, mixture)
        assert list(stems) == list(TRACKS)
        assert sum_error(stems, mixture) < SUM_DECIBELS
        for track, true in zip(TRACKS, truth, strict=True):
            gains[track].append(si_sdr(stems[track], true) - si_sdr(mixture, true))
    means = {track: float(np.mean(values)) for track, values in gains.items()}
    assert all(means[track] > GAINS[track] for track in TRACKS), means


def test_a_recording_is_shared_among_the_stems(stream: Stream, recordings: Path) -> None:
    audio, rate = soundfile.read(recordings / "hungarian_dance.ogg", dtype="float32", always_2d=True)
    mixture = soxr.resample(audio[: 6 * rate].mean(axis=1), rate, RATE).astype(np.float32)
    stems = separated(stream, mixture)
    assert sum_error(stems, mixture) < SUM_DECIBELS
    assert all(np.abs(stem).max() < 1 for stem in stems.values())


def test_silence_stays_silence(stream: Stream) -> None:
    stems = separated(stream, np.zeros(3 * RATE, np.float32))
    assert not any(stem.any() for stem in stems.values())
