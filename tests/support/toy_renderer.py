"""DuoTok's renderers as small as they get: a stereo VAE of a few weights, tokens with vectors that chance has drawn."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backline.codecs.duotok.config import DuoTokConfig
from backline.codecs.duotok.renderer import TINY, Renderer, RendererConfig, RendererNetwork
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.vae.config import OobleckConfig
from backline.codecs.vae.oobleck import Oobleck

SLOW = OobleckConfig(8_000, 2, 4, multiples=(1, 1), strides=(16, 40), latent_channels=4)  # 12.5 frames a second
QUICK = replace(SLOW, strides=(4, 40))  # 50
ENTRIES, CODE_DIM = 64, 6
TOKENIZER = DuoTokConfig(
    sample_rate=4_000, window=80, hop=40, bands=8, channels=8, layers=1, width=16, heads=2, kernel=3, expansion=2,
    attention="causal", context=5, ahead=(2,), code_dim=CODE_DIM, projection=True, entries=ENTRIES,
)  # fmt: skip


def vectors(tokens: Tensor) -> Tensor:
    """Of tokens [row, token]."""
    table = torch.randn(ENTRIES, CODE_DIM, generator=torch.Generator().manual_seed(2))
    return table[tokens]


def toy_vae(config: OobleckConfig = SLOW) -> Oobleck:
    torch.manual_seed(0)
    return Oobleck(config).eval().requires_grad_(False)


def toy_network(config: RendererConfig = TINY, seed: int = 0) -> RendererNetwork:
    """None of whose weights is zero."""
    torch.manual_seed(seed)
    network = RendererNetwork(config)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    network.mean.normal_()
    network.deviation.fill_(1.5)
    return network.eval()


def toy_renderer(vae: Oobleck | None = None, seed: int = 0) -> Renderer:
    vae = vae or toy_vae()
    return Renderer(toy_network(TINY.fitted(vae, CODE_DIM), seed), vae, vectors, precision="float32")


def toy_tokens(count: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, ENTRIES, count)


def toy_tokenizer(seed: int = 0) -> Tokenizer:
    torch.manual_seed(seed)
    return Tokenizer(TOKENIZER).eval().requires_grad_(False)
