"""The LSTM recurrence in Numba: at one frame a call, torch's LSTM costs several times its arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backline.kernels.compiled import compiled
from backline.kernels.dot import dot


@compiled
def _sigmoid(x: Any) -> Any:
    return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


@compiled
def lstm_block(
    projected: NDArray[np.float32],  # [row, time, 4 * hidden]: weight_ih @ input + both biases
    weight: NDArray[np.float32],  # [4 * hidden, hidden], weight_hh; gates in torch's order: in, forget, cell, out
    hidden: NDArray[np.float32],  # [row, hidden], advanced in place
    cell: NDArray[np.float32],  # [row, hidden], advanced in place
    gates: NDArray[np.float32],  # [row, 4 * hidden], scratch
    out: NDArray[np.float32],  # [row, time, hidden]
) -> None:
    """One layer over a block of time. All rows share one pass over the weights, and none hears another."""
    rows, times, _ = projected.shape
    size = hidden.shape[1]
    for time in range(times):
        for gate in range(4 * size):
            for row in range(rows):
                gates[row, gate] = projected[row, time, gate] + dot(weight[gate], hidden[row])
        for row in range(rows):
            for i in range(size):
                remembered = _sigmoid(gates[row, size + i]) * cell[row, i]
                cell[row, i] = remembered + _sigmoid(gates[row, i]) * np.tanh(gates[row, 2 * size + i])
                hidden[row, i] = _sigmoid(gates[row, 3 * size + i]) * np.tanh(cell[row, i])
                out[row, time, i] = hidden[row, i]
