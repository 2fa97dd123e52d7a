"""A model that takes windows apart, as a stream: a mixture in, its tracks out, window by window.

A chunk's way: the session's channels are held for as long as a window is; the separator hears them, with what it said
of the window before forced (MODELS.md F(b)); its estimates become tracks in the session's channels (finish.py); those
of the chunk are laid over the fade of the chunk before. Nothing that has been given out is changed later. The separator
hears the windows of all rows at once; all else runs row by row, and a row is as large at its end as at its start.

A separator may tell its tracks one after another. They leave together nevertheless: a chunk's ports have one length
(`ChunkOutput`), and a host plays them in time with each other, so the first could not be heard any sooner.

What a chunk may hear is its visibility: the chunk and the guard after it. A session that asks for less visibility gets
a smaller guard, of one frame at least, and the ledger counts what was not to be had for less as front end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backline.kernels.overlap import OverlapAdd
from backline.models.rows import each, free_row, one_by_one, raised
from backline.models.stream import (
    Audio,
    ChunkInput,
    ChunkOutput,
    LatencyItem,
    Parameter,
    RowBytes,
    RowFailed,
    SessionConfig,
)
from backline.models.warm_up import warmed_up
from backline.models.windowed.separator import History, Separated, Separator, Window
from backline.models.windowed.settings import (
    WindowedSettings,
    latency_items,
    make_finish,
    make_spec,
    session_windows,
)
from backline.models.windowed.windows import Windows

CAPACITY = 8  # sessions at once
WARM_UP_CHUNKS = 3  # that are timed


@dataclass
class Row:
    """One session."""

    windows: Windows
    heard: Audio  # [channel, sample] the newest window
    history: History  # of the window before
    overlap: OverlapAdd  # of the channels of all tracks
    chunk: int = 0  # the next one


class WindowedStream:
    """A `Stream` (models/stream.py)."""

    def __init__(
        self,
        separator: Separator,
        settings: WindowedSettings,
        resident_bytes: int,
        parameters: Sequence[Parameter] = (),
        capacity: int = CAPACITY,
    ) -> None:
        """`resident_bytes` and `parameters` are the separator's; `capacity` are sessions at once."""
        self.separator, self.settings, self.capacity = separator, settings, capacity
        self.spec = make_spec(
            settings,
            separator.sample_rate,
            separator.frame_samples,
            separator.window_frames,
            separator.tracks,
            parameters,
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
        heard = {given.row: answer for given, answer in zip(inputs, each(self._heard, inputs), strict=True)}
        windows = [window for window in heard.values() if isinstance(window, Window)]
        told = {window.row: answer for window, answer in zip(windows, self._separated(windows), strict=True)}

        def chunk(given: ChunkInput) -> ChunkOutput:
            window = raised(heard[given.row])
            return self._played(given, window, raised(told[given.row]))

        return one_by_one(inputs, chunk)

    def latency(self, config: SessionConfig) -> tuple[LatencyItem, ...]:
        return latency_items(self._windows(config), self.separator.sample_rate, config)

    def warm_up(self, config: SessionConfig) -> float:
        row = self.open(config)
        try:  # the first window hears no history, and compiles
            return warmed_up(self, row, config, chunks=1, timed=WARM_UP_CHUNKS, device=self.separator.device)
        finally:
            self.close(row)

    def resident_bytes(self) -> int:
        return self._weights + sum(self.row_bytes(row).other for row in tuple(self._rows))

    def row_bytes(self, row: int) -> RowBytes:
        playing = self._rows.get(row)
        if playing is None:
            return RowBytes()
        held = playing.heard.nbytes + playing.history.codes.nbytes + playing.overlap.memory_bytes
        return RowBytes(other=held)  # what a decoder caches of a window is of its call

    def _windows(self, config: SessionConfig) -> Windows:
        separator = self.separator
        return session_windows(
            self.settings, separator.sample_rate, separator.frame_samples, separator.window_frames, config
        )

    def _heard(self, given: ChunkInput) -> Window:
        """The window of the row's next chunk; the row stays where it is."""
        row = self._rows[given.row]
        heard = np.concatenate((row.heard[:, given.audio.shape[1] :], given.audio), axis=1)
        return Window(given.row, heard, row.history, row.windows.new_frames(row.chunk), given.parameters)

    def _separated(self, windows: Sequence[Window]) -> list[Separated | Exception]:
        """Every window taken apart. Digital silence holds nothing: its estimates are silence, and what is said of it is
        known.
        """
        asked = [window for window in windows if window.audio.any()]
        told = dict(zip((window.row for window in asked), self.separator.separate(asked) if asked else (), strict=True))
        quiet = len(self.separator.tracks), 1, self.separator.window_frames * self.separator.frame_samples
        return [
            told[window.row] if window.row in told else Separated(np.zeros(quiet, np.float32), self._silence)
            for window in windows
        ]

    def _played(self, given: ChunkInput, window: Window, told: Separated) -> ChunkOutput:
        row = self._rows[given.row]
        windows = row.windows
        row.heard, row.history = window.audio, told.history
        finish = make_finish(self.settings, given.parameters)
        tracks = finish.tracks(window.audio, told.estimates, self.separator.tracks, windows.kept)
        played = row.overlap.process(tracks.reshape(-1, tracks.shape[2])).reshape(*tracks.shape[:2], windows.hop)
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
