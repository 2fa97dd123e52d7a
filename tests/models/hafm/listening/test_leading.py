"""Which chord leads: the likeliest, on beats where there are any, and whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest

from backline.models.hafm.listening.hints import CERTAIN, CHORDS
from backline.models.hafm.listening.leading import CLEARLY, UNHEARD, ChordLeader
from backline.models.hafm.score import Tokens
from backline.models.stream import Transport

SECOND = 25  # steps
TEMPO = Transport(at_seconds=0.4, playing=True, tempo=75.0, song_position=3.0)  # beats of 20 steps, one at 0.4 s


def told(*spans: tuple[int, int, int]) -> Tokens:
    """Spans of (chord, share, steps); what is left over is another chord's."""
    found = []
    for chord, share, steps in spans:
        column = np.zeros(CHORDS, np.int64)
        column[chord], column[35] = share, CERTAIN - share
        found.append(np.tile(column[:, None], steps))
    return np.concatenate(found, axis=1)


def unheard(steps: int) -> Tokens:
    return np.full((CHORDS, steps), CERTAIN + 1)


def test_until_something_is_heard_no_chord_leads_and_then_it_does_at_once() -> None:
    chords = ChordLeader().lead(np.concatenate([unheard(3), told((7, 30, 2)), unheard(2)], axis=1), 0, TEMPO)
    assert chords.tolist() == [UNHEARD] * 3 + [7] * 4


def test_with_a_beat_chords_change_on_beats_only() -> None:
    chords = ChordLeader().lead(told((0, 30, 5), (5, 30, 15), (7, 30, 15), (9, 30, 5), (2, 30, 20)), 0, TEMPO)
    # Beats fall on steps 10, 30 and 50; what is likeliest there stays until the next.
    assert chords.tolist() == [0] * 10 + [5] * 20 + [7] * 20 + [2] * 10


def test_without_a_beat_another_chord_must_be_clearly_likelier() -> None:
    hints = np.zeros((CHORDS, 12), np.int64)
    hints[0], hints[5, :4], hints[5, 4:8], hints[5, 8:] = 10, 9, 10 + CLEARLY, 11 + CLEARLY
    for transport in (None, Transport(0.0, playing=False, tempo=75.0)):
        assert ChordLeader().lead(hints, 0, transport).tolist() == [0] * 8 + [5] * 4


@pytest.mark.parametrize("cuts", [(10,), (9, 11, 30), tuple(range(1, 60))])
def test_where_chunks_end_makes_no_difference(cuts: tuple[int, ...]) -> None:
    hints = np.random.default_rng(0).integers(0, CERTAIN + 1, (CHORDS, 60))
    leader, parts, first = ChordLeader(), [], 0
    for part in np.split(hints, cuts, axis=1):
        parts.append(leader.lead(part, first, TEMPO))
        first += part.shape[1]
    np.testing.assert_array_equal(np.concatenate(parts), ChordLeader().lead(hints, 0, TEMPO))
