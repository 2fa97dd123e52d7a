"""The named worlds: the older ones sound for ever as they did when packs were trained in them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music import fluidsynth, vocoder
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


@pytest.mark.parametrize("name", SKETCHES)
def test_the_samples_of_an_older_world_never_change(name: str) -> None:
    if WORLDS[name].people and no_people:
        pytest.skip(no_people)
    np.testing.assert_allclose(sketches(song(1, WORLDS[name])), SKETCHES[name], atol=2e-5)
