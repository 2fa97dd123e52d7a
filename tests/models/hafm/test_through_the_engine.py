"""HAFM in the engine: any rate, any block, recordings of any length; the same tokens whatever the blocks."""

from fractions import Fraction

import numpy as np
import pytest

from backline.models.hafm.load import load, tiny_random
from tests.support.hafm import voice
from tests.support.playing import play, running


@pytest.mark.parametrize(
    ("layout", "rate", "visibility"),
    [
        ("interleaved", 16_000, -0.3),
        ("interleaved", 44_100, 0.1),
        ("interleaved", 48_000, 0.2),
        ("aligned", 16_000, -0.3),
        ("aligned", 48_000, 0.4),  # hears more than the chunk
    ],
)
def test_a_voice_gets_a_band_of_its_own_length_and_the_blocks_do_not_matter(
    layout: str, rate: int, visibility: float
) -> None:
    signal = np.repeat(voice(1.1), 2, axis=0)[:, : int(0.51 * rate)]
    frames = []
    with running(band=load(*tiny_random(layout=layout), "cpu")) as engine:
        for block in (333, 4096):
            heard = play(
                engine, "band", signal, block, sample_rate=rate, chunk_seconds=Fraction(1, 5),
                visibility_seconds=visibility,
            )  # fmt: skip
            output = heard.audio()
            assert output.shape == (1, signal.shape[1])
            assert np.isfinite(output).all()
            frames.append(np.concatenate([event.codes for event in heard.frames()]))
    np.testing.assert_array_equal(frames[0], frames[1])
