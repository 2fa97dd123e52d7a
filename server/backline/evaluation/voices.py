"""Which voices a codec can write and a separator finds: kinds of voices over bands, in dB of SI-SDR over the mixture.

Kinds: the formant singer; test speakers' syllables, sung by the vocoder, language by language; recordings of people, if
there are any. Each voice at VOICE_DBFS over a band at BAND_DBFS: composed ones, and a recorded one if there is any.
Columns: what the voice's own codes reach at the mixture's phases (measures/masks.py), as magnitudes and as a mask
beside the band's; true magnitudes as such a mask, which is what masking can do at all; what the pack's vocals reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from backline.codecs.hcodec.network import HCodec
from backline.evaluation.live import Sound, at_rate
from backline.evaluation.plan import Say
from backline.measures.masks import ceiling
from backline.measures.report import Figure, Gate, Row
from backline.measures.spectra import si_sdr
from backline.music.composer import compose
from backline.music.piece import Piece
from backline.music.seeds import TEST_SEED
from backline.music.speakers import LANGUAGES, speakers
from backline.music.stems import SAMPLE_RATE, song_stems
from backline.music.sung import Manner, sing_as
from backline.music.vocoder import voice
from backline.music.world import BAND

VOICE_DBFS, BAND_DBFS = -20.0, -17.0
SECONDS = 10.0  # of each excerpt
BEGIN = 2.0  # seconds of a piece that an excerpt leaves out
RECORDED = {"singing_man": "man", "singing_woman": "woman", "speech": "speech"}  # names of files, without their endings
RECORDED_BAND = "rock_rest"
MAGNITUDES, MASK, TRUTH, SEPARATED = "codec's magnitudes", "codec's mask", "true mask", "separated"  # columns, dB
COMPOSED = "composed"  # row
LEAST_COMPOSED = 14.0  # dB of its mask
LEAST_SHARE = 2 / 3  # of the true mask's gain in dB that the codec's reaches, of every kind

Separate = Callable[[Sound, int], Sound]  # a mixture [sample] and a seed -> its vocals


@dataclass(frozen=True)
class Case:
    """One voice over one band, both [sample] at SAMPLE_RATE and equally long."""

    kind: str
    voice: Sound
    band: Sound


def evaluate_voices(
    codec: HCodec, separate: Separate | None, pieces: int, recordings: Path | None, say: Say
) -> tuple[Mapping[str, Row], list[Gate]]:
    """Rows by kind, and gates.

    Args:
        codec: with its encoders, at SAMPLE_RATE.
        separate: what finds the vocals; without it that column is missing.
        recordings: a folder that may have the files of RECORDED and RECORDED_BAND.
    Raises:
        VoicesMissing: the test speakers' recordings or the vocoder are not installed.
    """
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(pieces):
        say(f"piece {number + 1} of {pieces}", number / pieces)
        for case in cases(TEST_SEED + number, recordings):
            found = ceiling(codec, case.voice, case.band)
            row = figures.setdefault(case.kind, {})
            values = {MAGNITUDES: found.magnitudes, MASK: found.mask, TRUTH: found.truth}
            if separate is not None:
                mixture = case.voice + case.band
                values[SEPARATED] = si_sdr(separate(mixture, number), case.voice) - si_sdr(mixture, case.voice)
            for column, value in values.items():
                row.setdefault(column, []).append(value)
    rows = {kind: {name: Figure.of(values) for name, values in row.items()} for kind, row in figures.items()}
    return rows, gates(rows)


def cases(seed: int, recordings: Path | None) -> Iterator[Case]:
    """Every kind of voice over the bands of one piece."""
    piece = compose(seed, BAND)
    stems = song_stems(seed, BAND)
    bands = {"": excerpt(stems[1:].sum(axis=0))}
    if (real := recorded(recordings, RECORDED_BAND)) is not None:
        start = (seed - TEST_SEED) * int(SECONDS * SAMPLE_RATE) % max(1, len(real) - len(bands[""]))
        bands[" over a real band"] = real[start : start + len(bands[""])]
    voices = {COMPOSED: excerpt(stems[0])}
    voices |= {f"sung, {language}": excerpt(sung(language, piece)) for language in LANGUAGES["test"]}
    for name, kind in RECORDED.items():
        if (sound := recorded(recordings, name)) is not None:
            voices[kind] = sound[: int(SECONDS * SAMPLE_RATE)]
    for surroundings, band in bands.items():
        for kind, sound in voices.items():
            length = min(len(sound), len(band))
            yield Case(kind + surroundings, at_level(sound[:length], VOICE_DBFS), at_level(band[:length], BAND_DBFS))


def sung(language: str, piece: Piece) -> Sound:
    """The piece's melody in a dry voice of that language, a test one."""
    rng = np.random.default_rng([piece.seed, 11])
    own = [speaker for speaker in speakers("test") if speaker.language == language]
    who = voice(own[int(rng.integers(len(own)))])
    return sing_as(who, piece.melody, piece.tempo, piece.seconds, rng, Manner.draw(rng))


def recorded(folder: Path | None, name: str) -> Sound | None:
    """The recording of that name, mono at SAMPLE_RATE, if it is there."""
    found = sorted(path for path in folder.glob(f"{name}.*") if path.suffix != ".txt") if folder else []
    if not found:
        return None
    audio, rate = soundfile.read(found[0], dtype="float32", always_2d=True)
    return at_rate(audio.mean(axis=1), rate, SAMPLE_RATE)


def excerpt(sound: Sound) -> Sound:
    begin = int(BEGIN * SAMPLE_RATE)
    return sound[begin : begin + int(SECONDS * SAMPLE_RATE)]


def at_level(sound: Sound, level: float) -> Sound:
    """With a root mean square of `level` dBFS."""
    size = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    return sound * np.float32(10 ** (level / 20) / (size + 1e-12))


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a codec must reach to be learnt from, whatever the separator then makes of it."""
    composed = rows[COMPOSED][MASK].mean
    found = [Gate(f"{COMPOSED}: {MASK}", composed, f"at least {LEAST_COMPOSED:g}", composed >= LEAST_COMPOSED)]
    for kind, row in rows.items():
        share = row[MASK].mean / row[TRUTH].mean
        found.append(
            Gate(f"{kind}: share of the true mask", share, f"at least {LEAST_SHARE:.3g}", share >= LEAST_SHARE)
        )
    return found
