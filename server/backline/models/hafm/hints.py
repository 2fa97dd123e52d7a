"""What a voice says about the chord: a small network over how long each pitch class was sung of late.

The semantic stage could learn this by itself, but it meets a few dozen chords in a training step of 2,800 frames;
alone, a network of this size hears hundreds of thousands of frames in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.models.hafm.score import SUNG_WINDOWS, TRIADS, Tokens, sung_counts

HINT_FRAMES_BACK = (80, 20)  # of the newest frame: whose chords are told
CHORDS = 12 * len(TRIADS)
HINTS = CHORDS * len(HINT_FRAMES_BACK)
CERTAIN = 40  # parts into which a probability is rounded
SUNG = 13 * (len(SUNG_WINDOWS) - 1)
HIDDEN = 128

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ChordHints:
    """One hidden layer, and a softmax over the chords of each of HINT_FRAMES_BACK."""

    inner: Floats  # [hidden, SUNG]
    inner_bias: Floats  # [hidden]
    outer: Floats  # [HINTS, hidden]
    outer_bias: Floats  # [HINTS]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "semantics.hints.") -> ChordHints:
        """As a pack holds it.

        Raises:
            ValueError: tensors are missing or have wrong shapes; the message lists all of them.
        """
        hidden = tensors[prefix + "inner_bias"].numel() if prefix + "inner_bias" in tensors else HIDDEN
        shapes = {
            "inner": (hidden, SUNG),
            "inner_bias": (hidden,),
            "outer": (HINTS, hidden),
            "outer_bias": (HINTS,),
        }
        wrong = [
            f"{prefix}{name} is {list(tensors[prefix + name].shape) if prefix + name in tensors else 'missing'}, "
            f"must be {list(shape)}"
            for name, shape in shapes.items()
            if prefix + name not in tensors or tensors[prefix + name].shape != shape
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return cls(**{name: tensors[prefix + name].float().cpu().numpy() for name in shapes})

    def tensors(self, prefix: str = "semantics.hints.") -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        names = ("inner", "inner_bias", "outer", "outer_bias")
        return {prefix + name: torch.from_numpy(getattr(self, name)) for name in names}

    def __call__(self, tokens: Tokens) -> Tokens:
        """[chord told, frame] in 0 to CERTAIN, of the voice's tokens [1, frame] in C; before them there was nothing."""
        # In float64, so that where a chunk ends, and with it the order of sums, does not tip what is rounded.
        counts = sung_counts(tokens) / SUNG_WINDOWS[1]
        hidden = np.maximum(self.inner @ counts + self.inner_bias[:, None], 0)
        scores = (self.outer @ hidden + self.outer_bias[:, None]).reshape(len(HINT_FRAMES_BACK), CHORDS, -1)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.rint(CERTAIN * shares / shares.sum(axis=1, keepdims=True)).astype(np.int64).reshape(HINTS, -1)
