"""The separator that a stems pack makes resident: network and codec, which hear mono.

A session may choose what is decoded of what the network says, and whose phases are heard: the codes that it tells with
the codec's phases are the paper's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from backline.codecs.hcodec.network import PATHS, HCodec
from backline.models.rows import each
from backline.models.stems.config import StemsConfig
from backline.models.stems.fused import FusedStep
from backline.models.stems.generate import expected_vectors, generate
from backline.models.stems.layout import PATH_COUNT
from backline.models.stems.network import StemsNetwork
from backline.models.stream import Audio, Parameter
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
    """A `Separator`."""

    def __init__(self, network: StemsNetwork, codec: HCodec, device: str) -> None:
        self.network, self.codec, self.device = network.eval().to(device), codec.eval().to(device), device
        self.sample_rate = codec.sample_rate
        self.frame_samples = codec.samples_per_code
        self.window_frames = network.config.window_frames
        self.tracks = network.config.stems
        self.parameters = parameters_of(network.config)
        self._codebooks = torch.stack([codec.quantizer(path).codebooks for path in PATHS])
        self.step = FusedStep(network.decoder, bfloat16=True) if FusedStep.fits(network.decoder) else None
        self._silence: History | None = None

    def silence(self) -> History:
        if self._silence is None:
            audio = np.zeros((1, self.window_frames * self.frame_samples), np.float32)
            config = self.network.config
            nothing = np.zeros((len(self.tracks), PATH_COUNT, config.codebooks, 0), np.int64)
            self._silence = self._told(audio, nothing, {}).history
        return self._silence

    def separate(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        """Row by row, so that a row's numbers never depend on the others."""
        return each(
            lambda it: self._told(middle(it.audio), it.history.codes[..., it.new_frames :], it.parameters), windows
        )

    @torch.inference_mode()
    def _told(self, audio: Audio, forced: np.ndarray, parameters: Mapping[str, float]) -> Separated:
        """What is made of a window [1, sample], with the codes [track, path, codebook, frame] of its first frames."""
        asked = {parameter.name: parameters.get(parameter.name, parameter.default) for parameter in self.parameters}
        heard = torch.from_numpy(audio)[None].to(self.device)
        told = generate(self.network, heard, forced[None], self.window_frames, self.step)
        if asked["readout"] == MEAN:
            vectors = expected_vectors(self.network, told, self._codebooks)[0]
        else:
            vectors = self.codec.vectors(torch.from_numpy(told.codes[0]).to(self.device))
        spectra = self.codec.decoder.spectra(vectors)
        if asked["phase"] == MIXTURE:
            spectra = torch.polar(spectra.abs(), self.codec.spectra(heard).angle().expand_as(spectra))
        estimates = self.codec.decoder.sound(spectra)  # [track, 1, sample]
        return Separated(estimates.float().cpu().numpy(), History(told.codes[0]))

    def resident_bytes(self) -> int:
        """Weights of both, and of the fused step."""
        weights = [*self.network.parameters(), *self.network.buffers(), *self.codec.parameters(), *self.codec.buffers()]
        fused = self.step.resident_bytes() if self.step else 0
        hubert = self.network.hubert
        fused += 0 if hubert is None else hubert.resident_bytes()
        return fused + sum(weight.numel() * weight.element_size() for weight in weights)
