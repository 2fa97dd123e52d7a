"""A whole DuoTok pack of random weights, as small as it gets: it opens at once and plays noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.duotok.config import ROLES, DuoTokConfig
from backline.codecs.duotok.load import packed as packed_tokenizer
from backline.codecs.duotok.renderer import TINY as TINY_RENDERER
from backline.codecs.duotok.renderer import packed as packed_renderers
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.vae.load import packed as packed_vae
from backline.models.duotok.config import TINY as TINY_LM
from tests.support.hafm import lively
from tests.support.toy_renderer import toy_network, toy_vae

RATE = 8000  # Hz, of the tokenizer and the VAE
ENTRIES, CODE_DIM = TINY_LM.entries, 6
TOKENIZER = DuoTokConfig(
    sample_rate=RATE, window=128, hop=80, bands=8, channels=8, layers=3, width=16, heads=2, kernel=3, expansion=2,
    attention="causal", context=5, ahead=(0, 2, 1), code_dim=CODE_DIM, projection=True, entries=ENTRIES,
)  # fmt: skip
LM = replace(TINY_LM, code_width=CODE_DIM)
STREAM = {
    "chunk_seconds": "8/25", "guard_seconds": "4/25", "fade_seconds": "1/25", "steps": 2,
    "sampling": {"temperature": 1.0, "top_k": 12, "top_p": 0.95},
}  # fmt: skip


def toy_tokenizer() -> Tokenizer:
    """Whose tokens are not all the same."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(TOKENIZER).eval().requires_grad_(False)
    mels = tokenizer.encoder.mel.decibels(torch.from_numpy(song(4.0))[:, None])
    tokenizer.encoder.set_statistics(mels.mean((0, 2)), mels.std((0, 2)))
    return tokenizer


def song(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """[track, sample] noises that swell and fade, whole tokens of them."""
    random, samples = np.random.default_rng(seed), round(seconds * 25) * RATE // 25
    swell = random.random((2, -(-samples // 400)), np.float32).repeat(400, axis=1)[:, :samples]
    return 0.3 * swell * random.standard_normal((2, samples), np.float32)


def toy_pack(parts: tuple[str, ...] = ("lm", "renderer")) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Tables and tensors; with the tokenizer and these."""
    config: dict[str, Any] = {
        "format": 1,
        "name": "toy-duotok",
        "version": "0.1.0",
        "family": "duotok",
        "description": "A DuoTok of random weights, for tests",
        "license": "Apache-2.0",
        "stream": STREAM,
    }
    config["tokenizer"], tensors = packed_tokenizer(toy_tokenizer())
    if "lm" in parts:
        config["lm"] = LM.to_table()
        tensors |= {f"lm.{name}": value for name, value in lively(LM.stage).state_dict().items() if name != "tokens"}
    if "renderer" in parts:
        vae = toy_vae()
        sizes = TINY_RENDERER.fitted(vae, CODE_DIM)
        table, weights = packed_renderers(
            {role: toy_network(sizes, at) for at, role in enumerate(ROLES)}, torch.float32
        )
        config["vae"], latents = packed_vae(vae, torch.float32)
        config["renderer"] = table
        tensors |= weights | latents
    return config, {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
