"""The paper's stages playing chunk after chunk in the interleaved layout: the voice's tokens in, codes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from backline.models.hafm.band import Backend, Cue, Tokens
from backline.models.hafm.interleaved.config import InterleavedConfig
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.interleaved.player import Cache, ChunkJob, StagePlayer
from backline.models.hafm.sources import TRANSPORT, VOCAL
from backline.models.hafm.transport import transport_tokens
from backline.models.rows import together
from backline.models.stream import Heard

PREDICTED = {"semantic": "instrumental", "coarse": "coarse", "fine": "fine"}  # stage -> source that it becomes


class InterleavedBand:
    """A `Band` (band.py)."""

    held_back = 0
    takes_key = False
    lookahead = Fraction(0)

    def __init__(
        self, config: InterleavedConfig, networks: Mapping[str, StageNetwork], rows: int, backend: Backend, cache: Cache
    ) -> None:
        self.config = config
        self.players = {
            name: StagePlayer(networks[name], rows, number, backend, cache)
            for number, name in enumerate(PREDICTED)
            if name in networks
        }

    def reset(self, row: int, seed: int) -> None:
        for player in self.players.values():
            player.reset(row, seed)

    def play(self, cues: Sequence[Cue]) -> list[Tokens | Exception]:
        known = {cue.row: {VOCAL.name: cue.vocal, TRANSPORT.name: _beat(cue)} for cue in cues}
        failed: dict[int, Exception] = {}
        for stage, player in self.players.items():
            jobs = [
                ChunkJob(cue.row, cue.grid, cue.chunk, known[cue.row], cue.sampling, cue.ahead)
                for cue in cues
                if cue.row not in failed
            ]
            for job, predicted in zip(jobs, together(jobs, player.play, player.snapshot, player.restore), strict=True):
                if isinstance(predicted, Exception):
                    failed[job.row] = predicted
                else:
                    known[job.row][PREDICTED[stage]] = predicted
        return [failed[cue.row] if cue.row in failed else _codes(known[cue.row]) for cue in cues]

    def heard(self, row: int) -> tuple[Heard, ...]:
        return ()  # its stages know of no chord

    def full_after(self) -> Fraction:
        return max(
            Fraction(stage.window, stage.rate * stage.quantizers + sum(source.rate for source in stage.sources))
            for stage in self.config.stages().values()
        )

    def kv_bytes(self) -> int:
        return sum(player.decoder.kv_bytes() for player in self.players.values())

    def resident_bytes(self) -> int:
        return sum(player.resident_bytes() for player in self.players.values())


def _codes(tokens: Mapping[str, Tokens]) -> Tokens:
    return np.concatenate([tokens["coarse"], tokens["fine"]])


def _beat(cue: Cue) -> Tokens:
    """The transport tokens [1, frame] that the chunk adds."""
    start = cue.grid.source_frames(TRANSPORT, cue.chunk - 1) if cue.chunk else 0
    stop = cue.grid.source_frames(TRANSPORT, cue.chunk)
    return transport_tokens(cue.transport, start, stop - start)[None]
