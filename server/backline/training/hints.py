"""Trains what tells chords from a voice (models/hafm/listening/hints.py), on many songs that are only sung."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backline.codecs.base import SemanticEncoder
from backline.models.hafm.aligned.network import IGNORED
from backline.models.hafm.listening.hints import (
    CHORDS,
    HIDDEN,
    HINT_LAGS,
    HINT_RATE,
    INPUTS,
    VOICE_FRAMES,
    VOICE_INPUTS,
    BarCount,
    ChordHints,
    hint_inputs,
)
from backline.models.hafm.score import BAND_TURNS, VOICE_TURNS, semitones_from_c, transposed
from backline.music.composer import compose
from backline.music.singer import sing
from backline.music.world import World
from backline.training.augmentation import add_noise, vary_equalization, vary_gain
from backline.training.score import chord_tokens
from backline.training.semantics import VOCAL_NOISE

SONGS = 48  # of a batch
BARS_TOLD = (0.6, 0.2, 0.2)  # shares of the songs that come with beat and number of the bar, beat alone, or neither
BEGUN = 0.4  # share of the songs of which a session misses the beginning
MISHEARD = 0.1  # share of the steps in which nothing is heard: no step alone decides
RATE, WARM_UP = 3e-3, 50


@dataclass(frozen=True)
class HintSong:
    """A song in C major or A minor, from its first bar on."""

    vocal: NDArray[np.int16]  # [frame] the voice's tokens
    chords: NDArray[np.int8]  # [frame] of the score, see models/hafm/score.py
    bars_per_second: float

    @classmethod
    @torch.inference_mode()
    def sung(cls, seed: int, world: World, encoder: SemanticEncoder, varied: bool = True) -> HintSong:
        """The song of that seed in that world, without its band.

        Args:
            varied: in another level, colour and noise each, as a stage's training has it.
        """
        piece = compose(seed, world)
        rate = encoder.sample_rate
        voice = sing(piece.melody, piece.tempo, piece.seconds, rate, seed, piece.voice)
        if varied:
            random = np.random.default_rng(seed)
            voice = vary_gain(vary_equalization(voice, rate, random), random)
            voice = add_noise(voice, VOCAL_NOISE * random.random(), random)
        up = semitones_from_c(piece.key.tonic + 12 * (piece.key.mode == "minor"))
        vocal = transposed(encoder.encode(torch.from_numpy(voice)[None, None]).numpy(), VOICE_TURNS, -up)[0]
        chords = transposed(chord_tokens(piece, len(vocal))[None], BAND_TURNS[:1], -up)[0]
        bars_per_second = piece.tempo / 60 / piece.beats_per_bar
        return cls(vocal.astype(np.int16), chords.astype(np.int8), bars_per_second)

    @property
    def steps(self) -> int:
        return min(len(self.vocal), len(self.chords)) // VOICE_FRAMES

    def count(self, counted: bool = True) -> BarCount:
        """Where in the song every step ends."""
        ends = np.arange(1, self.steps + 1) / HINT_RATE
        return BarCount(ends * self.bars_per_second, self.bars_per_second, counted)


class _Network(nn.Module):
    """ChordHints as torch trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(INPUTS, HIDDEN)
        self.units = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.outer = nn.Linear(HIDDEN, len(HINT_LAGS) * CHORDS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores [row, step, lag, chord]."""
        states, _ = self.units(torch.relu(self.entry(inputs)))
        scores: Tensor = self.outer(states)
        return scores.unflatten(-1, (len(HINT_LAGS), CHORDS))

    def hints(self) -> ChordHints:
        weights = {name: weight.detach().numpy().copy() for name, weight in self.named_parameters()}
        return ChordHints(
            entry=weights["entry.weight"],
            entry_bias=weights["entry.bias"],
            gates_input=weights["units.weight_ih_l0"],
            gates_input_bias=weights["units.bias_ih_l0"],
            gates_hidden=weights["units.weight_hh_l0"],
            gates_hidden_bias=weights["units.bias_hh_l0"],
            outer=weights["outer.weight"],
            outer_bias=weights["outer.bias"],
        )


def train_hints(
    songs: Sequence[HintSong],
    epochs: float,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> ChordHints:
    """Learns which chord sounds while a voice is heard. Equal songs, epochs and seed: equal weights.

    Raises:
        ValueError: there are no songs.
    """
    if not songs:
        raise ValueError("no songs to learn chords from: give at least one")
    random = np.random.default_rng([seed, 2])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Network()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    batches = max(1, round(epochs * len(songs) / SONGS))
    for batch in range(batches):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - batch / batches) * min(1.0, (batch + 1) / WARM_UP)
        chosen = [songs[index] for index in random.integers(len(songs), size=SONGS)]
        inputs, wanted = _batch([_heard(song, random) for song in chosen], random)
        loss = F.cross_entropy(network(inputs).flatten(0, 2), wanted.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if (batch + 1) % 100 == 0:
            progress(f"chord hints: batch {batch + 1} of {batches}, {float(loss.detach()):.3f} nats")
    return network.hints()


def hinted(songs: Sequence[HintSong], hints: ChordHints, counted: bool | None = True) -> dict[float, float]:
    """For each of HINT_LAGS the share of steps whose chord is the likeliest.

    Args:
        counted: whether the number of the bar is told, beside the beat; None: neither.
    """
    right: dict[float, list[NDArray[np.bool_]]] = {float(lag): [] for lag in HINT_LAGS}
    for song in songs:
        vocal = song.vocal[None, : song.steps * VOICE_FRAMES].astype(np.int64)
        states = hints.states(vocal, None if counted is None else song.count(counted))
        for number, lag in enumerate(HINT_LAGS):
            wanted = _wanted(song)[:, number]
            told = hints.told(states, number).argmax(axis=0)
            right[float(lag)].append((told == wanted)[wanted != IGNORED])
    return {lag: float(np.concatenate(shares).mean()) for lag, shares in right.items()}


def _heard(song: HintSong, random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs [step, INPUTS] and wanted chords [step, lag] of what a session gets of a song."""
    told = int(random.choice(len(BARS_TOLD), p=BARS_TOLD))
    count = song.count(counted=told == 0) if told < 2 else None
    inputs = hint_inputs(song.vocal[None, : song.steps * VOICE_FRAMES].astype(np.int64), count)
    first = int(random.integers(song.steps // 2)) if random.random() < BEGUN else 0
    return inputs[first:], _wanted(song)[first:]


def _wanted(song: HintSong) -> NDArray[np.int64]:
    """The chords [step, lag] that sound a lag after each step's last frame."""
    lags = np.array([int(lag * HINT_RATE) for lag in HINT_LAGS]) * VOICE_FRAMES
    frames = (np.arange(1, song.steps + 1) * VOICE_FRAMES - 1)[:, None] + lags
    known = (frames >= 0) & (frames < len(song.chords))
    return np.where(known, song.chords[np.where(known, frames, 0)].astype(np.int64), IGNORED)


def _batch(
    heard: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs [row, step, INPUTS] and wanted chords [row, step, lag], filled up to the longest row."""
    steps = max(len(inputs) for inputs, _ in heard)
    inputs = np.zeros((len(heard), steps, INPUTS), np.float32)
    wanted = np.full((len(heard), steps, len(HINT_LAGS)), IGNORED)
    for row, (given, chords) in enumerate(heard):
        inputs[row, : len(given)], wanted[row, : len(chords)] = given, chords
    inputs[:, :, :VOICE_INPUTS] *= random.random((len(heard), steps, 1)) >= MISHEARD
    return torch.from_numpy(inputs), torch.from_numpy(wanted)
