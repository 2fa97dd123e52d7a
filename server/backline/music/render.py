"""Renders the band of a piece: FluidSynth plays a stem on each channel, or a kit of samples does; fixed levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backline.music.fluidsynth import BLOCK, Synth
from backline.music.kits import Kit, key_of_font, play
from backline.music.piece import Piece
from backline.music.world import PARTS

# Gains that set a band of these General MIDI instruments to a usual balance, peaks of the sum around a half.
LEVELS = {"drums": 1.5, "bass": 1.2, "comp": 2.0, "pad": 1.5}
CEILING = 0.9  # no peak of the sum is above it
FADE_SECONDS = 0.02  # at the end, where the last notes are cut


@dataclass(frozen=True)
class Stems:
    """The band as audio, mono, all of one length."""

    parts: dict[str, NDArray[np.float32]]  # name of world.PARTS -> [sample]
    accompaniment: NDArray[np.float32]  # [sample], the sum of the parts


Events = list[tuple[int, int, int, int, int]]  # sample, order, channel, pitch, velocity


@dataclass(frozen=True)
class Gear:
    """What a band plays on."""

    font: Path | None = None  # None: fluidsynth.sound_font()
    kit: Kit | None = None  # None: the font's own, by the band's programme


def render(piece: Piece, sample_rate: int = 24_000, gear: Gear = Gear()) -> Stems:
    """The piece's instruments, as long as the piece. Equal pieces give equal samples, whatever was rendered before.

    Raises:
        FluidSynthMissing: FluidSynth or its sound font is not installed.
        KitsMissing: the kit is not installed, or cannot be used.
    """
    samples = piece.samples(sample_rate)
    padded = -(-samples // BLOCK) * BLOCK
    sound = np.zeros((2 * len(PARTS), padded), dtype=np.float32)  # [left and right of each stem, sample]
    written = events(piece, sample_rate)
    programmes = [getattr(piece.band, "kit" if part == "drums" else part) for part in PARTS]
    if gear.kit is None:
        _perform(_synth(sample_rate, gear.font), enumerate(programmes), written, sound)
        return _mix(sound[:, :samples], sample_rate)
    band = [event for event in written if event[2] > 0]
    _perform(_synth(sample_rate, gear.font), list(enumerate(programmes))[1:], band, sound)
    drums = [event for event in written if event[2] == 0]
    if gear.kit.is_font:
        drums = [(at, order, channel, key_of_font(key), velocity) for at, order, channel, key, velocity in drums]
        # It has nothing but the kit, and `settle` wants a programme on channel 1.
        _perform(_synth(sample_rate, gear.kit.located(), 0), [(0, 0), (1, 0)], sorted(drums), sound)
    else:
        strokes = [(at, key, velocity) for at, _, _, key, velocity in drums if velocity]
        sound[:2] = play(gear.kit.located(), strokes, padded, sample_rate)
    return _mix(sound[:, :samples], sample_rate)


def _perform(
    synth: Synth, programmes: Iterable[tuple[int, int | None]], events: Events, sound: NDArray[np.float32]
) -> None:
    """Adds what a synthesizer plays to [left and right of each stem, sample]."""
    for channel, programme in programmes:
        if programme is not None:
            synth.select(channel, programme)
    synth.settle()
    position = 0
    for sample, _, channel, pitch, velocity in events:
        if sample > position:
            synth.process(sound, position, sample - position)
            position = sample
        if velocity:
            synth.note_on(channel, pitch, velocity)
        else:
            synth.note_off(channel, pitch)
    synth.process(sound, position, sound.shape[1] - position)


def _mix(sound: NDArray[np.float32], sample_rate: int) -> Stems:
    """Stems from [left and right of each stem, sample]."""
    mono = 0.5 * (sound[0::2] + sound[1::2]) * np.array([[LEVELS[part]] for part in PARTS], dtype=np.float32)
    fade = min(round(FADE_SECONDS * sample_rate), mono.shape[1])
    mono[:, mono.shape[1] - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    accompaniment = mono.sum(0)
    peak = float(np.abs(accompaniment).max(initial=0.0))
    if peak > CEILING:
        mono *= CEILING / peak
        accompaniment *= CEILING / peak
    return Stems(dict(zip(PARTS, mono, strict=True)), accompaniment)


def events(piece: Piece, sample_rate: int = 24_000) -> Events:
    """(sample, order, channel, pitch, velocity) in time, on the synthesizer's blocks; velocity 0 ends a note.

    Ends come before starts of the same sample, so that a repeated note sounds again.
    """
    end = piece.samples(sample_rate) // BLOCK * BLOCK
    step = BLOCK / sample_rate if piece.onset_grid is None else float(piece.onset_grid)

    def block(beat: float) -> int:
        seconds = round(beat * piece.seconds_per_beat / step) * step
        return min(end, round(seconds * sample_rate / BLOCK) * BLOCK)

    events = []
    for channel, part in enumerate(PARTS):
        for note in piece.parts[part]:
            events.append((block(note.start), 1, channel, note.pitch, note.velocity))
            events.append((block(note.start + note.length), 0, channel, note.pitch, 0))
    return sorted(events)


@cache
def _synth(sample_rate: int, font: Path | None, drum_bank: int = 128) -> Synth:
    """One per process, rate and font: loading a sound font takes longer than playing a piece."""
    return Synth(len(PARTS), sample_rate, font, drum_bank)
