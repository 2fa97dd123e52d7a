"""A song's four stems are the song."""

import numpy as np
import pytest

from backline.music.fluidsynth import missing
from backline.music.stems import TRACKS, song_stems
from backline.music.world import NARROW


@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_stems_of_a_song_sum_to_its_mixture() -> None:
    from backline.music.songs import song

    made = song(5, NARROW, 48_000)
    stems = song_stems(5, NARROW)
    assert stems.shape == (len(TRACKS), len(made.vocal))
    assert np.abs(stems.sum(0) - made.mix).max() < 1e-5
    assert np.array_equal(stems[1], made.stems["drums"])
