"""A song whose channels are out of phase is separated as the same song in phase."""

import numpy as np
import pytest

from backline.models.windowed.consistency import MASK, OFF, RESIDUAL
from backline.models.windowed.polarity import polarity
from tests.models.windowed.test_stream import RATE, music, streamed, whole


@pytest.mark.parametrize("mode", [OFF, RESIDUAL, MASK])
def test_a_channel_turned_round_comes_out_turned_round_and_is_separated_alike(mode: int) -> None:
    voice = music(5 * RATE, channels=1)
    in_phase, out_of_phase = np.concatenate([voice, voice]), np.concatenate([voice, -voice])
    parameters = {"consistency": float(mode), "transients": 0.5}
    expected = streamed(in_phase, 1_000, 0.96, 0.48, parameters=parameters)
    found = streamed(out_of_phase, 1_000, 0.96, 0.48, parameters=parameters)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_array_equal(found[:, 1], -expected[:, 1])


def test_the_stream_gives_what_the_whole_file_gives_out_of_phase_too() -> None:
    voice = music(4 * RATE, channels=1)
    audio = np.concatenate([voice, -0.8 * voice])
    np.testing.assert_allclose(streamed(audio, 777, 0.96, 0.48), whole(audio, 0.96, 0.48), atol=1e-5)


def test_only_what_is_mostly_out_of_phase_is_turned() -> None:
    left, right = np.random.default_rng(0).standard_normal((2, 1_000)).astype(np.float32)
    silence = np.zeros(1_000, np.float32)
    assert polarity(np.stack([left, -left])).ravel().tolist() == [1, -1]
    for pair in ([left, left], [left, right], [left, silence], [silence, silence], [left + right, left - right]):
        assert (polarity(np.stack(pair)) == 1).all()
    assert (polarity(np.stack([left, -left, left])) == 1).all()
    assert (polarity(left[np.newaxis]) == 1).all()
