"""Which chord the band plays: what is likeliest by the hints, but none that comes and goes within a beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.held import chord_of
from backline.models.hafm.listening.hints import CERTAIN, CHORDS, HINT_RATE
from backline.models.hafm.score import Tokens
from backline.models.hafm.transport import BAND_BAR, bars_since
from backline.models.stream import Transport

CLEARLY = CERTAIN // 4  # by which another chord must be likelier where no beat tells when chords change
UNHEARD = CHORDS  # in place of a chord


class ChordLeader:
    """Follows the hints of one session."""

    def __init__(self) -> None:
        self._chord = UNHEARD

    def lead(
        self,
        told: Tokens,
        first: int,
        transport: Transport | None,
        held: Sequence[frozenset[int]] = (),
    ) -> NDArray[np.int64]:
        """The chord of every step of HINT_RATE, of what was told [chord, step] from step `first` on; UNHEARD at first.

        With a beat it changes on beats only, else where another has become clearly likelier. But what is held on a
        keyboard is played from its own step on.

        Args:
            held: pitches of every step, in the same key; where nothing is held, the chord is what was told.
        """
        steps = told.shape[1]
        beats = _beats(transport, first - 1, steps + 1)
        found = np.full(steps, UNHEARD)
        for step in range(steps):
            shares = told[:, step]
            heard = shares[0] <= CERTAIN
            if held and held[step]:
                self._chord = chord_of(held[step], shares / CERTAIN if heard else np.zeros(len(shares)))
            elif heard:
                likeliest = int(shares.argmax())
                if self._chord == UNHEARD:
                    self._chord = likeliest
                elif beats is None:
                    if shares[likeliest] > shares[self._chord] + CLEARLY:
                        self._chord = likeliest
                elif beats[step + 1] != beats[step]:
                    self._chord = likeliest
            found[step] = self._chord
        return found


def _beats(transport: Transport | None, first: int, steps: int) -> NDArray[np.int64] | None:
    """The number of the beat in which each step begins; None without a beat."""
    if transport is None or not transport.playing:
        return None
    bars = bars_since(transport, (first + np.arange(steps)) / HINT_RATE)
    return np.floor(BAND_BAR * bars + 1e-6).astype(np.int64)
