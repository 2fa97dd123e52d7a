"""Rooms by image sources: echoes come when geometry says, and large rooms ring longer."""

import numpy as np
import pytest

from backline.music.rooms import SPEED, echoes, room

RATE = 48_000


def test_the_first_echo_of_a_wall_comes_with_its_detour() -> None:
    edges, source, listener = np.array([40.0, 40.0, 40.0]), np.array([2.0, 20.0, 20.0]), np.array([6.0, 20.0, 20.0])
    found = echoes(RATE, edges, 0.3, source, listener)
    at = round((2 + 6 - 4) / SPEED * RATE)  # by the wall at x = 0: 8 metres instead of 4
    assert np.flatnonzero(found)[0] == at
    assert found[at] == pytest.approx(np.sqrt(0.7) * 4 / 8, rel=1e-5)


def test_large_rooms_ring_longer_and_all_have_energy_one() -> None:
    def ringing(size: float) -> float:
        lengths = []
        for seed in range(12):
            response = room(RATE, size, np.random.default_rng(seed))
            assert float(np.sum(np.square(response))) == pytest.approx(1, abs=1e-3)
            left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
            lengths.append(np.argmax(left < 1e-2) / RATE)  # seconds to -20 dB
        return float(np.median(lengths))

    small, large = ringing(2.5), ringing(18.0)
    assert small < 0.3
    assert large > 2 * small
