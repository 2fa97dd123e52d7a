"""Times one decode step of a stage, the fused kernel beside what else could run it, on one core in one run.

python bench/decode_step.py --layers 4 --dim 256 --window 512  # one token a position, guided
python bench/decode_step.py --layers 6 --dim 320 --window 512 --codebooks 8 --branches 1  # a frame a position, unguided
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
from typing import Literal

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
QUANTIZERS = 4  # of a stage that predicts one token a position
REAL_TIME_STEPS = 650  # tokens per second of audio, all three stages
REAL_TIME_FRAMES = 75


@dataclass(frozen=True)
class Case:
    """What all peers run."""

    arrays: StageArrays
    window: int
    branches: Literal[1, 2]

    @property
    def codebooks(self) -> int:
        """Predicted at every position; 0 where it is one token after the other."""
        return 0 if self.arrays.delays is None else len(self.arrays.delays)

    @property
    def guidance(self) -> float:
        return GUIDANCE if self.branches == 2 else 1.0


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
    case = Case(random_stage(options), options.window, options.branches)
    peers = [
        Peer("Backline bfloat16", lambda: fused(case, "bfloat16")),
        Peer("Backline float32", lambda: fused(case, "float32")),
        Peer("Backline bfloat16, 2 sessions", lambda: fused(case, "bfloat16", sessions=2)),
        Peer("torch eager", lambda: torch_peer(case, lambda module, _: module)),
        Peer("torch.compile", lambda: torch_peer(case, compiled)),
        Peer("ONNX Runtime", lambda: torch_peer(case, onnx_session)),
    ]
    measure(peers, options.rounds, options.steps)
    show(peers, options)
    if options.json:
        results = [{"peer": p.name, "microseconds": [1e6 * s for s in p.seconds], "skipped": p.skipped} for p in peers]
        options.json.write_text(json.dumps({"options": {**vars(options), "json": None}, "peers": results}, indent=2))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times one decode step (full ring, sampling included) of the fused kernel, torch eager, "
        "torch.compile and ONNX Runtime on one core.",
        epilog="example: python bench/decode_step.py --layers 6 --dim 320 --codebooks 8 --branches 1 --rounds 20",
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--window", type=int, default=512, help="positions attended to")
    parser.add_argument("--codebooks", type=int, help="predicted at every position; without: one token a position")
    parser.add_argument("--branches", type=int, choices=(1, 2), default=2, help="2: guided, 1: not")
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
    what = f"{options.codebooks} codebooks" if options.codebooks else "one token"
    table = Table(
        title=f"One step: {options.layers} layers, dim {options.dim}, {options.window} positions, {what} each, "
        f"{'guided' if options.branches == 2 else 'unguided'}, {options.rounds} x {options.steps} steps, one core"
    )
    rate = REAL_TIME_FRAMES if options.codebooks else REAL_TIME_STEPS
    for heading in ("", "µs median", "µs best", "ratio", f"cores at {rate}/s"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    base = float(np.median(peers[0].seconds)) if peers[0].seconds else float("nan")
    for peer in peers:
        if peer.skipped:
            table.add_row(peer.name, "skipped")
            continue
        median, best = float(np.median(peer.seconds)), min(peer.seconds)
        columns = (1e6 * median, 1e6 * best, median / base, rate * median)
        table.add_row(
            peer.name, *(f"{n:{form}}" for n, form in zip(columns, (".0f", ".0f", ".2f", ".2f"), strict=True))
        )
    console = Console()
    console.print(table)
    for peer in peers:
        if peer.skipped:
            console.print(f"{peer.name} was skipped: {peer.skipped}", highlight=False)


# ---- the peers


def fused(case: Case, dtype: Literal["float32", "bfloat16"], sessions: int = 1) -> Generate:
    """The kernel; its time is that of one step of all sessions together."""
    stage = DecodeStage(case.arrays, sessions, case.window, dtype, branches=case.branches)
    rows, dim = list(range(sessions)), case.arrays.norm.shape[0]
    stage.prefill(rows, noise(sessions, case.branches, case.window, dim))

    def generate(steps: int) -> None:
        if case.codebooks:
            conditions = np.ones((sessions, case.branches, steps, dim), np.float32)
            stage.generate_frames(rows, conditions, guidance=case.guidance, temperature=TEMPERATURE, top_k=TOP_K)
        else:
            stage.generate(rows, steps, guidance=case.guidance, temperature=TEMPERATURE, top_k=TOP_K)

    return generate


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
        """Logits [branch, vocabulary] and the new keys and values [layer, branch, head, 1, head dim].

        Args:
            x: [branch, dim]; head: [vocabulary, dim]; bias: [head, 1, slot]; newest_bias: [head, 1, 1];
            keys, values: [layer, branch, head, slot, head dim].
        """
        branches = x.shape[0]
        new_keys, new_values = [], []
        for layer in range(self.layers):
            w = {name: weight[layer] for name, weight in self.stacked.items()}
            y = self.norm(x, w["norm1"])
            q, k, v = (y @ w["qkv"].T).view(branches, 3, self.heads, 1, self.head_dim).unbind(1)
            q, k = self.norm(q, w["q_norm"]) / self.head_dim**0.5, self.norm(k, w["k_norm"])
            old = q @ keys[layer].transpose(-1, -2) + bias
            weights = torch.cat([old, q @ k.transpose(-1, -2) + newest_bias], dim=-1).softmax(dim=-1)
            attended = weights[..., :-1] @ values[layer] + weights[..., -1:] * v
            x = x + attended.reshape(branches, -1) @ w["out"].T
            y = self.norm(x, w["norm2"])
            x = x + (F.gelu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T
            new_keys.append(k)
            new_values.append(v)
        return self.norm(x, self.final_norm) @ head.T, torch.stack(new_keys), torch.stack(new_values)

    def norm(self, x: Tensor, scale: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + self.epsilon) * scale


Step = Callable[..., tuple[Tensor, Tensor, Tensor]]


def torch_peer(case: Case, prepare: Callable[[TorchStep, tuple[Tensor, ...]], Step]) -> Generate:
    """Embedding, ring and sampling around a step in torch."""
    arrays, window, branches = case.arrays, case.window, case.branches
    module = TorchStep(arrays).eval()
    keys = torch.from_numpy(noise(module.layers, branches, module.heads, window, module.head_dim))
    values = torch.randn_like(keys)
    distances = np.arange(window)
    by_distance = torch.from_numpy(arrays.bias[distance_buckets(distances, len(arrays.bias), arrays.max_distance)].T)
    tables, heads = torch.from_numpy(arrays.tokens), torch.from_numpy(arrays.heads)
    slots, drawn = torch.arange(window), max(case.codebooks, 1)  # tokens a position
    settings = (torch.full((drawn,), TEMPERATURE), torch.full((drawn,), TOP_K))
    guidance, condition = torch.full((drawn,), case.guidance), torch.ones(branches, tables.shape[-1])
    random = torch.Generator().manual_seed(0)
    position, tokens = window, torch.zeros(drawn, dtype=torch.int64)

    def inputs() -> tuple[Tensor, ...]:
        slot = position % window
        bias = by_distance[:, (slot - slots) % window].clone()
        bias[:, slot] = -torch.inf
        if case.codebooks:
            x, head = tables[torch.arange(drawn), tokens].sum(0) + condition, heads.flatten(0, 1)
        else:
            x, head = tables[(position - 1) % QUANTIZERS, tokens].expand(branches, -1), heads[position % QUANTIZERS]
        return x.contiguous(), head, bias[:, None], by_distance[:, :1, None].contiguous(), keys, values

    step = prepare(module, inputs())

    def generate(steps: int) -> None:
        nonlocal position, tokens
        for _ in range(steps):
            logits, new_keys, new_values = step(*inputs())
            slot = position % window
            keys[..., slot : slot + 1, :], values[..., slot : slot + 1, :] = new_keys, new_values
            by_branch = logits.view(branches, drawn, -1)
            mixed = guide(by_branch[0], by_branch[1], guidance) if branches == 2 else by_branch[0]
            tokens = choose(mixed, *settings, torch.rand(drawn, generator=random))
            position += 1

    return generate


def compiled(module: TorchStep, example: tuple[Tensor, ...]) -> Step:
    return torch.compile(module, dynamic=False)


def onnx_session(module: TorchStep, example: tuple[Tensor, ...]) -> Step:
    """The exported step. Raises ImportError where ONNX Runtime or the exporter is not installed."""
    import onnxruntime

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


def random_stage(options: argparse.Namespace) -> StageArrays:
    """A stage of the given sizes with random weights."""
    layers, dim, head_dim = options.layers, options.dim, options.head_dim
    vocabulary, window = options.vocabulary, options.window
    if dim % head_dim:
        raise SystemExit(f"--dim {dim} is no multiple of --head-dim {head_dim}")
    heads, inner = dim // head_dim, dim * 8 // 3
    quantizers = options.codebooks or QUANTIZERS
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
        heads=noise(quantizers, vocabulary, dim),
        bias=noise(32, heads),
        max_distance=max(window, 32),
        tokens=noise(quantizers, vocabulary, dim),
        begin=noise(quantizers, dim) if options.codebooks else noise(dim),
        delays=np.zeros(quantizers, np.int64) if options.codebooks else None,
    )


def noise(*shape: int) -> Floats:
    """Normal numbers whose products with unit vectors stay near 1."""
    return (np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
