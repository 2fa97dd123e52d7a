"""How a song of the open world is produced: what the band plays on, amplifiers, one room, the mix and its master.

Everything is drawn from the song's seed. Amplifiers are Pedalboard's (GPL-3; the package is needed to compose only, and
no part of a pack). The master is a gain over time and an equalizer, the same for every stem, so stems still sum to the
mix. Songs are mono, so there is no width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import oaconvolve

from backline.music.kits import Kit, KitsMissing, kits, located
from backline.music.piece import Piece
from backline.music.recording import noise
from backline.music.render import Gear, Stems
from backline.music.rooms import room
from backline.music.seeds import Purpose
from backline.music.world import PARTS

Sound = NDArray[np.float32]  # [sample]

FONTS = (("sounds/sf3/MuseScore_General_Full.sf3", "musescore-general-soundfont"),)  # beside fluidsynth.sound_font()
REMEDY = "pip install 'backline[train]'"
GUITARS = range(24, 32)  # General MIDI programmes that go through an amplifier
DRIVEN = range(27, 32)  # electric ones
ROOMS, MASTERS, SAMPLED, NOISES = 0.75, 0.8, 0.8, 0.4  # shares of the songs
BALANCE = 3.5  # dB, standard deviation of how loud a part is
LOUDNESS = -19.0, -10.0  # dBFS of the master's root mean square; between them records lie
TILT = -2.0, 0.3  # dB an octave of the master's equalizer: dry samples are brighter than records
CEILING = 0.95


@dataclass(frozen=True)
class Production:
    """What was drawn for a song."""

    gear: Gear
    drive: float | None  # dB into the guitar's amplifier
    amplified_bass: float | None
    room: float | None  # metres, the edge of a cube of its volume
    master: float | None  # dBFS
    seed: int  # of what is drawn while it is applied

    @classmethod
    def draw(cls, seed: int, wanted: Purpose) -> Production:
        """That of a song; kits for its purpose.

        Raises:
            KitsMissing: a kit or SoundFont that was drawn is not installed.
        """
        rng = np.random.default_rng([seed, 11])
        every: tuple[Kit, ...] = kits(wanted)
        kit = every[int(rng.integers(len(every)))] if rng.random() < SAMPLED else None
        font: Path | None = located(*FONTS[0]) if rng.random() < 0.5 else None
        if kit is not None:
            kit.located()
        return cls(
            Gear(font, kit),
            drive=float(rng.uniform(2, 34)),
            amplified_bass=float(rng.uniform(0, 16)) if rng.random() < 0.6 else None,
            room=float(2.2 * (30 / 2.2) ** rng.beta(1.2, 1.8)) if rng.random() < ROOMS else None,
            master=float(rng.uniform(*LOUDNESS)) if rng.random() < MASTERS else None,
            seed=int(rng.integers(1 << 62)),
        )


def produce(piece: Piece, vocal: Sound, stems: Stems, plan: Production, sample_rate: int) -> tuple[Sound, Stems]:
    """The vocal and the stems as they are in the mix, which peaks at CEILING at most.

    Raises:
        KitsMissing: pedalboard is not installed.
    """
    rng = np.random.default_rng(plan.seed)
    parts = dict(stems.parts)
    if piece.band.comp in GUITARS and plan.drive is not None:
        drive = plan.drive if piece.band.comp in DRIVEN else 0.3 * plan.drive
        parts["comp"] = amplified(parts["comp"], sample_rate, drive, cabinet=(75.0, rng.uniform(3_000, 6_500)))
    if plan.amplified_bass is not None:
        parts["bass"] = amplified(parts["bass"], sample_rate, plan.amplified_bass, (35.0, rng.uniform(2_000, 5_000)))
    parts["drums"] = squeezed(parts["drums"], sample_rate, rng)
    for part in PARTS:
        level = float(np.clip(rng.normal(0, BALANCE), -8, 6))
        parts[part] = parts[part] * np.float32(10 ** (level / 20))
    if plan.room is not None:
        response = room(sample_rate, plan.room, rng)
        for part in ("drums", "comp", "pad"):
            send = np.float32(10 ** (rng.uniform(-26, -8) / 20))
            parts[part] = parts[part] + send * oaconvolve(parts[part], response)[: len(vocal)].astype(np.float32)
    if rng.random() < NOISES:  # of the tape, the amplifiers, the hall: whoever listens counts it to the band
        parts["comp"] = parts["comp"] + noise(len(vocal), sample_rate, rng.uniform(-72, -48), rng)
    tracks = np.stack([vocal, *parts.values()])
    if plan.master is not None:
        tracks = mastered(tracks, sample_rate, plan.master, rng)
    tracks *= np.float32(min(1.0, CEILING / max(1e-9, float(np.abs(tracks.sum(axis=0)).max()))))
    made = dict(zip(PARTS, tracks[1:], strict=True))
    return tracks[0], Stems(made, tracks[1:].sum(axis=0))


def amplified(sound: Sound, sample_rate: int, drive: float, cabinet: tuple[float, float]) -> Sound:
    """Through an amplifier's drive, in dB, and a cabinet's band, in Hz; as loud as before.

    Raises:
        KitsMissing: pedalboard is not installed.
    """
    package = pedalboard_package()
    power = float(np.sqrt(np.mean(np.square(sound))))
    if not power:
        return sound
    chain = package.Pedalboard([
        package.HighpassFilter(cabinet[0]),
        package.Distortion(drive),
        package.PeakFilter(cutoff_frequency_hz=2_400, gain_db=4, q=0.8),
        package.LowpassFilter(cabinet[1]), package.LowpassFilter(cabinet[1]),
    ])  # fmt: skip
    made: Sound = chain(sound * np.float32(0.1 / power), sample_rate)
    return made * np.float32(power / max(1e-9, float(np.sqrt(np.mean(np.square(made))))))


def squeezed(sound: Sound, sample_rate: int, rng: Generator) -> Sound:
    """Through a compressor of the kind that drums have; as loud as before.

    Raises:
        KitsMissing: pedalboard is not installed.
    """
    package = pedalboard_package()
    compressor = package.Compressor(
        threshold_db=rng.uniform(-30, -12), ratio=rng.uniform(1.2, 5), attack_ms=rng.uniform(1, 25),
        release_ms=rng.uniform(40, 200),
    )  # fmt: skip
    made: Sound = package.Pedalboard([compressor])(sound, sample_rate)
    power, after = (float(np.mean(np.square(each))) for each in (sound, made))
    return made * np.float32((power / max(after, 1e-12)) ** 0.5)


def mastered(tracks: NDArray[np.float32], sample_rate: int, loudness: float, rng: Generator) -> NDArray[np.float32]:
    """[track, sample] through one equalizer, one compressor and one limiter, driven by their sum; so they still sum.

    Args:
        loudness: dBFS, root mean square of the sum before it is limited to CEILING.
    """
    length = tracks.shape[1]
    padded = next_fast_len(length + sample_rate // 10, real=True)
    octaves = np.log2(np.maximum(rfftfreq(padded, 1 / sample_rate), 20) / 1_000)
    places = np.linspace(-5, 4, 8)
    levels = gaussian_filter1d(rng.normal(0, 3.0, len(places)), 0.7) + rng.uniform(*TILT) * places
    curve = 10 ** (np.interp(octaves, places, levels) / 20)
    tracks = irfft(rfft(tracks, padded) * curve.astype(np.float32), padded)[:, :length].astype(np.float32)

    step = sample_rate // 200  # 5 ms
    blocks = -(-length // step)
    power = np.pad(np.square(tracks.sum(axis=0)), (0, blocks * step - length)).reshape(blocks, step).mean(axis=1)
    level = 10 * np.log10(gaussian_filter1d(power, rng.uniform(4, 12), mode="nearest") + 1e-9)
    threshold = float(np.percentile(level, 70)) - rng.uniform(0, 8)
    gain = np.minimum(0, (threshold - level) * (1 - 1 / rng.uniform(1.2, 3)))
    centres = (np.arange(blocks) + 0.5) * step
    tracks *= (10 ** (np.interp(np.arange(length), centres, gain) / 20)).astype(np.float32)
    tracks *= np.float32(10 ** (loudness / 20) / max(1e-6, float(np.sqrt(np.mean(np.square(tracks.sum(axis=0)))))))

    # The limiter sees a peak 5 ms before it comes, and lets go in some tens of milliseconds.
    peaks = np.pad(np.abs(tracks.sum(axis=0)), (0, blocks * step - length)).reshape(blocks, step).max(axis=1)
    needed = np.maximum(0, 20 * np.log10(np.maximum(maximum_filter1d(peaks, 7), 1e-6) / CEILING))
    limit = np.interp(np.arange(length), centres, gaussian_filter1d(needed, 1.2))
    limited: NDArray[np.float32] = tracks * (10 ** (-limit / 20)).astype(np.float32)
    return limited


def pedalboard_package() -> ModuleType:
    """Pedalboard.

    Raises:
        KitsMissing: it is not installed.
    """
    try:
        import pedalboard
    except ImportError as error:
        raise KitsMissing(f"pedalboard is not installed: {REMEDY}") from error
    return pedalboard
