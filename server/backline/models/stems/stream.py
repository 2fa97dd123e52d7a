"""Separation as a stream: a mixture in, its stems out, window by window.

A chunk's way: the session's channels are held for as long as a window is; the separator hears their mean, with what it
said of the window before forced (MODELS.md F(b)); its estimates become stems in the session's channels (finish.py);
those of the chunk are laid over the fade of the chunk before. Nothing that has been given out is changed later. All of
it runs row by row, so a session's numbers never depend on who else plays, and a row is as large at its end as at its
start.

A separator tells its tracks one after another, vocals first. They leave together nevertheless: a chunk's ports have one
length (`ChunkOutput`), and a host plays them in time with each other, so the vocals could not be heard any sooner.

What a chunk may hear is its visibility: the chunk and the guard after it. A session that asks for less visibility gets
a smaller guard, of one codec frame at least, and the ledger counts what was not to be had for less as front end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Annotated

import numpy as np
from msgspec import Meta

from backline.kernels.overlap import OverlapAdd
from backline.models.rows import free_row, one_by_one
from backline.models.stems.consistency import MASK, OFF, RESIDUAL
from backline.models.stems.finish import Finish
from backline.models.stems.polarity import polarity
from backline.models.stems.separator import History, Separator
from backline.models.stems.windows import Windows
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    Port,
    RowFailed,
    SessionConfig,
    StreamSpec,
)
from backline.models.warm_up import warmed_up
from backline.nn.tables import Seconds

CAPACITY = 8  # sessions at once
WARM_UP_CHUNKS = 3  # that are timed


@dataclass(frozen=True)
class StemsSettings:
    """The [stream] table of pack.toml: how a pack is played where a session does not say."""

    chunk_seconds: Seconds = Fraction(24, 25)
    guard_seconds: Seconds = Fraction(12, 25)  # the largest, and what a session gets that asks for nothing
    fade_seconds: Seconds = Fraction(1, 25)
    consistency: Annotated[int, Meta(ge=OFF, le=MASK)] = RESIDUAL
    mask_exponent: Annotated[float, Meta(gt=0, le=100)] = 2.0
    transients: Annotated[float, Meta(ge=0, le=1)] = 0.0


@dataclass
class Row:
    """One session."""

    windows: Windows
    heard: Audio  # [channel, sample] the newest window
    history: History  # of the window before
    overlap: OverlapAdd  # of the channels of all stems
    chunk: int = 0  # the next one


class StemsStream:
    """A `Stream` (models/stream.py)."""

    capacity = CAPACITY

    def __init__(self, separator: Separator, settings: StemsSettings, resident_bytes: int) -> None:
        """`resident_bytes` are the separator's."""
        self.separator, self.settings = separator, settings
        self.spec = make_spec(
            settings, separator.sample_rate, separator.frame_samples, separator.window_frames, separator.tracks
        )
        self._weights = resident_bytes
        self._silence = separator.silence()
        self._rows: dict[int, Row] = {}

    def open(self, config: SessionConfig) -> int:
        free = free_row(self._rows, self.capacity)
        windows = self._windows(config)
        self._rows[free] = Row(
            windows=windows,
            heard=np.zeros((config.channels, windows.window), np.float32),
            history=self._silence,
            overlap=OverlapAdd(windows.weights(), windows.hop, len(self.separator.tracks) * config.channels),
        )
        return free

    def close(self, row: int) -> None:
        del self._rows[row]

    def required_input(self, row: int) -> int:
        state = self._rows[row]
        return state.windows.end(state.chunk)

    def step(self, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
        return one_by_one(inputs, lambda given: self._chunk(self._rows[given.row], given))

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        windows = self._windows(config)
        seen = (windows.hop + windows.guard) / self.separator.sample_rate
        visible = min(seen, config.visibility_seconds)
        return (
            LatencyItem("front_end", seen - visible, "the smallest guard, where less visibility was asked for"),
            LatencyItem("visibility", visible, "newest input that a chunk hears, from its start: itself and the guard"),
        )

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:  # the first window hears no history, and compiles
            return warmed_up(self, row, config, chunks=1, timed=WARM_UP_CHUNKS, device=self.separator.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return self._weights + sum(map(row_bytes, tuple(self._rows.values())))

    def _windows(self, config: SessionConfig) -> Windows:
        """The session's windows. Its guard is what its visibility leaves after the chunk, in whole frames."""
        separator, settings = self.separator, self.settings
        frame = separator.frame_samples
        hop = config.chunk_seconds * separator.sample_rate
        if hop % frame:
            raise ValueError(f"a chunk of {config.chunk_seconds} s is no whole number of frames of {frame} samples")
        # The fraction that was meant: a visibility of just the guard must not miss its last frame.
        visible = Fraction(config.visibility_seconds).limit_denominator(1_000_000) * separator.sample_rate
        largest = int(settings.guard_seconds * separator.sample_rate)
        return Windows(
            window=separator.window_frames * frame,
            hop=int(hop),
            guard=min(largest, max(frame, floor((visible - hop) / frame) * frame)),
            fade=int(settings.fade_seconds * separator.sample_rate),
            frame=frame,
        )

    def _chunk(self, row: Row, given: ChunkInput) -> ChunkOutput:
        windows = row.windows
        row.heard = np.concatenate((row.heard[:, given.audio.shape[1] :], given.audio), axis=1)
        estimates, row.history = separate_window(
            self.separator, self._silence, row.heard, row.history, windows.new_frames(row.chunk)
        )
        finish = make_finish(self.settings, given.parameters)
        stems = finish.stems(row.heard, estimates, self.separator.tracks, windows.kept)
        played = row.overlap.process(stems.reshape(-1, stems.shape[2])).reshape(*stems.shape[:2], windows.hop)
        codes = row.history.codes[..., windows.kept_frames]
        position = row.chunk * windows.hop
        row.chunk += 1
        return ChunkOutput(
            row=given.row,
            position=position,
            audio=tuple(played),
            first_frame=position // windows.frame,
            frames=codes.reshape(-1, codes.shape[-1]).T.astype(np.int32),
        )


def separate_window(
    separator: Separator, silence: History, heard: Audio, history: History, new_frames: int
) -> tuple[Audio, History]:
    """Estimates [track, sample] of one window `heard` [channel, sample], and what is said of it.

    Digital silence holds nothing to separate: its estimates are silence, too, and what is said of it is known.
    """
    if not heard.any():
        return np.zeros((len(separator.tracks), heard.shape[1]), np.float32), silence
    return separator.separate((heard * polarity(heard)).mean(axis=0, dtype=np.float32), history, new_frames)


def make_finish(settings: StemsSettings, parameters: Mapping[str, float]) -> Finish:
    """What a session's parameters ask for, and the pack's settings where they do not."""
    return Finish(
        consistency=int(parameters.get("consistency", settings.consistency)),
        mask_exponent=settings.mask_exponent,
        transients=parameters.get("transients", settings.transients),
    )


def make_spec(
    settings: StemsSettings, sample_rate: int, frame_samples: int, window_frames: int, tracks: Sequence[str]
) -> StreamSpec:
    """What a pack with such settings, that `problems` finds no fault with, takes and gives."""
    frame = Fraction(frame_samples, sample_rate)
    longest = longest_chunk(settings, frame, window_frames)
    return StreamSpec(
        input_rate=sample_rate,
        output_rate=sample_rate,
        input_channels=None,
        ports=tuple(Port(track, channels=0, description=f"the {track} of the mixture") for track in tracks),
        parameters=(
            Parameter(
                "consistency",
                settings.consistency,
                OFF,
                MASK,
                "",
                "stems sum to the mixture: 0 not at all; 1 by sharing what the estimates leave; 2 by masking it",
                integer=True,
            ),
            Parameter("transients", settings.transients, 0.0, 1.0, "", "attacks given back to the drums"),
        ),
        frame_rate=1 / frame,
        chunk_quantum_seconds=frame,
        default_chunk_seconds=settings.chunk_seconds,
        maximum_chunk_seconds=longest,
        default_visibility_seconds=float(longest + settings.guard_seconds),  # all that a chunk may hear, however long
        minimum_visibility_seconds=float(2 * frame),  # the shortest chunk with the smallest guard
        lookahead_seconds=float(settings.guard_seconds),
    )


def longest_chunk(settings: StemsSettings, frame: Fraction, window_frames: int) -> Fraction:
    """Seconds, in whole frames: what a window has besides a guard at either end."""
    return (window_frames * frame - 2 * settings.guard_seconds) // frame * frame


def problems(settings: StemsSettings, frame: Fraction, window_frames: int) -> list[str]:
    """What is wrong with the settings of a pack whose frames last `frame` seconds; nothing where all is well."""
    found = []
    step = f"{float(frame):g} s, a codec frame"
    if settings.guard_seconds < frame or settings.guard_seconds % frame:
        found.append(f"[stream] guard_seconds is {float(settings.guard_seconds):g}: use a multiple of {step}")
    longest = longest_chunk(settings, frame, window_frames)
    if longest < frame:
        found.append(
            f"[stream] guard_seconds is {float(settings.guard_seconds):g}: use less than half of the window of "
            f"{float(window_frames * frame):g} s"
        )
    elif not 0 < settings.chunk_seconds <= longest or settings.chunk_seconds % frame:
        found.append(
            f"[stream] chunk_seconds is {float(settings.chunk_seconds):g}: use a multiple of {step}, up to "
            f"{float(longest):g} s"
        )
    if not 0 < settings.fade_seconds <= frame:
        found.append(f"[stream] fade_seconds is {float(settings.fade_seconds):g}: use more than 0, up to {step}")
    return found


def row_bytes(row: Row) -> int:
    """What a session holds."""
    return row.heard.nbytes + row.history.codes.nbytes
