"""What a session tells its client, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backline.engine.changes import Applied
from backline.engine.ledger import Ledger
from backline.models.stream import Audio


@dataclass(frozen=True)
class OutputBlock:
    """Audio of one port; positions are the client's, at the session's rate."""

    sequence: int  # counts the session's blocks over all ports
    position: int
    port: int
    audio: Audio  # [channel, sample]
    committed: int  # audio before this position will not change


@dataclass(frozen=True)
class Frames:
    """Codec frames of one chunk."""

    first_frame: int  # of its take
    codes: NDArray[np.int32]  # [frame, codebook]
    take: int = 0


@dataclass(frozen=True)
class TextInForce:
    """A text that the client has set is obeyed from `position` on."""

    name: str
    text: str
    position: int


@dataclass(frozen=True)
class Skipped:
    """There is no output for these positions on any port: it came too late, or was never computed."""

    position: int
    samples: int


@dataclass(frozen=True)
class Marked:
    """The output at the position of a marker that the client has set has been sent, or skipped."""

    id: int
    position: int


@dataclass(frozen=True)
class TakeBegan:
    """From `heard_from` on another take is heard, whose time 0 lies at `position`."""

    number: int  # of the session's takes, from 0
    position: int
    heard_from: int  # the fade from the one before begins here
    skipped: bool = False  # it is silent from there up to `position`: what was due there was never computed


@dataclass(frozen=True)
class LedgerChanged:
    """The latency is another: output p can be played at input p + ledger.latency_samples from now on, or later."""

    ledger: Ledger


@dataclass(frozen=True)
class Warned:
    """Something that does not end the session; sent when `count` is 1 and each time it has doubled."""

    code: str  # non_finite_input or _output, input_gap, output_gap, late_output, late_event, midi_unused, foreign_metre
    message: str
    count: int  # occurrences since the session began
    position: int


@dataclass(frozen=True)
class Totals:
    """A session in numbers."""

    samples_in: int = 0
    samples_out: int = 0  # per port; what was dropped as late is not in it
    chunks: int = 0
    late_chunks: int = 0
    compute_seconds: float = 0.0


@dataclass(frozen=True)
class Finished:
    """The session has ended in order; the last event."""

    totals: Totals


@dataclass(frozen=True)
class Failed:
    """The session has ended because of `error`; the last event."""

    error: Exception


@dataclass(frozen=True)
class ChunkBegan:
    """What a chunk has brought into force, for those who listen beside; chunks that change nothing say nothing."""

    take: int
    position: int  # of the last sample that starts no later than the chunk
    applied: Applied


@dataclass(frozen=True)
class InputBlock:
    """Audio of the client's that the session has taken, for those who listen beside it (`Session.listen`)."""

    position: int  # the client's, at the session's rate
    audio: Audio  # [channel, sample] as it came: not everything need be finite


Event = OutputBlock | Frames | Skipped | Marked | TextInForce | TakeBegan | LedgerChanged | Warned | Finished | Failed
