"""A melody sung by a person: spoken syllables, held on notes by the vocoder.

As the formant singer does it: the melody is drawn as frames, then these become sound. A vowel begins where its note
does, its consonant is taken from the time before; a held vowel wanders to and fro in its steadiest part, at its own
speed, so that no two are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from backline.music.piece import Note
from backline.music.vocoder import (
    BANDS,
    BREATHS,
    FRAME_RATE,
    HOP,
    SILENCE,
    Frames,
    Syllable,
    Voice,
    stretches,
    synthesise,
)

JOINED = 5  # frames over which one syllable's sound becomes the next one's
LEAST_VOWEL = 12  # frames of a note that the next one's consonant leaves
FADE = 8  # frames in which a phrase's last sound falls by 30 dB
EDGE = 8  # frames of silence around what is synthesised


@dataclass(frozen=True)
class Manner:
    """How a person sings, for one song."""

    vibrato_rate: float  # Hz
    vibrato_depth: float  # semitones to either side, once a note has lasted
    scoop: float  # semitones below a phrase's first note, from where it is approached
    drift: float  # semitones, standard deviation of what is slowly out of tune
    breath: float  # 0 to 1: how much of the tone becomes air
    late: float  # seconds, standard deviation of when notes begin
    size: float  # formants lie higher by that factor
    swell: float  # dB by which a phrase's middle is louder than its ends
    higher: float = 0.0  # semitones by which the singer is at home higher than the speaker was
    clusters: float = 0.0  # share of the syllables that have a consonant of another one before or after theirs
    exhaled: float = 0.0  # share of the phrases that end in breath

    @classmethod
    def draw(cls, rng: Generator, double_of: Manner | None = None) -> Manner:
        """Anyone's; or that of a second take by the same person, who does not sing a note twice at the same time."""
        if double_of is not None:
            return replace(double_of, vibrato_rate=double_of.vibrato_rate * rng.uniform(0.93, 1.07), late=0.016)
        return cls(
            vibrato_rate=rng.uniform(4.6, 6.6),
            vibrato_depth=float(rng.choice([0.0, 0.15, 0.3, 0.55], p=[0.2, 0.3, 0.35, 0.15])),
            scoop=rng.uniform(0.0, 1.6),
            drift=rng.uniform(0.03, 0.16),
            breath=float(rng.beta(1.2, 3.0)),
            late=0.0,
            size=rng.uniform(0.93, 1.08),
            swell=rng.uniform(0.0, 5.0),
        )

    def of_size(self, rng: Generator) -> Manner:
        """The same manner from another throat: a child's, a smaller adult's or a larger one's."""
        size, higher = (
            (rng.uniform(1.18, 1.35), rng.uniform(8, 14)),
            (rng.uniform(1.08, 1.18), rng.uniform(4, 8)),
            (rng.uniform(0.82, 0.92), rng.uniform(-9, -5)),
        )[int(rng.integers(3))]
        return replace(self, size=self.size * size, higher=higher)


@dataclass
class Score:
    """What is to be synthesised, frame by frame."""

    pitch: NDArray[np.float64]  # MIDI
    voiced: NDArray[np.bool_]
    envelope: Frames  # [frame, band]
    aperiodicity: Frames  # [frame, breath], dB
    gain: NDArray[np.float32]  # dB
    sounding: NDArray[np.bool_]

    @classmethod
    def silent(cls, frames: int, pitch: float) -> Score:
        return cls(
            np.full(frames, pitch, np.float64),
            np.zeros(frames, bool),
            np.full((frames, BANDS), SILENCE, np.float32),
            np.zeros((frames, BREATHS), np.float32),
            np.zeros(frames, np.float32),
            np.zeros(frames, bool),
        )


def sing_as(
    voice: Voice, melody: Sequence[Note], tempo: float, seconds: float, rng: Generator, manner: Manner
) -> NDArray[np.float32]:
    """The melody as [sample] at the speakers' rate, in the octave in which the voice lies best; level as it comes."""
    frames = round(seconds * FRAME_RATE)
    if not melody:
        return np.zeros(frames * HOP, np.float32)
    return synthesised(score(voice, melody, tempo, frames, rng, manner), manner.size)


def octave_shift(voice: Voice, melody: Sequence[Note], higher: float = 0.0) -> int:
    """Semitones by which the voice sings the melody higher: whole octaves, to lie a fifth above its speech."""
    middle = float(np.average([note.pitch for note in melody], weights=[note.length for note in melody]))
    return 12 * round((min(voice.pitch + 7, 67) + higher - middle) / 12)


def score(voice: Voice, melody: Sequence[Note], tempo: float, frames: int, rng: Generator, manner: Manner) -> Score:
    """The melody as frames."""
    shift = octave_shift(voice, melody, manner.higher)
    made = Score.silent(frames, melody[0].pitch + shift)
    vibrato = np.zeros(frames)
    syllable = voice.syllables[0]
    previous_end, sung_until = -10.0, 0
    for index, note in enumerate(melody):
        begin_seconds, end_seconds = note.start * 60 / tempo, (note.start + note.length) * 60 / tempo
        legato = index > 0 and begin_seconds - previous_end < 0.01
        late = manner.late * rng.standard_normal()
        onset = int(np.clip(round((begin_seconds + late) * FRAME_RATE), 0, frames))
        end = min(frames, round(end_seconds * FRAME_RATE))
        previous_end = end_seconds
        if end - onset < 4:
            continue
        pitch = note.pitch + shift
        made.pitch[max(0, onset - 4) :] = pitch
        if note.syllable or not legato:
            syllable = voice.syllables[int(rng.integers(len(voice.syllables)))]
            beat, followed = sung_to(melody, index)
            length = min(frames, round(beat * 60 / tempo * FRAME_RATE)) - onset
            lead = min(syllable.vowel, max(0, onset - sung_until))
            source = vowel_frames(syllable, length, rng, released=not followed)
            lay(made, syllable, np.r_[syllable.vowel - lead : syllable.vowel, source], onset - lead)
            if manner.clusters and rng.random() < manner.clusters:
                other = voice.syllables[int(rng.integers(len(voice.syllables)))]
                add_consonant(made, other, sung_until, onset - lead, onset + length, rng)
            if not followed:
                made.gain[max(onset, onset + length - FADE) : onset + length] -= np.linspace(0, 30, min(FADE, length))
            if not legato:
                made.pitch[max(0, onset - 30) : onset + 10] -= manner.scoop
                breathe_in(made, voice, onset - lead, rng)
            if manner.exhaled and not followed and rng.random() < manner.exhaled:
                breathe_out(made, voice, onset + length, rng)
        sung_until = min(end, onset + LEAST_VOWEL)
        made.gain[onset:end] += 0.15 * (note.velocity - 84) + rng.normal(0, 0.7)
        held = np.arange(end - onset) / FRAME_RATE
        vibrato[onset:end] = np.clip((held - 0.2) / 0.35, 0, 1) * (len(held) > 0.35 * FRAME_RATE)
    express(made, vibrato, rng, manner)
    return made


def sung_to(melody: Sequence[Note], index: int) -> tuple[float, bool]:
    """The beat at which the syllable of note `index` ends, slurred notes included; whether another follows there."""
    end = melody[index].start + melody[index].length
    for following in melody[index + 1 :]:
        if following.start - end > 0.01:
            return end, False
        if following.syllable:
            return end, True
        end = following.start + following.length
    return end, False


def vowel_frames(syllable: Syllable, count: int, rng: Generator, released: bool) -> NDArray[np.int64]:
    """The syllable's frames [count] that make a vowel of that length.

    Its beginning, a walk in its steady part, and, if it is released, its end.
    """
    first, last = syllable.held
    attack = np.arange(syllable.vowel, first)[: max(4, int(0.4 * count))]
    tail = np.arange(last, len(syllable.voiced))
    steps = min(len(tail), 30, int(0.3 * count)) if released else 0
    release = tail[np.linspace(0, len(tail) - 1, steps).astype(int)]
    rest = count - len(attack) - len(release)
    if rest <= 0:
        return np.concatenate([attack, release])[:count]
    pace = gaussian_filter1d(rng.uniform(0.2, 1.0, rest), 12, mode="nearest")
    span = max(1, last - 1 - first)
    walk = np.cumsum(pace) % (2 * span)
    return np.concatenate([attack, first + np.round(span - np.abs(walk - span)).astype(int), release])


def lay(made: Score, syllable: Syllable, source: NDArray[np.int64], start: int) -> None:
    """Writes the syllable's frames `source` from frame `start` on, out of what sounded until there."""
    count = min(len(source), len(made.pitch) - start)
    source, rows = source[:count], slice(start, start + count)
    envelope = syllable.envelope[source].astype(np.float32)
    # All syllables are equally loud where they are held, and there they do not shake.
    level = syllable.level[source]
    usual = float(np.median(syllable.level[slice(*syllable.held)]))
    held = (source >= syllable.held[0]) & (source < syllable.held[1])
    gain = -usual + np.where(held, -0.7 * (level - usual), 0.0)
    envelope += (gain * np.log(10) / 10).astype(np.float32)[:, None]
    if start > 0 and made.sounding[start - 1]:
        share = (np.arange(1, min(JOINED, count) + 1) / (JOINED + 1)).astype(np.float32)[:, None]
        envelope[: len(share)] = (1 - share) * made.envelope[start - 1] + share * envelope[: len(share)]
    made.envelope[rows] = envelope
    made.aperiodicity[rows] = syllable.aperiodicity[source]
    made.voiced[rows] = syllable.voiced[source]
    made.sounding[rows] = True


def add_consonant(made: Score, other: Syllable, free: int, begin: int, end: int, rng: Generator) -> None:
    """The other syllable's consonant before the one that begins at frame `begin`, or over its last part."""
    before = rng.random() < 0.5
    length = min(other.vowel, 30, begin - free if before else (end - begin) // 4)
    if length >= 4:
        lay(made, other, np.arange(other.vowel - length, other.vowel), (begin if before else end) - length)


def breathe_out(made: Score, voice: Voice, begin: int, rng: Generator) -> None:
    """Air after a phrase's last syllable, softer and softer; what sounds there later covers it."""
    rows = slice(begin, min(len(made.pitch), begin + int(rng.uniform(0.1, 0.35) * FRAME_RATE)))
    fall = np.linspace(0, -30, rows.stop - rows.start) + rng.uniform(-34, -20)
    add_air(made, voice, rows, fall)


def breathe_in(made: Score, voice: Voice, latest: int, rng: Generator) -> None:
    """Air before a phrase, where there is time for it, in most cases."""
    before = np.flatnonzero(made.sounding[:latest])
    free = latest - (before[-1] if len(before) else 0)
    length = int(rng.uniform(0.15, 0.4) * FRAME_RATE)
    if free < length + 16 or rng.random() < 0.3:
        return
    rows = slice(latest - 8 - length, latest - 8)
    rise = 20 * np.log10(np.hanning(length + 2)[1:-1] + 1e-3) + rng.uniform(-40, -24)
    add_air(made, voice, rows, rise)


def add_air(made: Score, voice: Voice, rows: slice, level: NDArray[np.float64]) -> None:
    """Breath through the voice's mean envelope in those frames; `level` [frame] is in dB below its loudest."""
    tilt = np.linspace(-12, 6, BANDS) * np.log(10) / 10  # air has no bass
    mean = voice.envelope - voice.envelope.max()
    made.envelope[rows] = mean + tilt + (level * np.log(10) / 10)[:, None]
    made.voiced[rows] = False
    made.sounding[rows] = True


def express(made: Score, vibrato: NDArray[np.float64], rng: Generator, manner: Manner) -> None:
    """Makes written pitches and levels into sung ones."""
    frames = len(made.pitch)

    def slow(seconds: float) -> NDArray[np.float64]:
        """Noise of deviation 1 that changes over that time."""
        width = seconds * FRAME_RATE
        return gaussian_filter1d(rng.standard_normal(frames), width, mode="nearest") * (2 * width * np.pi**0.5) ** 0.5

    made.pitch = gaussian_filter1d(made.pitch, rng.uniform(0.015, 0.04) * FRAME_RATE, mode="nearest")
    rate = manner.vibrato_rate * (1 + 0.08 * np.tanh(slow(0.2)))
    phase = 2 * np.pi * (np.cumsum(rate) / FRAME_RATE + rng.random())
    swing = gaussian_filter1d(vibrato, 6) * np.sin(phase)
    made.pitch += manner.vibrato_depth * swing + manner.drift * slow(0.25) + 0.04 * slow(0.01)
    for begin, end in stretches(made.sounding):
        made.gain[begin:end] += manner.swell * np.sin(np.pi * np.linspace(0, 1, end - begin)).astype(np.float32)
    made.gain += (manner.vibrato_depth * 3 * swing + 0.8 * slow(0.15)).astype(np.float32)
    made.envelope += made.gain[:, None] * np.float32(np.log(10) / 10)
    # Air: the tone's upper bands become noise first.
    airy = manner.breath * np.linspace(0.2, 0.9, BREATHS, dtype=np.float32)
    made.aperiodicity *= 1 - airy


def synthesised(made: Score, size: float) -> NDArray[np.float32]:
    """The frames as sound; only where something sounds."""
    sound = np.zeros(len(made.pitch) * HOP, np.float32)
    hertz = np.where(made.voiced, 440 * 2 ** ((made.pitch - 69) / 12), 0.0)
    wide = np.convolve(made.sounding, np.ones(2 * EDGE + 1), "same") > 0.5
    for begin, end in stretches(wide):
        rows = slice(begin, end)
        sound[begin * HOP : end * HOP] += synthesise(
            hertz[rows], np.maximum(made.envelope[rows], SILENCE), made.aperiodicity[rows], size
        )
    return sound
