"""What stands between a heard voice and a codec: whatever answers vocal tokens with codes, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from backline.models.hafm.grid import Grid
from backline.models.hafm.held import HeldNotes
from backline.models.stream import Heard, Transport
from backline.nn.tables import Entries

Tokens = NDArray[np.int64]  # [codebook, frame]
MOST_GUIDANCE, MOST_TEMPERATURE = 10.0, 2.0
CODEC_RATE = 24_000  # Hz, of every codec that makes sound of the codes
Backend = Literal["bfloat16", "float32", "torch"]  # what decodes: the fused step at that precision, or torch


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    guidance: Annotated[float, Meta(ge=0, le=MOST_GUIDANCE)] = 3.0
    temperature: Annotated[float, Meta(ge=0, le=MOST_TEMPERATURE)] = 0.9
    top_k: Entries = 250


@dataclass(frozen=True)
class Cue:
    """What one row is given for one chunk."""

    row: int
    grid: Grid
    chunk: int  # its number
    vocal: Tokens  # [1, frame] those that the chunk's visibility adds
    transport: Transport | None
    sampling: Sampling
    key: int | None = None  # tonic + 12 for minor; None: to be heard
    ahead: float = 0.0  # seconds by which the song's time, by which is drawn, runs ahead of the session's
    held: HeldNotes | None = None  # what leads the band's chords, if a keyboard may
    keep: bool = False  # whether a chord that was held stays
    heard: bool = False  # whether the transport was heard from the voice (listening/), where the host tells none


class Band(Protocol):
    """The resident stages and their rows. All calls come from one thread."""

    held_back: int  # frames by which codes come later than the chunk that they belong to
    takes_key: bool  # whether a cue's key makes a difference
    lookahead: Fraction  # seconds by which a grid's visibility may exceed its chunk

    def reset(self, row: int, seed: int) -> None:
        """Empties a row for a session with `seed`."""
        ...

    def play(self, cues: Sequence[Cue]) -> Sequence[Tokens | Exception]:
        """Codes [codebook, frame] for every cue, each row at most once; the first chunk's lack the held-back frames.

        A row that fails answers with what it failed of, and must be reset; the others are none the worse.
        """
        ...

    def heard(self, row: int) -> tuple[Heard, ...]:
        """What the row's newest chunk is played by, of a band that hears chords or a beat."""
        ...

    def full_after(self) -> Fraction:
        """Seconds after which all windows are full, so that a chunk costs what it will always cost."""
        ...

    def kv_bytes(self) -> int:
        """Memory of one row's KV caches."""
        ...

    def resident_bytes(self) -> int:
        """Memory held by weights and rows."""
        ...
