"""How a pack of a windowed model is played where a session does not say, and what a stream of it takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Annotated, Any

from msgspec import Meta

from backline.models.stream import LatencyItem, Parameter, Port, SessionConfig, StreamSpec
from backline.models.windowed.consistency import MASK, OFF, RESIDUAL
from backline.models.windowed.finish import DRUMS, Finish
from backline.models.windowed.windows import Windows
from backline.nn.tables import Seconds, TableError, read_table

# The order of the ports of imported separators: a plugin's stem outputs hold the same, whichever of them it plays.
PORT_ORDER = ("vocals", "accompaniment", "drums", "bass", "other", "piano", "guitar")


@dataclass(frozen=True)
class WindowedSettings:
    """The [stream] table of pack.toml: how a pack is played where a session does not say."""

    chunk_seconds: Seconds = Fraction(24, 25)
    guard_seconds: Seconds = Fraction(12, 25)  # the largest, and what a session gets that asks for nothing
    fade_seconds: Seconds = Fraction(1, 25)
    consistency: Annotated[int, Meta(ge=OFF, le=MASK)] = RESIDUAL
    mask_exponent: Annotated[float, Meta(gt=0, le=100)] = 2.0
    transients: Annotated[float, Meta(ge=0, le=1)] = 0.0


def port_order(tracks: Iterable[str]) -> tuple[str, ...]:
    """The tracks in PORT_ORDER, and then those that are not in it."""
    return tuple(sorted(tracks, key=lambda track: PORT_ORDER.index(track) if track in PORT_ORDER else len(PORT_ORDER)))


def make_finish(settings: WindowedSettings, parameters: Mapping[str, float]) -> Finish:
    """What a session's parameters ask for, and the pack's settings where they do not."""
    return Finish(
        consistency=int(parameters.get("consistency", settings.consistency)),
        mask_exponent=settings.mask_exponent,
        transients=parameters.get("transients", settings.transients),
    )


def make_spec(
    settings: WindowedSettings,
    sample_rate: int,
    frame_samples: int,
    window_frames: int,
    tracks: Sequence[str],
    parameters: Sequence[Parameter] = (),
) -> StreamSpec:
    """What a pack with such settings, that `problems` finds no fault with, takes and gives.

    Args:
        parameters: that the separator has beside those of every stream of windows.
    """
    frame = Fraction(frame_samples, sample_rate)
    longest = longest_chunk(settings, frame, window_frames)
    attacks = Parameter("transients", settings.transients, 0.0, 1.0, "", "attacks given back to the drums")
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
            *((attacks,) if DRUMS in tracks else ()),
            *parameters,
        ),
        frame_rate=1 / frame,
        chunk_quantum_seconds=frame,
        default_chunk_seconds=settings.chunk_seconds,
        maximum_chunk_seconds=longest,
        default_visibility_seconds=float(longest + settings.guard_seconds),  # all that a chunk may hear, however long
        minimum_visibility_seconds=float(2 * frame),  # the shortest chunk with the smallest guard
        lookahead_seconds=float(settings.guard_seconds),
    )


def session_windows(
    settings: WindowedSettings, sample_rate: int, frame_samples: int, window_frames: int, config: SessionConfig
) -> Windows:
    """A session's windows. Its guard is what its visibility leaves after the chunk, in whole frames.

    Raises:
        ValueError: its chunk is no whole number of frames.
    """
    hop = config.chunk_seconds * sample_rate
    if hop % frame_samples:
        raise ValueError(f"a chunk of {config.chunk_seconds} s is no whole number of frames of {frame_samples} samples")
    # The fraction that was meant: a visibility of just the guard must not miss its last frame.
    visible = Fraction(config.visibility_seconds).limit_denominator(1_000_000) * sample_rate
    largest = int(settings.guard_seconds * sample_rate)
    return Windows(
        window=window_frames * frame_samples,
        hop=int(hop),
        guard=min(largest, max(frame_samples, floor((visible - hop) / frame_samples) * frame_samples)),
        fade=int(settings.fade_seconds * sample_rate),
        frame=frame_samples,
    )


def latency_items(windows: Windows, sample_rate: int, config: SessionConfig) -> tuple[LatencyItem, ...]:
    """What a stream of such windows costs: a chunk and its guard."""
    seen = (windows.hop + windows.guard) / sample_rate
    visible = min(seen, config.visibility_seconds)
    return (
        LatencyItem("front_end", seen - visible, "the smallest guard, where less visibility was asked for"),
        LatencyItem("visibility", visible, "newest input that a chunk hears, from its start: itself and the guard"),
    )


def read_settings(config: Mapping[str, Any], frame: Fraction, window_frames: int) -> WindowedSettings:
    """The [stream] table of a pack.toml whose model's frames last `frame` seconds.

    Raises:
        TableError: names everything that is wrong with it.
    """
    settings = read_table(WindowedSettings, config.get("stream", {}), "stream")
    if wrong := problems(settings, frame, window_frames):
        raise TableError(wrong)
    return settings


def longest_chunk(settings: WindowedSettings, frame: Fraction, window_frames: int) -> Fraction:
    """Seconds, in whole frames: what a window has besides a guard at either end."""
    return (window_frames * frame - 2 * settings.guard_seconds) // frame * frame


def problems(settings: WindowedSettings, frame: Fraction, window_frames: int) -> list[str]:
    """What is wrong with the settings of a pack whose frames last `frame` seconds; nothing where all is well."""
    found = []
    step = f"{float(frame):g} s, a frame"
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
