"""The named worlds: the older ones sound for ever as they did when packs were trained in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music import fluidsynth, sources, vocoder
from backline.music.seeds import TEST_SEED
from backline.music.songs import Song, song
from backline.music.speakers import FOLDER
from backline.music.world import WORLDS

pytestmark = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))
no_people = vocoder.missing() or (None if FOLDER.is_dir() else "klettres-data is not installed")

# Of the song of seed 1 at 24 kHz: its voice, then its stems, as `sketch` has them.
SKETCHES = {
    "narrow": [0.302410, 0.005063, 0.030164, -0.040533, 0.000000],
    "trio": [-0.118776, -0.002126, -0.094253, 0.010249, 0.000000],
    "band": [0.078709, -0.024338, -0.035515, 0.039911, -0.054009],
    "pop": [-0.089835, -0.039734, 0.031100, -0.007656, 0.013955],
    "wide": [0.117741, 0.059496, 0.035567, 0.049436, 0.059680],
    "people": [-0.075243, -0.024338, -0.035515, 0.039911, -0.054009],
}


def sketch(sound: NDArray[np.float32]) -> float:
    """A sound's product with fixed noise: every sample has a part in it, and another machine's rounding has none."""
    noise = np.random.default_rng(5).standard_normal(len(sound))
    return float(noise @ sound / np.sqrt(len(sound)))


def sketches(made: Song) -> list[float]:
    return [sketch(sound) for sound in (made.vocal, *made.stems.values())]


@pytest.mark.slow
@pytest.mark.skipif(no_people is not None, reason=str(no_people))
@pytest.mark.skipif(sources.missing(WORLDS["open"]) is not None, reason=str(sources.missing(WORLDS["open"])))
def test_a_song_of_the_open_world_is_the_same_each_time_and_its_stems_sum_to_its_band() -> None:
    world = replace(WORLDS["open"], forms=("short",))
    for seed in (5, TEST_SEED + 1):
        made, again = song(seed, world), song(seed, world)
        assert sketches(made) == sketches(again)
        np.testing.assert_allclose(np.sum(list(made.stems.values()), axis=0), made.accompaniment, atol=1e-5)
        assert np.abs(made.mix).max() <= 0.951
        assert np.sqrt(np.mean(made.accompaniment**2)) > 0.02


def test_what_a_world_lacks_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    told = sources.missing(WORLDS["open"])
    assert told is not None
    assert "apt-get install hydrogen-data" in told
    assert sources.missing(WORLDS["band"]) is None


@pytest.mark.parametrize("name", SKETCHES)
def test_the_samples_of_an_older_world_never_change(name: str) -> None:
    if WORLDS[name].people and no_people:
        pytest.skip(no_people)
    np.testing.assert_allclose(sketches(song(1, WORLDS[name])), SKETCHES[name], atol=2e-5)
