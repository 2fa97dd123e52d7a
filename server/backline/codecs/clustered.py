"""Features of a network that hears a clip at once, and k-means: semantic tokens, 50 a second, of clips and of streams.

A stream runs the network again on a sliding window: every group of frames is taken from the window that ends
`lookahead_seconds` after it; a network that wants its input normalised gets it by what the stream has heard so far.
That is not what the whole clip gives; `encode_windowed` says what it is, `agreement` how often the two are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Protocol

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from backline.codecs.base import SemanticEncoder

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples of a frame
NORM_EPSILON = 1e-5

WindowSeconds = Annotated[float, Meta(gt=0, le=60)]
LookaheadSeconds = Annotated[float, Meta(ge=0, le=60)]


class Windows(Protocol):
    """How a stream is heard; fields of an encoder's configuration."""

    @property
    def window_seconds(self) -> float: ...

    @property
    def lookahead_seconds(self) -> float: ...

    @property
    def group_frames(self) -> int:
        """Taken from one window; each more costs a frame of latency and saves computing."""
        ...


class Features(Protocol):
    """A network that hears clips [row, frame * HOP] and gives features [row, frame, dimension]."""

    normalizes: bool  # whether a stream's windows come normalised to mean 0 and variance 1

    def whole(self, audio: Tensor) -> Tensor:
        """Of whole clips, as they are."""
        ...

    def windowed(self, audio: Tensor) -> Tensor:
        """Of a stream's windows."""
        ...


@dataclass
class ClusteredState:
    """What a row remembers between blocks."""

    history: Tensor  # [row, window] float32, the newest samples
    frames: Tensor  # [row] int64, heard so far
    sums: Tensor  # [row, 2] float64, of samples and of their squares, up to the newest window
    tokens: Tensor  # [row, group_frames] int64, of the newest window


class ClusteredEncoder:
    """Audio at 16 kHz to the nearest of centroids; a `SemanticEncoder`."""

    sample_rate = SAMPLE_RATE
    frame_rate = Fraction(SAMPLE_RATE, HOP)
    hop = HOP

    def __init__(self, features: Features, centroids: Tensor, windows: Windows, device: str = "cpu") -> None:
        """
        Args:
            centroids: [token, dimension].
            windows: which `window_problems` finds nothing wrong with.
        """
        self.features = features
        self.group = windows.group_frames
        self.ahead, self.window = _frames(windows.lookahead_seconds), _frames(windows.window_seconds)
        self.vocabulary = len(centroids)
        self.lookahead = (self.group - 1 + self.ahead) * HOP
        self.centroids = centroids.to(device, torch.float32)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Tokens [row, ceil(sample / HOP)] of whole clips [row, 1, sample], each heard at once."""
        audio = F.pad(audio[:, 0].to(self.centroids), (0, -audio.shape[-1] % HOP))
        return self._nearest(self.features.whole(audio))

    @torch.no_grad()
    def clip_features(self, audio: Tensor) -> Tensor:
        """Features [row, frame, dimension] of whole clips [row, frame * HOP]: what centroids are fitted on."""
        return self.features.whole(audio.to(self.centroids))

    def encode_windowed(self, audio: Tensor) -> Tensor:
        """Tokens [row, frame] of [row, 1, frame * HOP] as a stream gives them, without its late start."""
        late = self.lookahead // HOP
        tokens, _ = self.step(F.pad(audio, (0, self.lookahead)), self.init_state(audio.shape[0]))
        return tokens[:, late:]

    def init_state(self, rows: int) -> ClusteredState:
        """Nothing heard yet."""
        device = self.centroids.device
        return ClusteredState(
            history=torch.zeros(rows, self.window * HOP, device=device),
            frames=torch.zeros(rows, dtype=torch.int64),
            sums=torch.zeros(rows, 2, dtype=torch.float64),
            tokens=torch.zeros(rows, self.group, dtype=torch.int64, device=device),
        )

    @torch.no_grad()
    def step(self, audio: Tensor, state: ClusteredState, mask: Tensor | None = None) -> tuple[Tensor, ClusteredState]:
        """Tokens [row, frame] of audio [row, 1, frame * HOP], late by `lookahead`; token 0 before and in idle rows."""
        rows, _, samples = audio.shape
        if samples % HOP:
            raise ValueError(f"a block of {samples} samples is not a whole number of frames of {HOP}")
        active = [row for row in range(rows) if mask is None or mask[row]]
        signal = torch.cat([state.history, audio[:, 0].to(self.centroids)], 1)
        frames, sums, current = state.frames.clone(), state.sums.clone(), state.tokens.clone()
        out = torch.zeros(rows, samples // HOP, dtype=torch.int64, device=self.centroids.device)
        for index in range(samples // HOP):
            newest = (self.window + index + 1) * HOP  # end of the frame in `signal`
            frames[active] += 1
            due = [row for row in active if self._is_due(int(frames[row]))]
            self._hear(due, signal[:, newest - self.window * HOP : newest], frames, sums, current)
            for row in active:
                emitted = int(frames[row]) - 1 - self.lookahead // HOP
                if emitted >= 0:
                    out[row, index] = current[row, emitted % self.group]
        history = state.history.clone()
        history[active] = signal[active, samples:]
        return out, ClusteredState(history, frames, sums, current)

    def _is_due(self, heard: int) -> bool:
        """Whether a window ends after `heard` frames."""
        ready = heard - self.ahead
        return ready >= self.group and ready % self.group == 0

    def _hear(self, due: list[int], windows: Tensor, frames: Tensor, sums: Tensor, tokens: Tensor) -> None:
        """Fills in the tokens [row, group] of the rows that are due; windows [row, window * HOP] end now."""
        by_length: dict[int, list[Tensor]] = {}
        rows_by_length: dict[int, list[int]] = {}
        for row in due:
            heard = int(frames[row])
            new = heard if heard == self.group + self.ahead else self.group  # frames since the last window
            length = min(heard, self.window)
            window = windows[row, windows.shape[1] - length * HOP :]
            if self.features.normalizes:
                fresh = windows[row, windows.shape[1] - new * HOP :].double().cpu()
                sums[row] += torch.stack([fresh.sum(), fresh.square().sum()])
                mean, square = (sums[row] / (heard * HOP)).tolist()
                window = (window - mean) / (max(square - mean * mean, 0.0) + NORM_EPSILON) ** 0.5
            by_length.setdefault(length, []).append(window)
            rows_by_length.setdefault(length, []).append(row)
        for length, heard_now in by_length.items():
            found = self._nearest(self.features.windowed(torch.stack(heard_now)))
            end = length - self.ahead
            tokens[rows_by_length[length]] = found[:, end - self.group : end]

    def _nearest(self, features: Tensor) -> Tensor:
        return nearest(features, self.centroids)


def nearest(features: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid [..] int64 of features [.., dimension]."""
    distance = centroids.square().sum(1) - 2 * features @ centroids.T
    return distance.argmin(-1)


def agreement(encoder: SemanticEncoder, audio: Tensor) -> float:
    """The share of a clip's tokens, [row, 1, frame * hop], that a stream gives as well."""
    late = -(-encoder.lookahead // encoder.hop)
    tokens, _ = encoder.step(F.pad(audio, (0, late * encoder.hop)), encoder.init_state(audio.shape[0]))
    return float((tokens[:, late:] == encoder.encode(audio)).double().mean())


def window_problems(windows: Windows) -> list[str]:
    """What is wrong with them, in sentences."""
    window, ahead, group = (
        _frames(windows.window_seconds),
        _frames(windows.lookahead_seconds),
        windows.group_frames,
    )
    if group >= 1 and ahead >= 0 and window >= group + ahead:
        return []
    return [
        f"a window of {window} frames cannot hold {group} frames and {ahead} of look-ahead: set window_seconds higher"
    ]


def centroid_problems(centroids: Tensor, dimension: int) -> list[str]:
    """What is wrong with them, in sentences."""
    if centroids.dim() == 2 and centroids.shape[1] == dimension:
        return []
    return [f"centroids are {list(centroids.shape)}, must be [token, {dimension}]"]


def _frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / HOP)
