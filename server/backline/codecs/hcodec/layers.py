"""The layers of HCodec: ConvNeXt, residual and transformer blocks, and the convolutions of the semantic path."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.rotary import rotation, turned

HEAD_WIDTH = 64
LARGEST_FEED_FORWARD = 4096  # of the transformer
SEMANTIC_STRIDES = (2, 1, 2)
GROUPS = 32


class ConvNeXtBlock(nn.Module):
    """[row, width, time] -> the same: depthwise convolution over 7 steps, then a scaled feed-forward part."""

    def __init__(self, width: int, feed_forward: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, feed_forward)
        self.down = nn.Linear(feed_forward, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).transpose(1, 2)


class ResidualBlock(nn.Module):
    """[row, width, time] -> the same; its norms pool over the whole time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(y)))
        return out


class Transformer(nn.Module):
    """[row, time, width] -> the same, every step seeing all others."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class TransformerLayer(nn.Module):
    """Pre-norm attention whose queries, keys and values come from an LSTM, then a SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = min(4 * width, LARGEST_FEED_FORWARD)
        self.heads = width // HEAD_WIDTH
        self.norm1 = nn.RMSNorm(width, eps=1e-6)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.norm1(x))
        q, k, v = (
            part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        turn = rotation(torch.arange(x.shape[1], device=x.device), q.shape[-1])
        attended = F.scaled_dot_product_attention(turned(q, turn), turned(k, turn), v)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        out: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return out


class SemanticEncoder(nn.Module):
    """Features [row, feature, hop] -> [row, latent, code]."""

    def __init__(self, features: int, width: int, latent: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(features, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(SemanticUnit(width), SemanticUnit(width), resampling(width, stride))
            for stride in SEMANTIC_STRIDES
        )
        self.last = nn.Conv1d(width, latent, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features)
        for block in self.blocks:
            x = block(x)
        latent: Tensor = self.last(x)
        return latent


class SemanticDecoder(nn.Module):
    """[row, latent, code] -> features [row, feature, hop]; only training asks what the codes say of the features."""

    def __init__(self, latent: int, width: int, features: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(latent, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(resampling(width, stride, up=True), SemanticUnit(width), SemanticUnit(width))
            for stride in SEMANTIC_STRIDES
        )
        self.last = nn.Conv1d(width, features, 3, padding=1, bias=False)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.first(latent)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.last(x)
        return features


class SemanticUnit(nn.Module):
    """[row, width, time] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.elu(self.conv1(F.elu(x))))
        return out


def resampling(width: int, stride: int, up: bool = False) -> nn.Module:
    """A convolution [row, width, time] to `stride` times fewer, or more, steps."""
    if stride == 1:
        return nn.Conv1d(width, width, 3, padding=1)
    if up:
        return nn.ConvTranspose1d(
            width, width, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2
        )
    return nn.Conv1d(width, width, 2 * stride, stride, padding=(2 * stride - 1) // 2)
