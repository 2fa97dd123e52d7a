"""The separator that a Spleeter pack makes resident: it hears two channels; others are heard by their middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from backline.models.rows import each
from backline.models.spleeter.config import BINS, CHANNELS, SAMPLE_RATE, SIZE, STEP
from backline.models.spleeter.network import Spleeter
from backline.models.windowed.polarity import middle
from backline.models.windowed.separator import History, Separated, Window


class SpleeterSeparator:
    """A `Separator`."""

    sample_rate = SAMPLE_RATE
    frame_samples = STEP

    def __init__(self, network: Spleeter, device: str) -> None:
        self.network, self.device = network.eval().to(device), device
        self.tracks, self.window_frames = network.config.tracks, network.config.window_frames
        self._hann = torch.hann_window(SIZE, device=device)

    def silence(self) -> History:
        return History(np.zeros((0, self.window_frames), np.int64))  # it says nothing that the next window would hear

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        """Row by row, so that a row's numbers never depend on the others."""
        return each(self._separate, windows)

    @torch.inference_mode()
    def _separate(self, window: Window) -> Separated:
        audio = torch.from_numpy(window.audio).to(self.device)
        spectra = self._analyse(audio)  # [channel, bin, frame]
        if len(window.audio) == CHANNELS:
            masks = self._masks(spectra)
        else:
            heard = self._analyse(torch.from_numpy(middle(window.audio)).to(self.device))
            masks = self._masks(heard.expand(CHANNELS, -1, -1)).mean(dim=1, keepdim=True)
        masked = (masks * spectra).flatten(0, 1)
        sound = torch.istft(masked, SIZE, STEP, window=self._hann, length=audio.shape[1])
        return Separated(sound.view(len(self.tracks), *audio.shape).cpu().numpy(), self.silence())

    def _analyse(self, audio: Tensor) -> Tensor:
        """[channel, sample] -> [channel, bin, frame], a frame around every STEP samples, from the window's start.

        The one around its end is left out: half of it would be what nobody has heard, and the guard hides it.
        """
        spectra = torch.stft(
            audio, SIZE, STEP, window=self._hann, center=True, pad_mode="constant", return_complex=True
        )
        return spectra[..., :-1]

    def _masks(self, spectra: Tensor) -> Tensor:
        """[track, channel, bin, frame] of both channels' spectra [channel, bin, frame]."""
        shares = self.network(spectra[:, :BINS].abs().transpose(1, 2)[None])[:, 0].transpose(2, 3)
        above = spectra.shape[1] - BINS
        if self.network.config.extension == "zeros":
            return functional.pad(shares, (0, 0, 0, above))
        return torch.cat([shares, shares.mean(dim=2, keepdim=True).expand(-1, -1, above, -1)], dim=2)

    def resident_bytes(self) -> int:
        """The weights'."""
        return sum(weight.numel() * weight.element_size() for weight in self.network.parameters())
