"""Hears a key from a voice's tokens, as they come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.score import VOICE_TURNS, Tokens, transposed

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
        self.semitones = 0

    def hear(self, tokens: Tokens) -> None:
        """Tokens [1, frame] of the voice; the key changes when another has become clearly likelier."""
        decay = np.exp(-tokens.shape[1] / MEMORY_FRAMES)
        self._scores = decay * self._scores + self._evidence[:, tokens[0]].sum(axis=1)
        likeliest = int(self._scores.argmax())
        if self._scores[likeliest] > self._scores[self.semitones] + LEAD:
            self.semitones = likeliest
