"""Warming up: chunks of a row that nobody hears, so that nothing is compiled later, and what a chunk costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import cast

import numpy as np

from backline.models.rows import sounding, whole_chunks
from backline.models.stream import ChunkInput, SessionConfig, Stream, TextStream, TokenStream

LEVEL = 0.1  # deviation of the noise that is played


def compute_clock(device: str) -> Callable[[], float]:
    """Seconds of computing, for differences on one thread: its own processor time on a CPU, where other programs that
    want the same cores must not count; on any other device the time that passes.
    """
    return time.thread_time if device == "cpu" else time.perf_counter


def warmed_up(stream: Stream, row: int, config: SessionConfig, *, chunks: int, timed: int, device: str) -> float:
    """Plays noise through an open `row`, and leaves it open.

    Args:
        chunks: that come first, to compile what there is and to fill what a chunk looks back at.
        timed: that follow.
    Returns:
        Compute seconds that one second of audio costs: the median of the timed chunks.
    Raises:
        Exception: what a chunk failed with.
    """
    noise = np.random.default_rng(0)
    clock = compute_clock(device)
    spec = stream.spec.for_task(config.task)
    channels = spec.input_channels or config.channels
    texts = {name: cast(TextStream, stream).prepare(name, text) for name, text in config.texts.items()}
    fed, frames, seconds = 0, 0, []
    for _ in range(chunks + timed):
        required = max(fed, stream.required_input(row))
        audio = LEVEL * noise.standard_normal((channels, required - fed), np.float32)
        fed = required
        codes = None
        if spec.takes:
            wanted = max(frames, cast(TokenStream, stream).required_frames(row))
            codes = np.zeros((wanted - frames, len(spec.takes)), np.int32)
            frames = wanted
        begin = clock()
        sounding(whole_chunks(stream, [ChunkInput(row, audio, None, config.parameters, texts, (), codes)])[0])
        seconds.append(clock() - begin)
    return float(median(seconds[-timed:]) / config.chunk_seconds)
