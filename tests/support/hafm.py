"""A session on a HAFM, played chunk by chunk without an engine; aligned networks that have opinions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from backline.models.hafm.aligned.config import AlignedStageConfig
from backline.models.hafm.aligned.network import AlignedNetwork
from backline.models.hafm.listening.hints import ChordHints
from backline.models.hafm.stream import HafmStream
from backline.models.rows import sounding
from backline.models.stream import ChunkInput, ChunkOutput, Notes, SessionConfig, Transport

RATE = 24_000


def session(
    chunk: float = 0.4, visibility: float = 0.4, seed: int = 1, parameters: Mapping[str, float] | None = None
) -> SessionConfig:
    return SessionConfig(
        sample_rate=RATE,
        channels=1,
        chunk_seconds=Fraction(chunk).limit_denominator(1000),
        visibility_seconds=visibility,
        seed=seed,
        parameters=parameters or {},
    )


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """[1, sample] a gliding tone that comes and goes."""
    time = np.arange(int(seconds * RATE)) / RATE
    glide = 220 * (1 + 0.2 * np.sin(2 * np.pi * 0.5 * time + seed))
    tone = np.sin(2 * np.pi * np.cumsum(glide) / RATE) * (0.3 + 0.2 * np.sin(2 * np.pi * 2 * time))
    return tone[None].astype(np.float32)


@dataclass
class Player:
    """One open session and what it has been given and has answered."""

    stream: HafmStream
    config: SessionConfig
    signal: np.ndarray  # [1, sample]; silence follows
    transport: Transport | None = None
    notes: Sequence[Notes] = ()
    fed: int = 0
    row: int = -1
    outputs: list[ChunkOutput] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row = self.stream.open(self.config)

    def next_input(self) -> ChunkInput:
        required = max(self.fed, self.stream.required_input(self.row))
        block = self.signal[:, self.fed : required]
        silence = np.zeros((1, required - self.fed - block.shape[1]), np.float32)
        notes = tuple(some for some in self.notes if self.fed <= some.position < required)
        self.fed = required
        audio = np.concatenate([block, silence], axis=1)
        return ChunkInput(self.row, audio, self.transport, self.config.parameters, notes=notes)

    def audio(self) -> np.ndarray:
        """All output, checked to be without gaps."""
        position = 0
        for output in self.outputs:
            assert output.position == position
            position += output.audio[0].shape[1]
        return np.concatenate([output.audio[0] for output in self.outputs], axis=1)

    def codes(self) -> np.ndarray:
        """[frame, codebook] of all chunks, checked to be without gaps."""
        frame = 0
        for output in self.outputs:
            assert output.first_frame == frame
            frame += len(output.frames)
        return np.concatenate([output.frames for output in self.outputs])


def play(players: Sequence[Player], chunks: int) -> None:
    """`chunks` chunks of every session, all in one batch."""
    for _ in range(chunks):
        outputs = players[0].stream.step([player.next_input() for player in players])
        for player, output in zip(players, outputs, strict=True):
            assert output.row == player.row
            player.outputs.append(sounding(output))


def lively(config: AlignedStageConfig) -> AlignedNetwork:
    """A network whose logits are far from equal and which every input moves."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = AlignedNetwork(config).eval().requires_grad_(False)
        for parameter in (*built.conditions.values(), built.tokens, built.transformer.bias):
            parameter.normal_()
        if config.code_width:
            built.head_bias.normal_()
        else:
            built.heads.normal_(std=0.5)
    return built


def random_hints() -> ChordHints:
    """A few neurons that take sides."""
    random = np.random.default_rng(0)
    shapes = ChordHints.shapes(hidden=8).items()
    return ChordHints(**{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes})
