"""The separator that a Spleeter pack makes resident: it hears two channels; others are heard by their middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from backline.models.rows import each, together
from backline.models.spleeter.config import BINS, CHANNELS, SAMPLE_RATE, SIZE, STEP
from backline.models.spleeter.network import Spleeter
from backline.models.windowed.polarity import middle
from backline.models.windowed.separator import History, Separated, Window


class SpleeterSeparator:
    """A `Separator`. Rows share a call of the networks where these are not on a CPU. There four take as long together
    as one by one, and alone no row's samples depend on who else plays.
    """

    sample_rate = SAMPLE_RATE
    frame_samples = STEP

    def __init__(self, network: Spleeter, device: str) -> None:
        self.network, self.device = network.eval().to(device), device
        self.tracks, self.window_frames = network.config.tracks, network.config.window_frames
        self.batches = torch.device(device).type != "cpu"
        self._hann = torch.hann_window(SIZE, device=device)

    def silence(self) -> History:
        return History(np.zeros((0, self.window_frames), np.int64))  # it says nothing that the next window would hear

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        return together(windows, self._separate) if self.batches else each(lambda it: self._separate([it])[0], windows)

    @torch.inference_mode()
    def _separate(self, windows: Sequence[Window]) -> list[Separated]:
        """All windows in one call of the networks."""
        spectra = [self._analyse(torch.from_numpy(window.audio).to(self.device)) for window in windows]
        masks = self._masks(
            torch.stack([self._heard(window, own) for window, own in zip(windows, spectra, strict=True)])
        )
        return [self._masked(*row) for row in zip(windows, spectra, masks.unbind(dim=1), strict=True)]

    def _heard(self, window: Window, spectra: Tensor) -> Tensor:
        """[2, bin, frame] of what the networks hear of a window."""
        if len(window.audio) == CHANNELS:
            return spectra
        return self._analyse(torch.from_numpy(middle(window.audio)).to(self.device)).expand(CHANNELS, -1, -1)

    def _masked(self, window: Window, spectra: Tensor, masks: Tensor) -> Separated:
        """A window's spectra [channel, bin, frame] under its masks [track, 2, bin, frame]."""
        if len(window.audio) != CHANNELS:
            masks = masks.mean(dim=1, keepdim=True)
        length = window.audio.shape[1]
        sound = torch.istft((masks * spectra).flatten(0, 1), SIZE, STEP, window=self._hann, length=length)
        return Separated(sound.view(len(self.tracks), *window.audio.shape).cpu().numpy(), self.silence())

    def _analyse(self, audio: Tensor) -> Tensor:
        """[channel, sample] -> [channel, bin, frame], a frame around every STEP samples, from the window's start.

        The one around its end is left out: half of it would be what nobody has heard, and the guard hides it.
        """
        spectra = torch.stft(
            audio, SIZE, STEP, window=self._hann, center=True, pad_mode="constant", return_complex=True
        )
        return spectra[..., :-1]

    def _masks(self, spectra: Tensor) -> Tensor:
        """[track, row, channel, bin, frame] of both channels' spectra [row, channel, bin, frame]."""
        shares = self.network(spectra[:, :, :BINS].abs().transpose(2, 3)).transpose(3, 4)
        above = spectra.shape[2] - BINS
        if self.network.config.extension == "zeros":
            return functional.pad(shares, (0, 0, 0, above))
        return torch.cat([shares, shares.mean(dim=3, keepdim=True).expand(-1, -1, -1, above, -1)], dim=3)

    def resident_bytes(self) -> int:
        """The weights'."""
        return sum(weight.numel() * weight.element_size() for weight in self.network.parameters())
