"""Training songs have seeds of their own, never a held-out one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.music.seeds import HELD_OUT_SEED, training_seed


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1))
def test_no_two_songs_share_a_seed_and_none_is_held_out(seed: int, number: int, seed2: int, number2: int) -> None:
    assert training_seed(seed, number) < HELD_OUT_SEED
    assert (training_seed(seed, number) == training_seed(seed2, number2)) == ((seed, number) == (seed2, number2))


def test_a_run_without_songs_is_refused() -> None:
    with pytest.raises(ValueError, match="run 65536"):
        training_seed(2**16, 0)
    with pytest.raises(ValueError, match="no song -1"):
        training_seed(0, -1)
