"""The separator that a stems pack makes resident: network and codec, which hear mono.

A session may choose what is decoded of what the network says, and whose phases are heard: the codes that it tells with
the codec's phases are the paper's way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from backline.codecs.hcodec.network import PATHS, HCodec
from backline.models.rows import each, together
from backline.models.stems.config import StemsConfig
from backline.models.stems.fused import FusedStep
from backline.models.stems.generate import Told, expected_vectors, generate
from backline.models.stems.layout import PATH_COUNT
from backline.models.stems.network import StemsNetwork
from backline.models.stream import Parameter
from backline.models.windowed.polarity import middle
from backline.models.windowed.separator import History, Separated, Window

CODES, MEAN = 0, 1  # values of the parameter "readout"
OWN, MIXTURE = 0, 1  # and of "phase"


def parameters_of(config: StemsConfig) -> tuple[Parameter, ...]:
    """What a session may ask of the separator; a pack's own way is the default."""
    readout = "what is decoded: 0 the codes told, the likeliest ones; 1 the mean of what the network expects"
    phase = "whose phases are heard: 0 the codec's; 1 the mixture's"
    return (
        Parameter(
            "readout", float(config.readout == "mean"), CODES, MEAN, "", readout, integer=True, labels=("codes", "mean")
        ),
        Parameter(
            "phase",
            float(config.phase == "mixture"),
            OWN,
            MIXTURE,
            "",
            phase,
            integer=True,
            labels=("codec", "mixture"),
        ),
    )


class StemsSeparator:
    """A `Separator`. Rows share a call of the network where that is not on a CPU. There each steps in the fused kernel,
    two are slower together, four an eighth faster at most, and alone no row's samples depend on who else plays.
    """

    def __init__(self, network: StemsNetwork, codec: HCodec, device: str) -> None:
        self.network, self.codec, self.device = network.eval().to(device), codec.eval().to(device), device
        self.sample_rate = codec.sample_rate
        self.frame_samples = codec.samples_per_code
        self.window_frames = network.config.window_frames
        self.tracks = network.config.stems
        self.parameters = parameters_of(network.config)
        self.batches = torch.device(device).type != "cpu"
        self._codebooks = torch.stack([codec.quantizer(path).codebooks for path in PATHS])
        self.step = FusedStep(network.decoder, bfloat16=True) if FusedStep.fits(network.decoder) else None
        self._silence: History | None = None

    def silence(self) -> History:
        if self._silence is None:
            audio = np.zeros((1, self.window_frames * self.frame_samples), np.float32)
            config = self.network.config
            nothing = np.zeros((len(self.tracks), PATH_COUNT, config.codebooks, 0), np.int64)
            self._silence = self._told([Window(0, audio, History(nothing), 0)])[0].history
        return self._silence

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        return together(windows, self._told) if self.batches else each(lambda it: self._told([it])[0], windows)

    @torch.inference_mode()
    def _told(self, windows: Sequence[Window]) -> list[Separated]:
        """All windows in one call of the network; the codes of their first frames are known."""
        heard = torch.from_numpy(np.stack([middle(window.audio) for window in windows])).to(self.device)
        forced = [window.history.codes[..., window.new_frames :] for window in windows]
        told = generate(self.network, heard, forced, self.window_frames, self.step)
        spectra = self.codec.decoder.spectra(self._vectors(told, self._asked(windows, "readout", MEAN)))
        spectra = spectra.unflatten(0, (len(windows), -1))  # [row, track, hop, bin]
        if any(mixture := self._asked(windows, "phase", MIXTURE)):
            borrowed = torch.polar(spectra.abs(), self.codec.spectra(heard).angle()[:, None].expand_as(spectra))
            spectra = chosen(mixture, borrowed, spectra)
        estimates = self.codec.decoder.sound(spectra.flatten(0, 1)).unflatten(0, (len(windows), -1))
        sounds = estimates.float().cpu().numpy()  # [row, track, 1, sample]
        return [Separated(sound, History(codes)) for sound, codes in zip(sounds, told.codes, strict=True)]

    def _vectors(self, told: Told, mean: Sequence[bool]) -> Tensor:
        """What the codec decodes [row * track, path * latent, frame], by each row's readout."""
        expected = expected_vectors(self.network, told, self._codebooks).flatten(0, 1) if any(mean) else None
        if expected is not None and all(mean):
            return expected
        vectors = self.codec.vectors(torch.from_numpy(told.codes).to(self.device).flatten(0, 1))
        tracks = len(vectors) // len(mean)
        return vectors if expected is None else chosen([row for row in mean for _ in range(tracks)], expected, vectors)

    def _asked(self, windows: Sequence[Window], name: str, value: int) -> list[bool]:
        """Whether each row's session has parameter `name` at `value`."""
        (default,) = (parameter.default for parameter in self.parameters if parameter.name == name)
        return [window.parameters.get(name, default) == value for window in windows]

    def resident_bytes(self) -> int:
        """Weights of both, and of the fused step."""
        weights = [*self.network.parameters(), *self.network.buffers(), *self.codec.parameters(), *self.codec.buffers()]
        fused = self.step.resident_bytes() if self.step else 0
        hubert = self.network.hubert
        fused += 0 if hubert is None else hubert.resident_bytes()
        return fused + sum(weight.numel() * weight.element_size() for weight in weights)


def chosen(rows: Sequence[bool], where: Tensor, otherwise: Tensor) -> Tensor:
    """Of two tensors [row, ...], the rows of the one or of the other."""
    if all(rows):
        return where
    mask = torch.tensor(rows, device=where.device).view(-1, *[1] * (where.ndim - 1))
    return torch.where(mask, where, otherwise)
