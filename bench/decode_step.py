"""Times one guided decode step of a stage, the fused kernel beside what else could run it, on one core in one run.

python bench/decode_step.py --layers 4 --dim 256 --window 512
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from backline.kernels.decode import DecodeStage
from backline.kernels.decode_arrays import StageArrays, distance_buckets
from backline.nn.sampling import choose, guide

Floats = NDArray[np.float32]
Generate = Callable[[int], object]  # generates that many tokens
GUIDANCE, TEMPERATURE, TOP_K = 3.0, 0.9, 250
QUANTIZERS = 4
REAL_TIME_STEPS = 650  # per second of audio, all three stages


@dataclass
class Peer:
    """One way to run the step; `make` gives a generator whose ring is full, or raises when it cannot run here."""

    name: str
    make: Callable[[], Generate]
    seconds: list[float] = field(default_factory=list)  # per step, one entry a round
    skipped: str = ""


def main() -> int:
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    arrays = random_stage(options.layers, options.dim, options.head_dim, options.vocabulary, options.window)
    peers = [
        Peer("Backline bfloat16", lambda: fused(arrays, options.window, "bfloat16")),
        Peer("Backline float32", lambda: fused(arrays, options.window, "float32")),
        Peer("Backline bfloat16, 2 sessions", lambda: fused(arrays, options.window, "bfloat16", sessions=2)),
        Peer("torch eager", lambda: torch_peer(arrays, options.window, lambda module, _: module)),
        Peer("torch.compile", lambda: torch_peer(arrays, options.window, compiled)),
        Peer("ONNX Runtime", lambda: torch_peer(arrays, options.window, onnx_session)),
    ]
    measure(peers, options.rounds, options.steps)
    show(peers, options)
    if options.json:
        results = [{"peer": p.name, "microseconds": [1e6 * s for s in p.seconds], "skipped": p.skipped} for p in peers]
        options.json.write_text(json.dumps({"options": {**vars(options), "json": None}, "peers": results}, indent=2))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times one guided decode step (two branches, full ring, sampling included) of the fused kernel, "
        "torch eager, torch.compile and ONNX Runtime on one core.",
        epilog="example: python bench/decode_step.py --layers 6 --dim 256 --window 1024 --rounds 20",
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--window", type=int, default=512, help="positions attended to")
    parser.add_argument("--steps", type=int, default=25, help="steps of each peer in each round")
    parser.add_argument("--rounds", type=int, default=10, help="rounds; within one, all peers take turns")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args(arguments)


def measure(peers: list[Peer], rounds: int, steps: int) -> None:
    """Peers take turns, so that whatever else the machine does falls on all of them."""
    ready: list[tuple[Peer, Generate]] = []
    for peer in track(peers, "compiling"):
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # exporters are talkative
                generate = peer.make()
                generate(2)
        except Exception as error:
            peer.skipped = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        ready.append((peer, generate))
    for _ in track(range(rounds), "measuring"):
        for peer, generate in ready:
            start = time.perf_counter()
            generate(steps)
            peer.seconds.append((time.perf_counter() - start) / steps)


def show(peers: list[Peer], options: argparse.Namespace) -> None:
    table = Table(
        title=f"One step: {options.layers} layers, dim {options.dim}, {options.window} positions, "
        f"{options.rounds} x {options.steps} steps, one core"
    )
    for heading in ("", "µs median", "µs best", "ratio", f"cores at {REAL_TIME_STEPS}/s"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    base = float(np.median(peers[0].seconds)) if peers[0].seconds else float("nan")
    for peer in peers:
        if peer.skipped:
            table.add_row(peer.name, "skipped")
            continue
        median, best = float(np.median(peer.seconds)), min(peer.seconds)
        columns = (1e6 * median, 1e6 * best, median / base, REAL_TIME_STEPS * median)
        table.add_row(
            peer.name, *(f"{n:{form}}" for n, form in zip(columns, (".0f", ".0f", ".2f", ".2f"), strict=True))
        )
    console = Console()
    console.print(table)
    for peer in peers:
        if peer.skipped:
            console.print(f"{peer.name} was skipped: {peer.skipped}", highlight=False)


# ---- the peers


def fused(arrays: StageArrays, window: int, dtype: str, sessions: int = 1) -> Generate:
    """The kernel; its time is that of one step of all sessions together."""
    stage = DecodeStage(arrays, sessions, window, "bfloat16" if dtype == "bfloat16" else "float32")
    rows = list(range(sessions))
    stage.prefill(rows, noise(sessions, 2, window, arrays.norm.shape[0]))
    return lambda steps: stage.generate(rows, steps, guidance=GUIDANCE, temperature=TEMPERATURE, top_k=TOP_K)


class TorchStep(nn.Module):
    """The step as a pure function over a fixed ring, so that eager, compiled and exported code is the same code.

    The current slot of the ring is masked out and its key and value come in apart, which saves copying the ring.
    """

    def __init__(self, arrays: StageArrays) -> None:
        super().__init__()
        names = ("norm1", "qkv", "q_norm", "k_norm", "out", "norm2", "gate", "up", "down")
        self.stacked = nn.ParameterDict({name: torch.from_numpy(getattr(arrays, name)) for name in names})
        self.final_norm = nn.Parameter(torch.from_numpy(arrays.norm))
        self.layers, self.heads, self.head_dim = len(arrays.norm1), arrays.bias.shape[1], arrays.q_norm.shape[1]
        self.epsilon = arrays.norm_epsilon

    def forward(
        self, x: Tensor, head: Tensor, bias: Tensor, newest_bias: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [2, vocabulary] and the new keys and values [layer, 2, head, 1, head dim].

        Args:
            x: [2, dim]; head: [vocabulary, dim]; bias: [head, 1, slot]; newest_bias: [head, 1, 1];
            keys, values: [layer, 2, head, slot, head dim].
        """
        new_keys, new_values = [], []
        for layer in range(self.layers):
            w = {name: weight[layer] for name, weight in self.stacked.items()}
            y = self.norm(x, w["norm1"])
            q, k, v = (y @ w["qkv"].T).view(2, 3, self.heads, 1, self.head_dim).unbind(1)
            q, k = self.norm(q, w["q_norm"]) / self.head_dim**0.5, self.norm(k, w["k_norm"])
            old = q @ keys[layer].transpose(-1, -2) + bias
            weights = torch.cat([old, q @ k.transpose(-1, -2) + newest_bias], dim=-1).softmax(dim=-1)
            attended = weights[..., :-1] @ values[layer] + weights[..., -1:] * v
            x = x + attended.reshape(2, -1) @ w["out"].T
            y = self.norm(x, w["norm2"])
            x = x + (F.gelu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T
            new_keys.append(k)
            new_values.append(v)
        return self.norm(x, self.final_norm) @ head.T, torch.stack(new_keys), torch.stack(new_values)

    def norm(self, x: Tensor, scale: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + self.epsilon) * scale


Step = Callable[..., tuple[Tensor, Tensor, Tensor]]


def torch_peer(arrays: StageArrays, window: int, prepare: Callable[[TorchStep, tuple[Tensor, ...]], Step]) -> Generate:
    """Embedding, ring and sampling around a step in torch."""
    module = TorchStep(arrays).eval()
    keys = torch.from_numpy(noise(module.layers, 2, module.heads, window, module.head_dim))
    values = torch.randn_like(keys)
    distances = np.arange(window)
    by_distance = torch.from_numpy(arrays.bias[distance_buckets(distances, len(arrays.bias), arrays.max_distance)].T)
    tokens, heads = torch.from_numpy(arrays.tokens), torch.from_numpy(arrays.heads)
    slots = torch.arange(window)
    settings = (torch.tensor([TEMPERATURE]), torch.tensor([TOP_K]))
    random = torch.Generator().manual_seed(0)
    position, token = window, 0

    def inputs() -> tuple[Tensor, ...]:
        slot = position % window
        bias = by_distance[:, (slot - slots) % window].clone()
        bias[:, slot] = -torch.inf
        x = tokens[(position - 1) % QUANTIZERS, token].expand(2, -1).contiguous()
        return x, heads[position % QUANTIZERS], bias[:, None], by_distance[:, :1, None].contiguous(), keys, values

    step = prepare(module, inputs())

    def generate(steps: int) -> None:
        nonlocal position, token
        for _ in range(steps):
            logits, new_keys, new_values = step(*inputs())
            slot = position % window
            keys[..., slot : slot + 1, :], values[..., slot : slot + 1, :] = new_keys, new_values
            guided = guide(logits[:1], logits[1:], torch.tensor([GUIDANCE]))
            token = int(choose(guided, *settings, torch.rand(1, generator=random)))
            position += 1

    return generate


def compiled(module: TorchStep, example: tuple[Tensor, ...]) -> Step:
    return torch.compile(module, dynamic=False)


def onnx_session(module: TorchStep, example: tuple[Tensor, ...]) -> Step:
    """The exported step. Raises ImportError where ONNX Runtime or the exporter is not installed."""
    import onnxruntime  # type: ignore[import-not-found]

    program = torch.onnx.export(module, example, dynamo=True)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]

    def step(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        logits, keys, values = (torch.from_numpy(output) for output in session.run(None, arrays))
        return logits, keys, values

    return step


def random_stage(layers: int, dim: int, head_dim: int, vocabulary: int, window: int) -> StageArrays:
    """A stage of the given sizes with random weights."""
    if dim % head_dim:
        raise SystemExit(f"--dim {dim} is no multiple of --head-dim {head_dim}")
    heads, inner = dim // head_dim, dim * 8 // 3
    one = np.ones((layers, dim), np.float32)
    return StageArrays(
        norm1=one,
        qkv=noise(layers, 3 * dim, dim),
        q_norm=one[:, :head_dim],
        k_norm=one[:, :head_dim],
        out=noise(layers, dim, dim),
        norm2=one,
        gate=noise(layers, inner, dim),
        up=noise(layers, inner, dim),
        down=noise(layers, dim, inner),
        norm=one[0],
        heads=noise(QUANTIZERS, vocabulary, dim),
        bias=noise(32, heads),
        max_distance=max(window, 32),
        tokens=noise(QUANTIZERS, vocabulary, dim),
        begin=noise(dim),
    )


def noise(*shape: int) -> Floats:
    """Normal numbers whose products with unit vectors stay near 1."""
    return (np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
