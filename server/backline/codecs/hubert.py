"""HuBERT's ninth layer and k-means as semantic tokens, 50 a second, from local weights: the front end of HAFM's paper.

The network is torchaudio's, cut after the layer that is used. It hears a whole clip at once (full attention, a
positional convolution of 1.28 s to either side, normalisation by the clip's mean and variance), so a stream runs it
again on a sliding window: every group of frames is taken from the window that ends LOOKAHEAD after it, normalised by
what the stream has heard so far. That is not what the whole clip gives; `encode_windowed` says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from backline.codecs.torchaudio_import import import_torchaudio
from backline.nn.tables import FeedForward, Heads, Kernel, Layers, Width
from backline.nn.weights import misfits

SAMPLE_RATE = 16_000
HOP = 320
EDGE = 40  # samples of padding on both sides that make exactly one frame of every HOP: (HOP n + 80 - 400) / HOP + 1
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class HubertConfig:
    """HuBERT Large unless said otherwise. `layers` is the layer whose output is used, counted from 1."""

    layers: Layers = 9
    dimension: Width = 1024
    heads: Heads = 16
    feed_forward: FeedForward = 4096
    conv_channels: Width = 512
    conv_bias: bool = False
    conv_norm: Literal["layer_norm", "group_norm"] = (
        "layer_norm"  # of the convolutions: one after each, or after the first a "group_norm"
    )
    norm_first: bool = True  # layers normalise what they hear, not what they say, as base does
    position_kernel: Kernel = 128
    position_groups: Heads = 16
    window_seconds: Annotated[float, Meta(gt=0, le=60)] = 8.0
    lookahead_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.4
    group_frames: Kernel = 10  # taken from one window; each more costs a frame of latency and saves computing

    def __post_init__(self) -> None:
        if self.dimension % self.heads or self.dimension % self.position_groups:
            raise ValueError(
                f"dimension is {self.dimension}: use a multiple of heads ({self.heads}) and of position_groups "
                f"({self.position_groups})"
            )

    def to_table(self) -> dict[str, Any]:
        """As a pack's [semantics] table holds it."""
        return asdict(self)


@dataclass
class HubertState:
    """What a row remembers between blocks."""

    history: Tensor  # [row, window] float32, the newest samples
    frames: Tensor  # [row] int64, heard so far
    sums: Tensor  # [row, 2] float64, of samples and of their squares, up to the newest window
    tokens: Tensor  # [row, group_frames] int64, of the newest window


class HubertEncoder:
    """Audio at 16 kHz to semantic tokens; a `SemanticEncoder`."""

    sample_rate = SAMPLE_RATE
    frame_rate = Fraction(SAMPLE_RATE, HOP)
    hop = HOP

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        centroids: Tensor,
        config: HubertConfig = HubertConfig(),
        device: str = "cpu",
    ) -> None:
        """
        Args:
            tensors: by torchaudio's names, as `hubert_names` gives them.
            centroids: [token, dimension].
            config: the network's sizes and the stream's windows.
            device: where to compute; Large needs a GPU to keep up with a stream.

        Raises:
            ValueError: tensors are missing or have wrong shapes, or the window is too short; names all of it.
        """
        layout = hubert_layout(config)
        wrong = [f"{name} {list(shape)} is missing" for name, shape in layout.items() if name not in tensors]
        wrong += [line for name in layout if name in tensors for line in misfits(name, tensors[name], layout[name])]
        if centroids.dim() != 2 or centroids.shape[1] != config.dimension:
            wrong.append(f"centroids are {list(centroids.shape)}, must be [token, {config.dimension}]")
        self.group = config.group_frames
        self.ahead = round(config.lookahead_seconds * SAMPLE_RATE / HOP)  # frames
        self.window = round(config.window_seconds * SAMPLE_RATE / HOP)  # frames
        if self.group < 1 or self.ahead < 0 or self.window < self.group + self.ahead:
            wrong.append(
                f"a window of {self.window} frames cannot hold {self.group} frames and {self.ahead} of look-ahead: "
                "set window_seconds higher"
            )
        if wrong:
            raise ValueError("this is no HuBERT of the given sizes: " + "; ".join(wrong))
        self.config = config
        self.vocabulary = len(centroids)
        self.lookahead = (self.group - 1 + self.ahead) * HOP
        self.network = load_hubert({name: tensors[name] for name in layout}, config).to(device)
        self.centroids = centroids.to(device, torch.float32)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Tokens [row, ceil(sample / HOP)] of whole clips [row, 1, sample], each heard at once."""
        audio = F.pad(audio[:, 0].to(self.centroids), (0, -audio.shape[-1] % HOP))
        return self._tokens(F.layer_norm(audio, audio.shape[-1:], eps=NORM_EPSILON))

    def encode_windowed(self, audio: Tensor) -> Tensor:
        """Tokens [row, frame] of [row, 1, frame * HOP] as a stream gives them, without its late start."""
        late = self.lookahead // HOP
        tokens, _ = self.step(F.pad(audio, (0, self.lookahead)), self.init_state(audio.shape[0]))
        return tokens[:, late:]

    def init_state(self, rows: int) -> HubertState:
        """Nothing heard yet."""
        device = self.centroids.device
        return HubertState(
            history=torch.zeros(rows, self.window * HOP, device=device),
            frames=torch.zeros(rows, dtype=torch.int64),
            sums=torch.zeros(rows, 2, dtype=torch.float64),
            tokens=torch.zeros(rows, self.group, dtype=torch.int64, device=device),
        )

    @torch.no_grad()
    def step(self, audio: Tensor, state: HubertState, mask: Tensor | None = None) -> tuple[Tensor, HubertState]:
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
        return out, HubertState(history, frames, sums, current)

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
            fresh = windows[row, windows.shape[1] - new * HOP :].double().cpu()
            sums[row] += torch.stack([fresh.sum(), fresh.square().sum()])
            mean, square = (sums[row] / (heard * HOP)).tolist()
            deviation = (max(square - mean * mean, 0.0) + NORM_EPSILON) ** 0.5
            length = min(heard, self.window)
            by_length.setdefault(length, []).append(
                (windows[row, windows.shape[1] - length * HOP :] - mean) / deviation
            )
            rows_by_length.setdefault(length, []).append(row)
        for length, normalised in by_length.items():
            found = self._tokens(torch.stack(normalised))
            end = length - self.ahead
            tokens[rows_by_length[length]] = found[:, end - self.group : end]

    def _tokens(self, normalised: Tensor) -> Tensor:
        """The nearest centroid [row, frame] of normalised audio [row, frame * HOP]."""
        layers, _ = self.network.extract_features(F.pad(normalised, (EDGE, EDGE)), num_layers=self.config.layers)
        distance = self.centroids.square().sum(1) - 2 * layers[-1] @ self.centroids.T
        return distance.argmin(-1)


def hubert_layout(config: HubertConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `HubertEncoder` needs, by torchaudio's names; needs torchaudio itself."""
    with torch.device("meta"):
        network = _network(config)
    return {_plain(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def hubert_names(tensors: Mapping[str, Tensor], config: HubertConfig) -> dict[str, Tensor]:
    """Tensors by torchaudio's names, from those or from Hugging Face's; layers above the one in use are left out."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("hubert.")
        if name.startswith("feature_projection."):
            name = "encoder." + name
        name = re.sub(r"^encoder\.(layers|pos_conv_embed|layer_norm)\.", r"encoder.transformer.\1.", name)
        layer = re.match(r"encoder\.transformer\.layers\.(\d+)\.", name)
        if layer is None or int(layer[1]) < config.layers:
            renamed[_plain(name)] = tensor
    return renamed


def load_hubert(tensors: Mapping[str, Tensor], config: HubertConfig) -> Any:
    """torchaudio's network for evaluation, with the tensors that `hubert_layout` names."""
    network = _network(config)
    network.load_state_dict({_parametrized(name): tensor for name, tensor in tensors.items()}, strict=True)
    return network.eval().requires_grad_(False)


def _network(config: HubertConfig) -> Any:  # torchaudio's Wav2Vec2Model
    channels = config.conv_channels
    return import_torchaudio().models.wav2vec2_model(
        extractor_mode=config.conv_norm,
        extractor_conv_layer_config=[(channels, 10, 5)] + [(channels, 3, 2)] * 4 + [(channels, 2, 2)] * 2,
        extractor_conv_bias=config.conv_bias,
        encoder_embed_dim=config.dimension,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=config.position_kernel,
        encoder_pos_conv_groups=config.position_groups,
        encoder_num_layers=config.layers,
        encoder_num_heads=config.heads,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=config.feed_forward,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=config.norm_first,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )


# The positional convolution is weight-normalised; torch stores its two halves by either pair of names.
_PARAMETRIZED = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def _plain(name: str) -> str:
    for long, short in _PARAMETRIZED.items():
        name = name.replace(long, short)
    return name


def _parametrized(name: str) -> str:
    for long, short in _PARAMETRIZED.items():
        name = name.replace(short, long)
    return name
