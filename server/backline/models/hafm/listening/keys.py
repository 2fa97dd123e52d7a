"""Hears a key from a voice's tokens, as they come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.score import VOICE_TURNS, VOICE_VOCABULARY, Tokens, transposed

CHORDS_IN_C = frozenset((0, 5, 7, 12 + 2, 12 + 4, 12 + 9, 24 + 11))  # root + 12 * its place in score.TRIADS
TO_KEY = (0, 3, 1)  # semitones from a triad's root up to its key's: C, and what A minor and B diminished are taken for
FOREIGN = 0.15  # nats that 40 ms of a chord count against every key that it is foreign to: four seconds tell

MEMORY_FRAMES = 1000  # 20 s: after that many frames what was heard counts 1/e
LEAD = 15.0  # nats by which another key must be likelier before the band follows: neighbouring frames tell the same


class KeyListener:
    """Which of the twelve transpositions of C (major, or A minor) the tokens heard so far are likeliest in."""

    def __init__(self, profile: NDArray[np.float32]) -> None:
        """
        Args:
            profile: [token] log probability in a song in C.
        """
        turned = [transposed(np.arange(len(profile))[None], VOICE_TURNS, -up)[0] for up in range(12)]
        self._evidence = np.stack([profile[index] for index in turned])  # [semitones, token]
        self._scores = np.zeros(12)
        self._begun = False
        self.semitones = 0

    def hear(self, tokens: Tokens) -> None:
        """Tokens [1, frame] of the voice; the key changes when another has become clearly likelier."""
        self._begun |= tokens.shape[1] > 0 and bool(np.any(tokens != VOICE_VOCABULARY - 1))
        decay = np.exp(-tokens.shape[1] / MEMORY_FRAMES)
        self._scores = decay * self._scores + self._evidence[:, tokens[0]].sum(axis=1)
        self._decide()

    def told(self, chord: int) -> None:
        """40 ms of a chord that somebody plays. The first of all, where nobody has sung, is the key's own."""
        if not self._begun:
            self._begun = True
            self.semitones = (chord + TO_KEY[chord // 12]) % 12
        at_home = np.array([(chord - up) % 12 + chord // 12 * 12 in CHORDS_IN_C for up in range(12)])
        self._scores -= np.where(at_home, 0, FOREIGN)
        self._decide()

    def _decide(self) -> None:
        likeliest = int(self._scores.argmax())
        if self._scores[likeliest] > self._scores[self.semitones] + LEAD:
            self.semitones = likeliest
