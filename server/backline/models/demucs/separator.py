"""The separator that a Demucs pack makes resident: other channels than it has are heard by their middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from backline.models.demucs.network import STEP, DemucsConfig
from backline.models.rows import each
from backline.models.windowed.polarity import middle
from backline.models.windowed.separator import History, Separated, Window

LEAST_DEVIATION = 1e-8


class DemucsSeparator:
    """A `Separator`."""

    frame_samples = STEP

    def __init__(self, network: Any, config: DemucsConfig, device: str) -> None:
        self.network, self.device = network.eval().to(device), device
        self.sample_rate, self.tracks, self.window_frames = config.sample_rate, config.tracks, config.window_frames
        self._channels = config.channels
        self._order = [network.sources.index(track) for track in config.tracks]

    def silence(self) -> History:
        return History(np.zeros((0, self.window_frames), np.int64))  # it says nothing that the next window would hear

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        """Row by row, so that a row's numbers never depend on the others."""
        return each(self._separate, windows)

    @torch.inference_mode()
    def _separate(self, window: Window) -> Separated:
        """As `demucs.separate` does it with one segment: scaled to a deviation of one, without random shifts."""
        from demucs.apply import apply_model

        own = len(window.audio) == self._channels
        heard = torch.from_numpy(window.audio if own else middle(window.audio)).to(self.device)
        mean, deviation = heard.mean(), heard.std() + LEAST_DEVIATION
        scaled = ((heard - mean) / deviation).expand(1, self._channels, -1)
        sound = apply_model(self.network, scaled, shifts=0, split=False)[0, self._order] * deviation + mean
        if not own:
            sound = sound.mean(dim=1, keepdim=True)
        return Separated(sound.cpu().numpy(), self.silence())

    def resident_bytes(self) -> int:
        """The weights'."""
        weights = [*self.network.parameters(), *self.network.buffers()]
        return sum(weight.numel() * weight.element_size() for weight in weights)
