"""The mge pack that ships, on songs that no training heard and a recording: what is wanted comes out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from backline.corpus.multitrack import four_tracks
from backline.corpus.songs import Composer
from backline.engine.engine import Engine
from backline.evaluation.live import Sound
from backline.measures.spectra import si_sdr
from backline.music.fluidsynth import missing
from backline.music.seeds import HELD_OUT_SEED
from backline.music.stems import TRACKS
from backline.music.world import ENSEMBLE
from backline.packs.pack import load_stream, read_pack
from backline.packs.registry import PackRegistry
from tests.support.playing import play, running

RATE = 48_000
SECONDS = 12
CHUNK, GUARD = Fraction(24, 25), Fraction(12, 25)
GAINS = {"drums": 4.0, "bass": 4.0}  # dB
SUM_DECIBELS = -60.0
LOW = 250.0  # Hz: below it lies most of what a bass plays

pytestmark = pytest.mark.slow
rendered_songs = pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running(mge=load_stream(read_pack(PackRegistry([]).entry("mge").folder))) as engine:
        yield engine


def asked(engine: Engine, song: Sound, query: str) -> list[Sound]:
    """What each port plays to a song, in mono."""
    heard = play(
        engine, "mge", song[np.newaxis], 4_800, sample_rate=RATE, chunk_seconds=CHUNK,
        visibility_seconds=float(CHUNK + GUARD), texts={"query": query}, seed=1,
    )  # fmt: skip
    return [heard.audio(port)[0] for port in range(2)]


def song(number: int) -> NDArray[np.float32]:
    """[track, sample] of a held-out one."""
    return four_tracks(Composer(ENSEMBLE, RATE).song(HELD_OUT_SEED + 40 + number), RATE)[:, : SECONDS * RATE]


def low_share(sound: Sound) -> float:
    """Of a sound's power, what lies below LOW."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(power[: int(LOW * len(sound) / RATE)].sum() / power.sum())


@rendered_songs
def test_what_is_asked_for_comes_out_of_held_out_songs(engine: Engine) -> None:
    gains: dict[str, list[float]] = {track: [] for track in GAINS}
    for truth in map(song, range(3)):
        mixture = truth.sum(axis=0)
        for track, told in gains.items():
            source, rest = asked(engine, mixture, f"the {track}")
            assert 20 * np.log10(np.std(source + rest - mixture) / np.std(mixture)) < SUM_DECIBELS
            true = truth[TRACKS.index(track)]
            told.append(si_sdr(source, true) - si_sdr(mixture, true))
    means = {track: float(np.mean(values)) for track, values in gains.items()}
    assert all(means[track] > GAINS[track] for track in GAINS), means


def test_a_bass_comes_out_of_a_recorded_band(engine: Engine, recordings: Path) -> None:
    rest, rate = soundfile.read(recordings / "rock_rest.ogg", dtype="float32", always_2d=True)
    guitar, _ = soundfile.read(recordings / "rock_guitar.ogg", dtype="float32", always_2d=True)
    band = (rest[: SECONDS * rate] + guitar[: SECONDS * rate]).mean(axis=1)
    mixture = soxr.resample(band, rate, RATE).astype(np.float32)
    source, rest = asked(engine, mixture, "the bass")
    assert low_share(source) > 0.8 > low_share(mixture)
    assert 20 * np.log10(np.std(source + rest - mixture) / np.std(mixture)) < SUM_DECIBELS


def test_silence_stays_silence(engine: Engine) -> None:
    assert not any(port.any() for port in asked(engine, np.zeros(3 * RATE, np.float32), "the bass"))
