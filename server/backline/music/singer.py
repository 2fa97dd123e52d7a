"""A formant singer: a glottal source through vowel formants, with glides, portamento, vibrato, consonants and breath.

In two steps: the melody is drawn as control curves, 200 rows a second, and one compiled loop turns them into sound. A
vowel begins on the beat of its note; its consonant is taken from the time before.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, exp, pi

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from backline.kernels.compiled import compiled
from backline.kernels.random import uniform
from backline.music.piece import Note
from backline.music.world import MEZZO, Voice

CONTROL_RATE = 200  # rows per second
LOUDNESS = 0.11  # root mean square while singing
CEILING = 0.9
LOWEST_RATE = 40_000  # Hz, of the synthesis

# Columns of the control curves.
PITCH, VOICING, ASPIRATION, FRICTION, FRICTION_HZ = range(5)
FORMANTS = slice(5, 10)
COLUMNS = 10

# Hz of the first five formants, for a voice of size 1.
VOWELS = {
    "a": (850, 1220, 2810, 3700, 4700),
    "e": (560, 2150, 2900, 3800, 4800),
    "i": (350, 2600, 3200, 3900, 4900),
    "o": (520, 900, 2750, 3600, 4600),
    "u": (380, 800, 2700, 3500, 4600),
}
# Seconds, voicing, aspiration, friction, its Hz, first three formants (none: those of the vowel).
CONSONANTS: dict[str, tuple[float, float, float, float, float, tuple[int, int, int] | None]] = {
    "l": (0.07, 0.5, 0.0, 0.0, 0.0, (360, 1300, 2900)),
    "n": (0.07, 0.35, 0.0, 0.0, 0.0, (280, 1700, 2700)),
    "m": (0.07, 0.35, 0.0, 0.0, 0.0, (260, 1000, 2300)),
    "w": (0.07, 0.6, 0.0, 0.0, 0.0, (300, 650, 2300)),
    "y": (0.07, 0.6, 0.0, 0.0, 0.0, (280, 2400, 3200)),
    "s": (0.11, 0.0, 0.02, 0.5, 7000.0, (320, 1800, 2800)),
    "h": (0.08, 0.05, 0.5, 0.0, 0.0, None),
    "d": (0.05, 0.12, 0.0, 0.0, 3600.0, (300, 1800, 2800)),
    "b": (0.05, 0.12, 0.0, 0.0, 1100.0, (260, 900, 2300)),
    "t": (0.06, 0.0, 0.1, 0.0, 4800.0, (300, 1800, 2800)),
}
BURSTS = {"d": 0.35, "b": 0.25, "t": 0.7}  # friction in the last 15 ms
BURST_SECONDS = 0.015

BANDWIDTHS = np.array([80.0, 95.0, 130.0, 200.0, 280.0, 500.0, 600.0, 700.0])  # Hz
UPPER_FORMANTS = np.array([6000.0, 7400.0, 8800.0])  # Hz, not moving: what is above them is breath
OPEN_SHARE = 0.62  # of a glottal period


def sing(
    melody: Sequence[Note],
    tempo: float,
    seconds: float,
    sample_rate: int,
    seed: int,
    voice: Voice = MEZZO,
) -> NDArray[np.float32]:
    """The melody, sung: `seconds` of audio [sample] at any sample rate, at a fixed loudness and with the same timbre.

    Args:
        tempo: beats per minute; the notes are in beats.
        seed: of breath, drift and vibrato phase; equal arguments give equal samples.
    """
    samples = round(seconds * sample_rate)
    controls = control_curves(melody, tempo, seconds, seed, voice)
    # Digital resonators lose treble as the rate falls: low rates are sung at a higher one and decimated.
    factor = -(-LOWEST_RATE // sample_rate)
    sound = np.zeros(samples * factor, dtype=np.float32)
    _synthesize(controls, sound, float(sample_rate * factor), voice.size, voice.breath, seed)
    if factor > 1:
        sound = resample_poly(sound, 1, factor).astype(np.float32)
    sung = controls[:, VOICING].repeat(-(-sample_rate // CONTROL_RATE))[:samples] > 0.1
    power = float(np.mean(np.square(sound[: len(sung)][sung], dtype=np.float64))) if sung.any() else 0.0
    peak = float(np.abs(sound).max(initial=0.0))
    if power > 0:
        sound *= np.float32(min(LOUDNESS / power**0.5, CEILING / peak))
    return sound


def control_curves(
    melody: Sequence[Note], tempo: float, seconds: float, seed: int, voice: Voice
) -> NDArray[np.float64]:
    """Control curves [row, column]: pitch in MIDI, amplitudes, frequencies in Hz."""
    rows = int(np.ceil(seconds * CONTROL_RATE)) + 2
    controls = np.zeros((rows, COLUMNS))
    controls[:, PITCH] = melody[0].pitch if melody else 60
    controls[:, FORMANTS] = VOWELS["u"]
    rng = np.random.default_rng(seed)
    vibrato = np.zeros(rows)

    def row(beat: float, shift: float = 0.0) -> int:
        return int(np.clip(round((beat * 60 / tempo + shift) * CONTROL_RATE), 0, rows))

    vowel, sung_until, previous_end = "u", 0, -1.0
    for index, note in enumerate(melody):
        legato = note.start - previous_end < 0.01 and index > 0
        consonant, vowel = (note.syllable[:-1], note.syllable[-1]) if note.syllable else ("", vowel)
        onset, end = row(note.start), row(note.start + note.length)
        if end - onset < 2:
            continue
        loudness = 0.35 + 0.65 * note.velocity / 100
        controls[onset:end, VOICING] = loudness
        controls[row(note.start, -0.02) :, PITCH] = note.pitch
        controls[onset:, FORMANTS] = VOWELS[vowel]
        length = CONSONANTS[consonant][0] if consonant else 0.0
        begin = max(row(note.start, -length), sung_until)
        if consonant:
            _, voicing, aspiration, friction, friction_hz, formants = CONSONANTS[consonant]
            sources = [VOICING, ASPIRATION, FRICTION]
            controls[begin:onset, sources] = loudness * np.array([voicing, aspiration, friction])
            controls[begin:onset, FRICTION_HZ] = friction_hz
            controls[begin:onset, FORMANTS] = VOWELS[vowel]
            if formants:
                controls[begin:onset, 5:8] = formants
        if not legato:
            # A phrase is approached from below, after a breath where there is time for one.
            controls[row(note.start, -0.1) : row(note.start, 0.03), PITCH] -= 0.8
            if begin - sung_until > 0.45 * CONTROL_RATE:
                inhale = slice(begin - int(0.34 * CONTROL_RATE), begin - int(0.08 * CONTROL_RATE))
                rise = np.hanning(inhale.stop - inhale.start)
                controls[inhale, ASPIRATION] = 0.12 * rise * rng.uniform(0.5, 1.2)
        held = np.arange(end - onset) / CONTROL_RATE
        vibrato[onset:end] = np.clip((held - 0.22) / 0.3, 0, 1) * (len(held) > 0.4 * CONTROL_RATE)
        sung_until = onset + int(0.06 * CONTROL_RATE)
        previous_end = note.start + note.length

    controls[:, PITCH] = gaussian_filter1d(controls[:, PITCH], 0.022 * CONTROL_RATE, mode="nearest")
    controls[:, [VOICING, ASPIRATION]] = gaussian_filter1d(
        controls[:, [VOICING, ASPIRATION]], 0.012 * CONTROL_RATE, axis=0, mode="nearest"
    )
    controls[:, FORMANTS] = gaussian_filter1d(controls[:, FORMANTS], 0.018 * CONTROL_RATE, axis=0, mode="nearest")
    _add_bursts(controls, melody, tempo)
    drift = gaussian_filter1d(rng.normal(size=rows), 0.15 * CONTROL_RATE, mode="nearest") * (0.15 * CONTROL_RATE) ** 0.5
    rate = voice.vibrato_rate * (1 + 0.08 * np.tanh(drift))
    phase = 2 * np.pi * (np.cumsum(rate) / CONTROL_RATE + rng.random())
    swing = gaussian_filter1d(vibrato, 0.03 * CONTROL_RATE) * np.sin(phase)
    controls[:, PITCH] += voice.vibrato_depth * swing + 0.06 * np.roll(drift, rows // 2)
    controls[:, VOICING] *= 1 + 0.12 * swing
    return controls


def _add_bursts(controls: NDArray[np.float64], melody: Sequence[Note], tempo: float) -> None:
    """The noise with which a plosive opens; unsmoothed, for it is sudden."""
    for note in melody:
        consonant = note.syllable[:-1]
        if consonant in BURSTS:
            end = round(note.start * 60 / tempo * CONTROL_RATE)
            begin = max(0, end - round(BURST_SECONDS * CONTROL_RATE))
            controls[begin:end, FRICTION] = BURSTS[consonant] * np.linspace(1, 0.3, end - begin)
            controls[begin:end, FRICTION_HZ] = CONSONANTS[consonant][4]


@compiled
def _synthesize(
    controls: NDArray[np.float64],  # [row, column]
    sound: NDArray[np.float32],  # [sample], written
    sample_rate: float,
    size: float,
    breath: float,
    seed: int,
) -> None:
    formants = len(BANDWIDTHS)
    a, b, c = np.zeros(formants + 1), np.zeros(formants + 1), np.zeros(formants + 1)  # the last one filters friction
    y1, y2 = np.zeros(formants + 1), np.zeros(formants + 1)
    phase, tilt, noise_before, step = 0.0, 0.0, 0.0, 0.0
    pitch, voicing, aspiration, friction = 0.0, 0.0, 0.0, 0.0
    noise_gain = (sample_rate / 48_000.0) ** 0.5  # the same power per Hz at every rate
    damping = exp(-2 * pi * (3800.0 - 2000.0 * breath) / sample_rate)  # an airy voice has a softer source
    for sample in range(len(sound)):
        if sample % 16 == 0:
            position = sample / sample_rate * CONTROL_RATE
            row = int(position)
            part = position - row
            pitch = controls[row, PITCH] * (1 - part) + controls[row + 1, PITCH] * part
            voicing = controls[row, VOICING] * (1 - part) + controls[row + 1, VOICING] * part
            aspiration = controls[row, ASPIRATION] * (1 - part) + controls[row + 1, ASPIRATION] * part
            friction = controls[row, FRICTION] * (1 - part) + controls[row + 1, FRICTION] * part
            frequency = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
            step = frequency / sample_rate
            for formant in range(formants + 1):
                if formant < 5:
                    centre = controls[row, 5 + formant] * (1 - part) + controls[row + 1, 5 + formant] * part
                    centre *= size
                    if formant == 0:
                        centre = max(centre, 1.05 * frequency)  # as singers open their mouths for high notes
                    width = BANDWIDTHS[formant]
                elif formant < formants:
                    centre, width = UPPER_FORMANTS[formant - 5] * size, BANDWIDTHS[formant]
                else:
                    centre, width = max(controls[row, FRICTION_HZ], 500.0), 1500.0
                radius = exp(-pi * width / sample_rate)
                c[formant] = -radius * radius
                b[formant] = 2 * radius * cos(2 * pi * centre / sample_rate)
                a[formant] = 1 - b[formant] - c[formant]
            a[formants] = 1 - exp(-pi * width / sample_rate)  # friction: about even gain wherever its centre lies

        # The derivative of the glottal flow: a parabola while open, and at closure a step, smoothed over two samples
        # against aliasing.
        phase += step
        if phase >= 1.0:
            phase -= 1.0
        source = 0.0
        opening = phase / OPEN_SHARE
        if opening < 1.0:
            source = 2 * opening - 3 * opening * opening
        distance = (phase - OPEN_SHARE) / step
        if 0.0 <= distance < 1.0:
            source -= 0.5 * (1 - distance) ** 2
        elif -1.0 < distance < 0.0:
            source += 0.5 * (1 + distance) ** 2
        tilt = (1 - damping) * source + damping * tilt

        noise = noise_gain * (2.0 * float(uniform(seed, 0, sample)) - 1.0)
        airy = 0.02 + 0.08 * breath
        excitation = voicing * tilt * 1.6
        excitation += noise * (0.35 * aspiration + airy * voicing * (1.0 if opening < 1.0 else 0.4))
        for formant in range(formants):
            excitation = a[formant] * excitation + b[formant] * y1[formant] + c[formant] * y2[formant]
            y2[formant] = y1[formant]
            y1[formant] = excitation
        hiss = a[formants] * (noise - noise_before) + b[formants] * y1[formants] + c[formants] * y2[formants]
        noise_before = noise
        y2[formants] = y1[formants]
        y1[formants] = hiss
        sound[sample] = excitation + 0.8 * friction * hiss
