"""Makes the sung phrase that ships with Backline: `python -m backline.music.phrase FOLDER`.

A held-out song of the narrow world, its vocal alone, at a DAW's rate, mono turned into stereo by a few early
reflections. The tempo and metre it is sung in stand beside it, for a client that sends the transport.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backline.music.composer import compose
from backline.music.singer import sing
from backline.music.world import NARROW

SAMPLE_RATE = 48_000
SEED = (1 << 40) + 18  # held out: see music/seeds.py
PEAK = 0.7
# Milliseconds after the direct sound and gains, of a small room: left, right.
REFLECTIONS = (((9.3, 0.11), (17.9, 0.08), (27.1, 0.055)), ((11.6, 0.10), (20.3, 0.085), (31.4, 0.05)))


def main(folder: Path) -> None:
    """Writes phrase.flac and phrase.toml into `folder`."""
    piece = compose(SEED, NARROW)
    mono = sing(piece.melody, piece.tempo, piece.seconds, SAMPLE_RATE, SEED, piece.voice)
    stereo = in_a_small_room(mono, SAMPLE_RATE)
    stereo *= PEAK / np.abs(stereo).max()
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "phrase.flac", stereo.T, SAMPLE_RATE, subtype="PCM_16")
    facts = {
        "seed": SEED,
        "key": f'"{piece.key.name}"',
        "tempo": piece.tempo,
        "numerator": piece.beats_per_bar,
        "denominator": 4,
        "bars": piece.bars,
    }
    head = "# The phrase begins on the first beat of its first bar; tempo in quarter notes per minute.\n"
    (folder / "phrase.toml").write_text(head + "".join(f"{name} = {value}\n" for name, value in facts.items()))


def in_a_small_room(mono: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Stereo [channel, sample] from mono [sample]: the same direct sound, each side its own dull reflections."""
    dull = mono.copy()
    dull[1:] = 0.5 * (mono[1:] + mono[:-1])
    stereo = np.stack([mono, mono])
    for channel, reflections in enumerate(REFLECTIONS):
        for milliseconds, gain in reflections:
            delay = round(milliseconds * sample_rate / 1000)
            stereo[channel, delay:] += np.float32(gain) * dull[:-delay]
    return stereo


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m backline.music.phrase FOLDER")
    main(Path(sys.argv[1]))
