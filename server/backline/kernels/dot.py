"""The inner product that other kernels are made of, summed in the order that the processor likes best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled


@compiled(fastmath={"reassoc", "contract", "nsz"})
def dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> Any:
    """Sum of a[i] * b[i]. Its order depends on processor and length alone: on one machine, equal is equal."""
    total = np.float32(0.0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total
