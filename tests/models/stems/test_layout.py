"""Where codes stand in the sequence, for every order."""

import numpy as np
import pytest

from backline.models.stems.layout import from_positions, heard_at, known_positions, slots, to_positions

ORDERS = ["parallel", "delay", "flat"]


@pytest.mark.parametrize(("order", "positions"), [("parallel", 100), ("delay", 115), ("flat", 1600)])
def test_four_seconds_take_the_positions_that_the_paper_counts(order: str, positions: int) -> None:
    assert len(slots(order, 100, 16)) == positions  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ORDERS)
def test_codes_come_back_as_they_were(order: str) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (3, 4, 2, 5, 7))  # [row, track, path, codebook, frame]
    table = slots(order, 14, 5)  # type: ignore[arg-type]
    assert np.array_equal(from_positions(to_positions(codes, table), table), codes)


def test_acoustic_and_semantic_alternate_and_share_a_position_with_their_codebooks() -> None:
    codes = np.arange(2 * 2 * 3).reshape(1, 2, 2, 3)  # [track, path, codebook, frame]
    told = to_positions(codes, slots("parallel", 6, 2))[0]
    assert told.tolist() == [[0, 3], [6, 9], [1, 4], [7, 10], [2, 5], [8, 11]]


def test_a_delayed_codebook_stands_one_position_later() -> None:
    assert slots("delay", 3, 2).tolist() == [[0, -1], [1, 0], [2, 1], [-1, 2]]


def test_flat_has_one_code_at_a_position() -> None:
    assert slots("flat", 2, 3).tolist() == [
        [0, -1, -1], [-1, 0, -1], [-1, -1, 0], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]
    ]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("known", [0, 2, 10, 14])
def test_known_positions_hold_nothing_unknown(order: str, known: int) -> None:
    table = slots(order, 14, 3)  # type: ignore[arg-type]
    count = known_positions(table, known)
    assert (table[:count] < known).all()
    assert count == len(table) or (table[count] >= known).any()


@pytest.mark.parametrize("order", ORDERS)
def test_time_does_not_run_backwards(order: str) -> None:
    newest = heard_at(slots(order, 14, 3))  # type: ignore[arg-type]
    assert (np.diff(newest) >= 0).all() or order == "delay"
    assert newest.max() == 13
