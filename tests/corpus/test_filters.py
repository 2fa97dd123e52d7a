"""Each filter fails exactly the spans that the papers would leave out."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from backline.corpus.corpus import outside
from backline.corpus.filters import ACTIVITY, CLIPPING, ENERGY, LOUD_VOICE, QUIET, SILENCE, Cells, Measures, clip_cells

RATE = 48_000


def noise(seconds: float, dbfs: float, channels: int = 2) -> np.ndarray:
    """[channel, sample] of that root mean square."""
    draw = np.random.default_rng(round(1000 * seconds))
    return (10 ** (dbfs / 20) * draw.standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def failing(stems: dict[str, np.ndarray], voice: str = ENERGY, block: int = RATE) -> dict[str, tuple]:
    measures = Measures(voice)
    samples = next(iter(stems.values())).shape[1]
    for start in range(0, samples, block):
        blocks = {label: audio[:, start : start + block] for label, audio in stems.items()}
        measures.hear_mix(list(blocks.values()))
        measures.hear_stems(blocks)
    assert measures.samples == samples
    return measures.failing()


def test_a_silent_span_fails_silence_and_a_rest_of_a_second_does_not() -> None:
    music = noise(25, -20)
    music[:, : 10 * RATE] = 0
    music[:, 15 * RATE : 16 * RATE] = 0
    assert failing({"mix": music}) == {SILENCE: ((0.0, 10.0),)}


def test_clipped_stems_fail_clipping_even_if_others_do_not() -> None:
    loud = np.clip(noise(20, -3), -1, 1)
    loud[:, : 10 * RATE] *= 0.5
    assert failing({"drums": loud, "bass": noise(20, -20)}) == {CLIPPING: ((10.0, 20.0),)}


def test_hafms_filters_are_about_voice_and_instrumental() -> None:
    voice, drums, bass = noise(30, -20), noise(30, -25), noise(30, -24)
    drums[:, 10 * RATE : 20 * RATE] *= 0.1
    bass[:, 10 * RATE : 20 * RATE] *= 0.1
    assert failing({"vocals": voice, "drums": drums, "bass": bass}) == {
        QUIET: ((10.0, 20.0),),
        LOUD_VOICE: ((10.0, 20.0),),
    }
    # The instrumental is drums and bass together: -21.5 dB, where each alone would fail.
    assert QUIET in failing({"vocals": voice[:, : 10 * RATE], "drums": noise(10, -25.1)[:1]})
    assert LOUD_VOICE not in failing({"vocals": noise(10, -15.2), "drums": noise(10, -20)})
    assert LOUD_VOICE in failing({"vocals": noise(10, -14.8), "drums": noise(10, -20)})
    assert failing({"guitar": noise(10, -40), "rest": noise(10, -40)}) == {}  # nobody sings in it


def test_voice_by_energy_is_merged_and_lasts_two_seconds() -> None:
    voice = noise(20, -20, channels=1)
    for begin, end in ((0, 2), (4, 4.2), (7, 10), (11.5, 13)):
        voice[:, round(begin * RATE) : round(end * RATE)] = 0
    # sung: 2 to 7, with a rest of .2 s; 10 to 11.5, too short; 13 to 20
    found = failing({"vocals": voice, "drums": noise(20, -20)})
    assert found == {ENERGY: ((0.0, 2.0), (7.0, 13.0))}
    assert {type(edge) for span in found[ENERGY] for edge in span} == {float}, "which corpus.json can hold"


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=8))
def test_what_is_measured_does_not_depend_on_blocks(sizes: list[int]) -> None:
    values, cells, whole = np.random.default_rng(0).random(sum(sizes)), Cells(), Cells()
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        cells.add(part)
    whole.add(values)
    np.testing.assert_allclose(cells.sums(), whole.sums())
    assert whole.sums().sum() == pytest.approx(values.sum())


def test_the_hash_is_of_the_sound_not_of_the_blocks() -> None:
    audio = noise(2, -20)
    hashes = set()
    for block in (RATE, 1_000, 777):
        measures = Measures(ENERGY)
        for start in range(0, audio.shape[1], block):
            measures.hear_mix([audio[:, start : start + block]])
        hashes.add(measures.sha256)
    assert len(hashes) == 1


def test_a_short_end_belongs_to_the_clip_before() -> None:
    assert clip_cells(205) == [slice(0, 100), slice(100, 205)]
    assert clip_cells(210) == [slice(0, 100), slice(100, 200), slice(200, 210)]
    assert clip_cells(3) == [slice(0, 3)]


@pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="pip install 'backline[corpus]'")
def test_silero_hears_people_and_no_instruments(recordings: Path) -> None:
    def read(name: str) -> np.ndarray:
        audio, rate = soundfile.read(recordings / name, dtype="float32", always_2d=True)
        return soxr.resample(audio.mean(axis=1), rate, RATE)[np.newaxis].astype(np.float32)

    sung, played = read("singing_woman.flac"), read("rock_guitar.ogg")
    silence = np.zeros((1, 5 * RATE), np.float32)
    voice = np.concatenate([silence, sung, silence], axis=1)
    seconds = voice.shape[1] / RATE
    heard = outside(
        failing({"vocals": voice, "drums": noise(seconds, -30)[:, : voice.shape[1]]}, ACTIVITY)[ACTIVITY], seconds
    )
    assert all(begin >= 4.8 and end <= seconds - 4.5 for begin, end in heard)
    assert sum(end - begin for begin, end in heard) > 0.6 * sung.shape[1] / RATE
    found = failing({"vocals": played, "drums": noise(30, -30)[:, : played.shape[1]]}, ACTIVITY)
    assert found[ACTIVITY] == ((0.0, 30.0),)
