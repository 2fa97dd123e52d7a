"""A stage played chunk by chunk: what `evict` and `recompute` mean, each against the network over whole sequences."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backline.models.hafm.band import Sampling
from backline.models.hafm.grid import Grid
from backline.models.hafm.interleaved.config import TINY
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.interleaved.player import Cache, ChunkJob, StagePlayer

CHUNKS = 6
GRID = Grid.of(0.08, 0.04)
GREEDY = Sampling(guidance=2.0, temperature=0.0)
CONFIG = replace(TINY.coarse, window=48, max_distance=48, chunk_clock=True)


def network() -> StageNetwork:
    torch.manual_seed(0)
    built = StageNetwork(CONFIG).eval().requires_grad_(False)
    for parameter in (*built.conditions.values(), built.prediction, built.heads, built.transformer.bias):
        parameter.normal_(std=0.5)
    return built


def jobs() -> list[ChunkJob]:
    """Random conditioning for every chunk."""
    random = np.random.default_rng(0)
    made = []
    for chunk in range(CHUNKS):
        tokens = {}
        for source in CONFIG.sources:
            start = GRID.source_frames(source, chunk - 1) if chunk else 0
            tokens[source.name] = random.integers(0, 500, (1, GRID.source_frames(source, chunk) - start))
        made.append(ChunkJob(0, GRID, chunk, tokens, GREEDY))
    return made


def played_slowly(built: StageNetwork, cache: Cache) -> list[np.ndarray]:
    """The oracle: for every token the transformer over all positions so far; under `recompute` it is cut, before each
    chunk's predictions, to the positions of one window."""
    embedder = StagePlayer(built, 1, 0, "float32")
    x = torch.zeros(2, 0, CONFIG.width)
    before, predictions = None, []
    for job in jobs():
        x = torch.cat([x, torch.from_numpy(embedder.conditioning(job))], dim=1)
        if cache == "recompute":
            x = x[:, -CONFIG.window :]
        frames = np.zeros((CONFIG.quantizers, 6), np.int64)
        for n in range(frames.size):
            so_far = torch.from_numpy(embedder.predicting(GRID, frames, before))[:, : n + 1]
            hidden = built.transformer(torch.cat([x, so_far], dim=1))[:, -1]
            conditioned, unconditioned = hidden @ built.heads[n % CONFIG.quantizers].T
            mixed = unconditioned + GREEDY.guidance * (conditioned - unconditioned)
            frames[n % CONFIG.quantizers, n // CONFIG.quantizers] = int(mixed.argmax())
        x = torch.cat([x, torch.from_numpy(embedder.predicting(GRID, frames, before))], dim=1)
        before = int(frames[-1, -1])
        predictions.append(frames)
    return predictions


@pytest.mark.parametrize("cache", ["evict", "recompute"])
def test_chunks_are_those_of_the_whole_network(cache: Cache) -> None:
    built = network()
    player = StagePlayer(built, 1, 0, "float32", cache)
    player.reset(0, seed=0)
    for job, expected in zip(jobs(), played_slowly(built, cache), strict=True):
        np.testing.assert_array_equal(player.play([job])[0], expected)


def test_evicting_and_recomputing_diverge_once_the_window_slides() -> None:
    """What stays in an append-only cache still knows what has left the window."""
    built = network()
    evicted, recomputed = (played_slowly(built, cache) for cache in ("evict", "recompute"))
    np.testing.assert_array_equal(evicted[0], recomputed[0])  # 30 positions: all in the window
    assert any((a != b).any() for a, b in zip(evicted[1:], recomputed[1:], strict=True))


def test_conditioning_of_the_wrong_length_is_named() -> None:
    player = StagePlayer(network(), 1, 0, "float32")
    job = jobs()[0]
    wrong = replace(job, tokens={**job.tokens, "vocal": np.zeros((1, 9), np.int64)})
    with pytest.raises(ValueError, match=r"source 'vocal' of chunk 0 has shape \(1, 9\): use \(1, 2\)"):
        player.play([wrong])
