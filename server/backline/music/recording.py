"""Makes a dry voice a recording: a room, a microphone, its noise, a compressor. What each is, chance decides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, oaconvolve, sosfilt

Sound = NDArray[np.float32]  # [sample]

ROOMS, MICROPHONES, NOISES, COMPRESSED = 0.75, 0.8, 0.6, 0.6  # shares of the recordings
SHORTEST, LONGEST = 0.12, 2.2  # seconds in which a room's sound falls by 60 dB
QUIETEST, NOISIEST = -60.0, -35.0  # dBFS, root mean square of the noise


def recorded(voice: Sound, sample_rate: int, rng: Generator) -> Sound:
    """The voice as someone recorded it, as long as it was; where its loudest parts are about -18 dBFS."""
    if rng.random() < ROOMS:
        seconds = SHORTEST * (LONGEST / SHORTEST) ** rng.beta(1.3, 2.0)
        voice = in_room(voice, sample_rate, seconds, rng.uniform(-24, -5), rng)
    if rng.random() < MICROPHONES:
        voice = through_microphone(voice, sample_rate, rng)
    if rng.random() < COMPRESSED:
        voice = compressed(voice, sample_rate, threshold=rng.uniform(-30, -18), ratio=rng.uniform(1.5, 4))
    if rng.random() < NOISES:
        voice = voice + noise(len(voice), sample_rate, QUIETEST + (NOISIEST - QUIETEST) * rng.beta(1.2, 1.8), rng)
    return voice.astype(np.float32)


def in_room(voice: Sound, sample_rate: int, seconds: float, wet: float, rng: Generator) -> Sound:
    """With a room's sound, `wet` dB beside the voice; it falls by 60 dB in `seconds`, and sooner the higher it is."""
    response = room_response(sample_rate, seconds, rng)
    gain = np.float32(10 ** (wet / 20))
    return voice + gain * oaconvolve(voice, response)[: len(voice)].astype(np.float32)


def room_response(sample_rate: int, seconds: float, rng: Generator) -> Sound:
    """A room's answer [sample] to an impulse, without the impulse itself: early echoes, then noise; energy 1."""
    length = int(min(1.2 * seconds, LONGEST) * sample_rate)
    time = np.arange(length, dtype=np.float32) / sample_rate
    found = np.zeros(length, np.float32)
    edges = (0, 500, 2_000, 6_000, sample_rate / 2)  # Hz; in each band noise that dies away at its own pace
    padded = next_fast_len(length, real=True)
    spectrum = rfft(rng.standard_normal(padded, dtype=np.float32))
    hertz = rfftfreq(padded, 1 / sample_rate)
    damping = rng.uniform(0.55, 0.9)
    for band, (low, high) in enumerate(pairwise(edges)):
        part = irfft(np.where((hertz >= low) & (hertz < high), spectrum, 0), padded)[:length]
        found += part * np.exp(-6.91 / (seconds * damping**band) * time)
    begin = int(rng.uniform(0.004, 0.03) * sample_rate)  # before it, only single echoes
    found[:begin] = 0
    echoes = rng.integers(int(0.002 * sample_rate), max(int(0.003 * sample_rate), min(length, 3 * begin)), 8)
    np.add.at(found, np.minimum(echoes, length - 1), rng.choice([-1, 1], 8) * rng.uniform(1, 6, 8))
    return (found / np.sqrt(np.sum(np.square(found)) + 1e-12)).astype(np.float32)


def through_microphone(voice: Sound, sample_rate: int, rng: Generator) -> Sound:
    """Within the band that a microphone and its medium keep, tilted and coloured."""
    lowest = rng.uniform(30, 200)
    highest = float(
        rng.choice(
            [0, rng.uniform(11_000, 17_000), rng.uniform(5_500, 10_000), rng.uniform(3_400, 5_000)],
            p=[0.5, 0.28, 0.16, 0.06],
        )
    )  # 0: all
    voice = sosfilt(butter(2, lowest, "highpass", fs=sample_rate, output="sos"), voice)
    if 0 < highest < 0.45 * sample_rate:
        voice = sosfilt(butter(int(rng.integers(2, 7)), highest, fs=sample_rate, output="sos"), voice)
    padded = next_fast_len(len(voice) + sample_rate // 10, real=True)
    octaves = np.log2(np.maximum(rfftfreq(padded, 1 / sample_rate), 20) / 1_000)
    places = np.linspace(-5, 5, 11)
    curve = gaussian_filter1d(rng.normal(0, 3, 11), 0.7) + rng.uniform(-1.2, 1.2) * places
    return irfft(rfft(voice, padded) * 10 ** (np.interp(octaves, places, curve) / 20), padded)[: len(voice)]


def noise(length: int, sample_rate: int, level: float, rng: Generator) -> Sound:
    """[sample] between white and brown at `level` dBFS, in some cases with the mains' hum."""
    padded = next_fast_len(length, real=True)
    hertz = np.maximum(rfftfreq(padded, 1 / sample_rate), 40)
    slope = float(rng.choice([0.0, rng.uniform(0, 1)]))  # 1: 6 dB an octave
    found = irfft(rfft(rng.standard_normal(padded, dtype=np.float32)) * (hertz / 1_000) ** -slope, padded)[:length]
    if rng.random() < 0.15:
        mains = float(rng.choice([50, 60]))
        time = np.arange(length) / sample_rate
        for harmonic in range(1, 8):
            strength = np.std(found) * rng.uniform(0, 0.6) / harmonic**0.5
            found = found + strength * np.sin(2 * np.pi * (mains * harmonic * time + rng.random()))
    return (found * 10 ** (level / 20) / (np.std(found) + 1e-12)).astype(np.float32)


def compressed(voice: Sound, sample_rate: int, threshold: float, ratio: float) -> Sound:
    """What is louder than `threshold` dBFS is brought nearer to it by `ratio`, over some tens of milliseconds."""
    step = sample_rate // 200
    blocks = -(-len(voice) // step)
    power = np.square(np.pad(voice, (0, blocks * step - len(voice)))).reshape(blocks, step).mean(axis=1)
    level = 10 * np.log10(gaussian_filter1d(power, 4, mode="nearest") + 1e-12)
    gain = np.minimum(0, (threshold - level) * (1 - 1 / ratio))
    smooth = np.interp(np.arange(len(voice)), (np.arange(blocks) + 0.5) * step, gain)
    return (voice * 10 ** (smooth / 20)).astype(np.float32)
