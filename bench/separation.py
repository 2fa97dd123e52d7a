"""Times one hop of four-stem separation on one core, beside other ways to run it, and computes what it costs.

python bench/separation.py                 # the pack that comes with Backline
python bench/separation.py --paper         # what the paper's sizes cost, computed; measured where there is a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from backline.models.rows import raised
from backline.models.stems.config import StemsConfig
from backline.models.stems.generate import generate
from backline.models.stems.layout import PATH_COUNT, known_positions, slots
from backline.models.stems.network import StemsNetwork, parameter_counts
from backline.models.stems.separator import StemsSeparator
from backline.models.windowed.separator import Window
from backline.models.windowed.stream import WindowedStream
from backline.packs.registry import PackRegistry

FRAME_SECONDS = 0.08


@dataclass
class Peer:
    """One way to run a hop."""

    name: str
    run: Callable[[], object]
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """Of one hop, computed from sizes."""

    steps: int  # one after the other
    prefilled: int  # positions, in a few calls
    gigaflops: float  # of network and heads; no codec
    weight_gigabytes: float  # read by the steps, in bfloat16
    cache_megabytes: float  # at a window's end, in bfloat16


def main() -> int:
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    hop = round(options.hop / FRAME_SECONDS)
    console = Console()
    if options.paper:
        config = StemsConfig()
        show_cost(console, "the paper's sizes", config, hop)
        if not torch.cuda.is_available():
            console.print("not measured: torch finds no GPU here, and 1.3e9 parameters are no work for one core")
            return 0
        peers = network_peers(StemsNetwork(config).to(torch.bfloat16).eval().cuda(), hop)
    else:
        stream = PackRegistry(options.packs).load(options.pack)
        if not isinstance(stream, WindowedStream) or not isinstance(stream.separator, StemsSeparator):
            console.print(f"pack {options.pack} is not of family stems: name one that is with --pack")
            return 1
        separator = stream.separator
        show_cost(console, options.pack, separator.network.config, hop)
        peers = [*separator_peers(separator, hop), *network_peers(separator.network, hop)]
        together = StemsNetwork(replace(separator.network.config, tracks="parallel")).eval()
        peers += [
            replace(network_peers(together, hop)[0], name="network alone, torch, all tracks at once (random weights)")
        ]
    measure(peers, options.rounds)
    show(console, peers, hop)
    if options.json:
        options.json.write_text(json.dumps({peer.name: peer.seconds for peer in peers}, indent=2))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times one hop of four-stem separation on one core (CPU), and computes what it costs.",
        epilog="example: python bench/separation.py --hop 0.96 --rounds 10",
    )
    parser.add_argument("--pack", default="stems", help="of family stems")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="folder of more packs")
    parser.add_argument("--hop", type=float, default=0.96, help="seconds, a multiple of 0.08")
    parser.add_argument("--rounds", type=int, default=10, help="rounds; within one, all peers take turns")
    parser.add_argument("--paper", action="store_true", help="the paper's sizes with random weights instead of a pack")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args(arguments)


def separator_peers(separator: StemsSeparator, hop: int) -> list[Peer]:
    """The whole of a hop: hear, tell, decode."""
    samples = separator.window_frames * separator.frame_samples
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, samples), np.float32)
    history = separator.silence()
    plain = copy(separator)
    plain.step = None

    def window(by: StemsSeparator, new_frames: int) -> None:
        (told,) = by.separate([Window(0, audio, history, new_frames)])
        raised(told)

    return [
        Peer("Backline", lambda: window(separator, hop)),
        Peer("torch in place of the fused step", lambda: window(plain, hop)),
        Peer("no overlap forced: every window told anew", lambda: window(separator, separator.window_frames)),
    ]


def network_peers(network: StemsNetwork, hop: int) -> list[Peer]:
    """The network alone: with the cache that is kept from track to track, and without."""
    config, weight = network.config, network.start
    samples = config.window_frames * config.hops_per_frame * config.mel.hop
    audio = 0.1 * torch.randn(1, 1, samples, device=weight.device, dtype=weight.dtype)
    forced = [np.zeros((len(config.stems), 2, config.codebooks, config.window_frames - hop), np.int64)]
    wait = torch.cuda.synchronize if weight.is_cuda else lambda: None

    def kept() -> None:
        generate(network, audio, forced, config.window_frames)
        wait()

    def recomputed() -> None:
        """Every step runs the whole sequence so far, as a model does that keeps no cache; one step stands for all."""
        positions = sum(part.shape[1] for part in sequence)
        network.decoder(torch.cat(sequence, dim=1)[:, : positions * 3 // 4])
        wait()

    table = network.slots(config.window_frames)
    heard = network.hear(audio)
    codes = torch.zeros(1, config.lanes, len(table), config.codebooks, dtype=torch.long, device=weight.device)
    sequence = [network.prefix(heard)]
    for segment in range(config.segments):
        sequence.append(network.inputs(heard, codes, segment, table, 0, len(table) + 1))
    return [
        Peer("network alone, torch, cache kept", kept),
        Peer("one of its steps without a cache", recomputed),
    ]


def measure(peers: list[Peer], rounds: int) -> None:
    """Peers take turns, so that whatever else the machine does falls on all of them."""
    for peer in peers:
        peer.run()
    for _ in track(range(rounds), "measuring"):
        for peer in peers:
            begin = time.perf_counter()
            peer.run()
            peer.seconds.append(time.perf_counter() - begin)


def cost(config: StemsConfig, hop: int) -> Cost:
    """What one hop of `hop` codec frames costs; the sequence is layout.py's."""
    counts = parameter_counts(config)
    table = slots(config.order, PATH_COUNT * config.window_frames, config.codebooks)
    known = known_positions(table, PATH_COUNT * (config.window_frames - hop))
    steps = config.segments * (len(table) - known)
    mel = config.window_frames * config.hops_per_frame
    prefix = 1 + mel if config.condition == "prefix" else 0
    prefilled = prefix + config.segments * (1 + known)
    heads = counts["tables"] / 4  # one path of the heads' half of all tables, at every position that is told
    read = steps * (counts["decoder"] + heads)
    flops = 2 * (mel * counts["encoder"] + prefilled * counts["decoder"] + read)
    positions = prefix + config.segments * (1 + len(table))
    cache = 2 * config.decoder.layers * config.decoder.width * 2 * positions
    return Cost(steps, prefilled, flops / 1e9, 2 * read / 1e9, cache / 1e6)


def show_cost(console: Console, name: str, config: StemsConfig, hop: int) -> None:
    found, seconds = cost(config, hop), hop * FRAME_SECONDS
    console.print(
        f"{name}, a hop of {seconds:g} s: {found.steps} steps after {found.prefilled} prefilled positions; "
        f"{found.gigaflops / seconds:.1f} GFLOP and {found.weight_gigabytes / seconds:.2f} GB of weights read per "
        f"second of audio; cache {found.cache_megabytes:.1f} MB"
    )


def show(console: Console, peers: list[Peer], hop: int) -> None:
    seconds = hop * FRAME_SECONDS
    table = Table("", "median", "p90", "of real time", "against the first")
    first = float(np.median(peers[0].seconds))
    for peer in peers:
        median, late = np.percentile(peer.seconds, [50, 90])
        table.add_row(
            peer.name,
            f"{1e3 * median:.0f} ms",
            f"{1e3 * late:.0f} ms",
            f"{median / seconds:.2f}",
            f"{median / first:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
