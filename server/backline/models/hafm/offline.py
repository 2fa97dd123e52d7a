"""Whole recordings in the paper's layout, for weights that were trained on nothing else.

`generate` is one clip, `[conditioning | prediction]`. `generate_sliding` goes on beyond the trained clip: for every hop
a clip that ends with it, `[conditioning | past predictions, given | hop, generated]`, so that all distances are as
trained. Conditioning stands before predictions, so nothing of a hop's cache serves the next one. The stages' windows
must hold a clip. Both use the row that a stream keeps for warming up, so they leave open sessions alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from backline.models.hafm.band import Sampling, Tokens
from backline.models.hafm.grid import CHUNK_QUANTUM, Grid
from backline.models.hafm.interleaved.band import PREDICTED, InterleavedBand
from backline.models.hafm.interleaved.config import CLIPS
from backline.models.hafm.interleaved.player import ChunkJob, StagePlayer
from backline.models.hafm.sources import TRANSPORT, VOCAL
from backline.models.hafm.stream import HafmStream, voice_noise
from backline.models.hafm.transport import transport_tokens
from backline.models.stream import Audio, Transport


@dataclass(frozen=True)
class Rendered:
    """An accompaniment under a whole recording."""

    audio: Audio  # [1, sample] at the codec's rate, as long as the voice
    codes: Tokens  # [codebook, frame]


def generate(
    stream: HafmStream, voice: Audio, seed: int, sampling: Sampling, transport: Transport | None = None
) -> Rendered:
    """The accompaniment of voice [1, sample] as one clip."""
    clip = _clip(stream, voice)
    return _render(stream, voice, seed, sampling, transport, dict.fromkeys(PREDICTED, clip), clip)


def generate_sliding(
    stream: HafmStream,
    voice: Audio,
    seed: int,
    sampling: Sampling,
    transport: Transport | None = None,
    clips: Mapping[str, Fraction] = CLIPS,
    hop: Fraction = Fraction(1),
) -> Rendered:
    """The accompaniment of voice [1, sample] of any length, a hop at a time; `clips` in seconds by stage.

    Raises:
        ValueError: hop or clips are no multiples of 40 ms, or the hop exceeds a clip.
    """
    for name, seconds in {**clips, "hop": hop}.items():
        if seconds <= 0 or seconds % CHUNK_QUANTUM:
            raise ValueError(f"{name} of {float(seconds):g} s: use a multiple of {float(CHUNK_QUANTUM):g} s")
        if hop > seconds:
            raise ValueError(f"hop of {float(hop):g} s: use at most the clip of stage {name!r}, {float(seconds):g} s")
    return _render(stream, voice, seed, sampling, transport, clips, hop)


def holding(config: Mapping[str, Any], clips: Mapping[str, Fraction]) -> dict[str, Any]:
    """The tables of an interleaved pack with windows that hold a clip of so many seconds, by stage."""
    network = dict(config["network"])
    for name in PREDICTED.keys() & network.keys():
        stage = network[name]
        rates = [stage["rate"] * stage["quantizers"], *(source["rate"] for source in stage["sources"])]
        quanta = math.ceil(clips[name] / CHUNK_QUANTUM)
        network[name] = {**stage, "window": max(stage["window"], int(quanta * CHUNK_QUANTUM * sum(rates)))}
    return {**config, "network": network}


def slide(
    player: StagePlayer,
    row: int,
    tokens: Mapping[str, Tokens],
    length: Fraction,
    clip: Fraction,
    hop: Fraction,
    seed: int,
    sampling: Sampling,
) -> Tokens:
    """One stage's predictions [quantizer, frame] over `length` seconds, a hop at a time, in a row of its own.

    Args:
        tokens: [codebook, frame] per source, of the whole length.
    """
    stage = player.config
    predictions = np.zeros((stage.quantizers, 0), np.int64)
    done = Fraction(0)
    while done < length:
        end = min(done + hop, length)
        start = max(Fraction(0), end - clip)
        grid = Grid(end - start, end - start)
        heard = {s.name: tokens[s.name][:, int(start * s.rate) : int(end * s.rate)] for s in stage.sources}
        past = predictions[:, int(start * stage.rate) :]
        player.reset(row, seed)
        player.decoder.prefill([row], player.conditioning(ChunkJob(row, grid, 0, heard, sampling))[None])
        if past.shape[1]:
            player.decoder.prefill([row], player.predicting(grid, past)[None])
            given: Any = player.decoder.snapshot(row)
            # Random numbers are counted from the recording's start, not from the clip's.
            player.decoder.restore(row, dataclasses.replace(given, predicted=predictions.size, last=int(past[-1, -1])))
        frames = int((end - done) * stage.rate)
        flat = player.decoder.generate(
            [row],
            frames * stage.quantizers,
            guidance=sampling.guidance,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            clock=player.clock(grid)[None, past.shape[1] :] if stage.chunk_clock else None,
        )
        hop_tokens = flat[0].astype(np.int64).reshape(frames, stage.quantizers).T
        predictions = np.concatenate([predictions, hop_tokens], axis=1)
        done = end
    return predictions


@torch.inference_mode()
def _render(
    stream: HafmStream,
    voice: Audio,
    seed: int,
    sampling: Sampling,
    transport: Transport | None,
    clips: Mapping[str, Fraction],
    hop: Fraction,
) -> Rendered:
    encoder, codec = stream.parts.encoder, stream.parts.codec
    length = _clip(stream, voice)
    samples = int(length * encoder.sample_rate)
    padded = np.pad(voice, ((0, 0), (0, samples - voice.shape[1])))
    noisy = padded + stream.parts.vocal_noise * voice_noise(seed, 0, samples)
    band = stream.band
    if not isinstance(band, InterleavedBand):
        raise ValueError("this pack's stages are aligned: only interleaved ones know the paper's layout")
    tokens: dict[str, Tokens] = {
        VOCAL.name: encoder.encode(torch.from_numpy(noisy)[None]).cpu().numpy(),
        TRANSPORT.name: transport_tokens(transport, 0, int(length * TRANSPORT.rate))[None],
    }
    for name, player in band.players.items():
        tokens[PREDICTED[name]] = slide(player, stream.capacity, tokens, length, clips[name], hop, seed, sampling)
    codes = np.concatenate([tokens["coarse"], tokens["fine"]])
    audio = codec.decode(torch.from_numpy(codes)[None].to(stream.parts.device))[0].float().cpu().numpy()
    return Rendered(audio[:, : round(voice.shape[1] * codec.sample_rate / encoder.sample_rate)], codes)


def _clip(stream: HafmStream, voice: Audio) -> Fraction:
    """Seconds of voice [1, sample], rounded up to whole chunk quanta."""
    quantum = int(CHUNK_QUANTUM * stream.parts.encoder.sample_rate)
    return -(-voice.shape[1] // quantum) * CHUNK_QUANTUM
