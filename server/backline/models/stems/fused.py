"""The decoder's step as a fused kernel: what tells one position on a CPU, where a network's sizes allow it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.kernels.llama import LlamaKernel, LlamaMatrices, can_fuse
from backline.nn.llama import KeyValueCache, Llama


class FusedStep:
    """`Llama.extend` of one position of one row, over the same cache."""

    def __init__(self, decoder: Llama, bfloat16: bool) -> None:
        config = decoder.config
        blocks = list(decoder.blocks)

        def stacked(name: str) -> NDArray[np.float32]:
            weights = [block.get_parameter(f"{name}.weight").detach().float().numpy() for block in blocks]
            return np.stack(weights)

        matrices = LlamaMatrices(
            norm1=stacked("norm1"),
            qkv=stacked("qkv"),
            out=stacked("out"),
            norm2=stacked("norm2"),
            gate_up=stacked("gate_up"),
            down=stacked("down"),
            norm=decoder.norm.weight.detach().float().numpy(),
        )
        self._kernel = LlamaKernel(matrices, config.heads, config.rope_base, config.norm_epsilon, bfloat16)

    @staticmethod
    def fits(decoder: Llama) -> bool:
        """Whether the kernel takes a decoder: on a CPU, and of sizes that fall into whole blocks of lanes."""
        config = decoder.config
        return decoder.norm.weight.device.type == "cpu" and can_fuse(config.width, config.heads, config.feed_forward)

    def __call__(self, x: Tensor, cache: KeyValueCache) -> Tensor:
        """The next position [1, 1, width] of a cache of one row.

        Raises:
            ValueError: there are more rows or positions, or the cache is full.
        """
        if x.shape[:2] != (1, 1) or cache.keys.shape[1] != 1 or cache.length == cache.keys.shape[3]:
            raise ValueError(
                f"one position of one row is stepped at a time, into a cache with room: got {list(x.shape)} after "
                f"{cache.length} of {cache.keys.shape[3]}"
            )
        keys, values = cache.keys[:, 0].numpy(), cache.values[:, 0].numpy()
        hidden = self._kernel.step(x[0, 0].numpy(), keys, values, cache.length)
        cache.length += 1
        return torch.from_numpy(hidden)[None, None]

    def resident_bytes(self) -> int:
        return self._kernel.resident_bytes()
