"""The voice of a song in a world of people: who sings or speaks it, and how it was recorded.

Some are the formant singer, in some worlds some are Sinsy's (sinsy.py); the others are real speakers (speakers.py)
whose syllables the vocoder sings (sung.py), or who speak, in some worlds whole sentences (prompts.py). Each is recorded
in its own way (recording.py). A song's seed says what it is for, and so whose voice may be drawn: nothing that learns
ever hears a test voice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

from backline.music.piece import Piece
from backline.music.prompts import Prompter, prompt, prompters, prompts
from backline.music.recording import recorded
from backline.music.seeds import Purpose, purpose
from backline.music.singer import LOUDNESS, sing
from backline.music.sinsy import PURPOSE as SINSY_PURPOSE
from backline.music.sinsy import sinsy_sings
from backline.music.speakers import SAMPLE_RATE, Speaker, recording, speakers
from backline.music.sung import Manner, sing_as
from backline.music.vocoder import voice
from backline.music.world import USUAL, Cast

Sound = NDArray[np.float32]  # [sample]

CEILING = 0.9


def people_sing(piece: Piece, sample_rate: int, cast: Cast = USUAL) -> Sound:
    """The piece's voice, as long as the piece: equal pieces give equal samples.

    Raises:
        VoicesMissing: the recordings or the vocoder are not installed.
        KitsMissing: the spoken prompts are not.
    """
    rng = np.random.default_rng([piece.seed, 7])  # its own, beside the composer's
    kind = rng.random()
    wanted = purpose(piece.seed)
    if kind < cast.formant:
        dry = sing(piece.melody, piece.tempo, piece.seconds, SAMPLE_RATE, piece.seed, piece.voice)
    elif kind > 1 - cast.sinsy and wanted == SINSY_PURPOSE:
        dry = sinsy_sings(piece.melody, piece.tempo, piece.seconds, rng)
    elif 1 - cast.sinsy - cast.prompts < kind <= 1 - cast.sinsy:
        every = prompters(wanted)
        dry = spoken(every[int(rng.integers(len(every)))], piece.seconds, rng)
    else:
        who = draw_speaker(rng, wanted)
        dry = spoken(who, piece.seconds, rng) if kind < cast.formant + cast.spoken else sung(who, piece, rng, cast)
    length = piece.samples(sample_rate)
    made = recorded(levelled(dry), SAMPLE_RATE, rng)
    made = levelled(made) * np.float32(10 ** (rng.uniform(-5, 3) / 20))
    if sample_rate != SAMPLE_RATE:
        made = soxr.resample(made, SAMPLE_RATE, sample_rate)
    made = np.pad(made[:length], (0, max(0, length - len(made))))
    peak = float(np.abs(made).max(initial=0.0))
    return (made * np.float32(min(1.0, CEILING / peak)) if peak else made).astype(np.float32)


def sings_as_written(piece: Piece, cast: Cast) -> bool:
    """Whether the voice sings the syllables of the piece's notes: people sing those that they were recorded with."""
    kind, wanted = np.random.default_rng([piece.seed, 7]).random(), purpose(piece.seed)
    return bool(kind < cast.formant or (kind > 1 - cast.sinsy and wanted == SINSY_PURPOSE))


def draw_speaker(rng: Generator, wanted: Purpose) -> Speaker:
    """Someone of those for that purpose; languages are equally likely, however many recordings they have."""
    every = speakers(wanted)
    languages = sorted({speaker.language for speaker in every})
    language = languages[int(rng.integers(len(languages)))]
    own = [speaker for speaker in every if speaker.language == language]
    return own[int(rng.integers(len(own)))]


def sung(who: Speaker, piece: Piece, rng: Generator, cast: Cast) -> Sound:
    """The piece's melody, sung by a speaker; in some cases twice at once, or in another size."""
    manner = replace(Manner.draw(rng), clusters=cast.clusters, exhaled=cast.exhaled)
    if cast.aged and rng.random() < cast.aged:
        manner = manner.of_size(rng)
    singing = voice(who)
    take = sing_as(singing, piece.melody, piece.tempo, piece.seconds, rng, manner)
    if rng.random() < cast.doubled:
        again = Manner.draw(rng, double_of=manner)
        second = sing_as(singing, piece.melody, piece.tempo, piece.seconds, rng, again)
        if cast.apart:
            late = int(rng.uniform(0, cast.apart) * SAMPLE_RATE)
            second = np.pad(second, (late, 0))[: len(second)]
        take = take + np.float32(10 ** (rng.uniform(-10, -1) / 20)) * second
    return take


def spoken(who: Speaker | Prompter, seconds: float, rng: Generator) -> Sound:
    """A speaker's recordings as they are, one after the other, with pauses between them."""
    length = round(seconds * SAMPLE_RATE)
    made = np.zeros(length, np.float32)
    lines = spoken_lines(who)
    pace = rng.uniform(0.92, 1.09)  # played faster, a voice is higher and smaller
    at = int(rng.uniform(0, 1) * SAMPLE_RATE)
    while at < length:
        file, begin, end = lines[int(rng.integers(len(lines)))]
        clip = soxr.resample(heard(file)[begin:end], SAMPLE_RATE, SAMPLE_RATE / pace)[: length - at]
        edge = min(len(clip) // 2, SAMPLE_RATE // 200)
        clip[:edge] *= np.linspace(0, 1, edge, dtype=np.float32)
        clip[len(clip) - edge :] *= np.linspace(1, 0, edge, dtype=np.float32)
        made[at : at + len(clip)] += clip
        at += len(clip) + int(rng.exponential(0.12) * SAMPLE_RATE)
        if rng.random() < 0.08:
            at += int(rng.uniform(0.3, 1.5) * SAMPLE_RATE)
    return made


def spoken_lines(who: Speaker | Prompter) -> list[tuple[Path, int, int | None]]:
    """What someone says: files, and from which sample to which."""
    if isinstance(who, Prompter):
        return [(file, 0, None) for file in prompts(who)]
    places = [(each.file, *each.seconds) for each in voice(who).syllables]
    return [(file, round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)) for file, begin, end in places]


@lru_cache(maxsize=256)
def heard(file: Path) -> Sound:
    """A recording, of which it is known that it can be used."""
    sound = prompt(file) if file.suffix == ".g722" else recording(file)
    assert sound is not None
    return sound


def levelled(sound: Sound) -> Sound:
    """With the loudness of the formant singer, in the tenths of a second in which there is anything to hear."""
    blocks = sound[: len(sound) // 4_800 * 4_800].reshape(-1, 4_800)
    powers = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    loud = powers[powers > 0.02 * powers.max(initial=0.0)]
    return sound if not len(loud) else sound * np.float32(LOUDNESS / np.sqrt(loud.mean()))
