"""Whether this machine computes faster in bfloat16."""

from __future__ import annotations

import time

import torch


def faster_in_bfloat16(device: torch.device) -> bool:
    """True on a GPU that has it, and on a CPU where matrix products, as a transformer makes them, prove faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return product_seconds(torch.bfloat16) < 0.7 * product_seconds(torch.float32)


def product_seconds(dtype: torch.dtype, repeats: int = 6) -> float:
    """Shortest time of a product [1024, 384] x [384, 1024] on the CPU; short ones are undisturbed by other work."""
    a, b = torch.ones(1024, 384, dtype=dtype), torch.ones(384, 1024, dtype=dtype)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return min(times)
