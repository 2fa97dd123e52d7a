"""The transport as a source of tokens: where in its bar every frame of the song lies.

The band's bar has four quarters. In any other metre it keeps the host's beats and bar lines: a shorter bar is cut, a
longer one begins again after four quarters, and bars of which a whole number makes four quarters are parts of one. So
a quarter stays a quarter, and nothing is squeezed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.models.hafm.sources import BAR_STEPS, TRANSPORT
from backline.models.stream import Transport

BEAT_STEPS = 192  # of a bar, where the frame and not the chunk is what must be in time: 12.5 ms at 96 beats a minute
BAND_BAR = 4.0  # quarters
LONGEST_SONG = 1e9  # seconds; beyond, at an absurd tempo, it no longer matters what is drawn


def bars_since(transport: Transport, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The band's bars at session times `seconds`, from the start of the bar that the transport tells of: number and
    phase. Whole numbers are the host's bar lines, except where several of its bars make one of the band's.
    """
    quarters = transport.song_position - transport.bar_start + (seconds - transport.at_seconds) * transport.tempo / 60.0
    if transport.loop is None or transport.song_position >= transport.loop[1]:
        return _bars_at(transport, quarters)
    start, end = (place - transport.bar_start for place in transport.loop)
    passes = np.maximum(np.floor((quarters - end) / (end - start)) + 1, 0)
    length = _bars_at(transport, np.array([end])) - _bars_at(transport, np.array([start]))
    # Counted on by whole bars, so that the number never falls and the phase is that of the place.
    return _bars_at(transport, quarters - passes * (end - start)) + passes * np.ceil(length - 1e-9)


def _bars_at(transport: Transport, quarters: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for places of the song, in quarter notes from the start of that bar."""
    bar = transport.quarters_per_bar
    if _makes_whole_bars(bar):  # 4/4, 2/4, ...
        return quarters / BAND_BAR + (_host_bars_before(transport) * bar % BAND_BAR) / BAND_BAR
    bars = np.floor(quarters / bar)
    return bars + (quarters - bars * bar) % BAND_BAR / BAND_BAR


def song_ahead(transport: Transport | None) -> float:
    """Seconds by which the song's time runs ahead of the session's, at the tempo of now; 0 where nothing plays.

    What is drawn at random is drawn by the song's time, so that a take that begins elsewhere is drawn alike.
    """
    if transport is None or not transport.playing:
        return 0.0
    seconds = transport.song_position * 60.0 / transport.tempo - transport.at_seconds
    return min(max(seconds, -LONGEST_SONG), LONGEST_SONG)


def bars_before(transport: Transport) -> int:
    """The band's bars before that bar, which need not begin at the song's start."""
    bar = transport.quarters_per_bar
    before = _host_bars_before(transport)
    return int(before * bar // BAND_BAR) if _makes_whole_bars(bar) else before


def _makes_whole_bars(bar: float) -> bool:
    return (BAND_BAR / bar).is_integer()


def _host_bars_before(transport: Transport) -> int:
    return round(transport.bar_start / transport.quarters_per_bar)


def transport_tokens(
    transport: Transport | None, first: int, frames: int, rate: int = TRANSPORT.rate, steps: int = BAR_STEPS
) -> NDArray[np.int64]:
    """Tokens [frame] of `frames` frames at `rate` per second from number `first` of the session on.

    A token is the bar phase at the frame's start in `steps`; `steps` itself where there is no transport or it stands
    still. The host's tempo is taken to go on, so frames may lie ahead.
    """
    if transport is None or not transport.playing:
        return np.full(frames, steps, dtype=np.int64)
    phases = bars_since(transport, (first + np.arange(frames)) / rate) % 1.0
    return np.minimum((phases * steps).astype(np.int64), steps - 1)
