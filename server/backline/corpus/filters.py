"""What the papers keep out of training, each filter by its name: measured over a whole song, block by block.

| name | a span fails where | whose |
|---|---|---|
| silence | ten seconds of the song are below -60 dBFS | |
| clipping | more than one sample in a thousand of ten seconds of a stem is at full scale | |
| quiet instrumental | all but the voice is below -25 dBFS over ten seconds | HAFM, SingSong |
| loud voice | the voice is more than 5 dB above the rest over ten seconds | HAFM, SingSong |
| voice activity | nobody sings for two seconds on end, by silero-vad | MSS-LM |
| voice energy | the voice is below -40 dBFS, or above it for less than two seconds on end | without silero-vad |

The last four are about songs that have a voice, and something beside it, as stems. Levels are root mean squares.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from backline.corpus.corpus import Span, outside
from backline.corpus.manifest import SAMPLE_RATE
from backline.corpus.multitrack import Sound, mono
from backline.corpus.stem_file import to_integers
from backline.corpus.stem_names import VOCALS
from backline.sound_files import Audio

SILENCE, CLIPPING = "silence", "clipping"
QUIET, LOUD_VOICE = "quiet instrumental", "loud voice"
ACTIVITY, ENERGY = "voice activity", "voice energy"
FILTERS = (SILENCE, CLIPPING, QUIET, LOUD_VOICE, ACTIVITY, ENERGY)
HAFM = (SILENCE, CLIPPING, QUIET, LOUD_VOICE)  # what the paper's clips pass, and two that go without saying
MSS_LM = (SILENCE, CLIPPING, ACTIVITY, ENERGY)

CLIP_SECONDS = 10  # HAFM's and SingSong's clips
SILENCE_DBFS = -60.0
FULL_SCALE, MOST_CLIPPED = 0.999, 0.001
QUIETEST_DBFS = -25.0  # of the instrumental
LOUDEST_DB = 5.0  # of the voice over the instrumental

CELL = SAMPLE_RATE // 10  # samples that a level is taken of
CELL_SECONDS = CELL / SAMPLE_RATE
VOICE_DBFS = -40.0  # from here on a tenth of a second counts as voice, where nothing better tells
MERGED_SECONDS, SHORTEST_SECONDS = 0.3, 2.0  # gaps that are none, and voice that is too short

SILERO_RATE, SILERO_WINDOW = 16_000, 512  # Hz, samples
VOICED, UNVOICED = 0.5, 0.35  # probabilities: voice begins at the one, and ends below the other


def voice_filter() -> str:
    """Which of the two can be measured here."""
    return ACTIVITY if importlib.util.find_spec("silero_vad") is not None else ENERGY


class Cells:
    """Sums over tenths of a second of what comes block by block."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []
        self._left = np.zeros(0)

    def add(self, values: NDArray[Any]) -> None:
        """`values` [sample]."""
        values = np.concatenate([self._left, values])
        whole = len(values) // CELL * CELL
        self._sums.append(values[:whole].reshape(-1, CELL).sum(axis=1))
        self._left = values[whole:]

    def sums(self) -> NDArray[np.float64]:
        """[cell]; the last one may be of fewer samples."""
        return np.concatenate([*self._sums, self._left.sum(keepdims=True)] if len(self._left) else self._sums)


class Measures:
    """What one song's filters go by. `hear` its blocks, then ask what is `failing`."""

    def __init__(self, voice: str) -> None:
        """`voice`: ACTIVITY or ENERGY.

        Raises:
            ImportError: silero-vad is asked for, and not installed.
        """
        self.samples = 0
        self._voice_filter = voice
        self._mix, self._voice, self._band, self._clipped = Cells(), Cells(), Cells(), Cells()
        self._has_voice = False
        self._activity = Silero() if voice == ACTIVITY else None
        self._hash = hashlib.sha256()

    def hear_mix(self, blocks: Sequence[Audio]) -> None:
        """The next samples of a whole song: of the stems that sum to it, or of its mix alone. [channel, sample] each"""
        channels = max(block.shape[0] for block in blocks)
        mix = np.sum([np.broadcast_to(block, (channels, block.shape[1])) for block in blocks], axis=0, dtype=np.float32)
        self._hash.update(to_integers(np.clip(mix, -1, 1)).astype("<i4").T.tobytes())
        self._mix.add(np.square(mix, dtype=np.float64).mean(axis=0))
        self._clipped.add(np.max([(np.abs(block) >= FULL_SCALE).mean(axis=0) for block in blocks], axis=0))
        self.samples += mix.shape[1]

    def hear_stems(self, blocks: Mapping[str, Audio]) -> None:
        """The next samples of its stems, by label; nothing is measured where it has no voice, or nothing else."""
        band = [mono(block) for label, block in blocks.items() if label != VOCALS]
        if VOCALS not in blocks or not band:
            return
        self._has_voice = True
        voice = mono(blocks[VOCALS])
        self._voice.add(np.square(voice, dtype=np.float64))
        self._band.add(np.square(np.sum(band, axis=0), dtype=np.float64))
        if self._activity is not None:
            self._activity.hear(voice)

    @property
    def sha256(self) -> str:
        """Of the mix."""
        return self._hash.hexdigest()

    def failing(self) -> dict[str, tuple[Span, ...]]:
        """The spans that fail each filter, in seconds, by its name; filters that all of it passes are left out."""
        seconds = self.samples / SAMPLE_RATE
        sizes = np.full(-(-self.samples // CELL), CELL)
        sizes[-1:] = self.samples - CELL * (len(sizes) - 1)
        clips = clip_cells(len(sizes))

        def means(cells: Cells) -> NDArray[np.float64]:
            sums = cells.sums()
            return np.array([sums[clip].sum() / sizes[clip].sum() for clip in clips])

        def spans(fails: NDArray[np.bool_]) -> list[Span]:
            found = [(clip.start * CELL_SECONDS, min(seconds, clip.stop * CELL_SECONDS)) for clip in clips]
            return merged([span for span, failed in zip(found, fails, strict=True) if failed], 0.0)

        found = {
            SILENCE: spans(decibels(means(self._mix)) < SILENCE_DBFS),
            CLIPPING: spans(means(self._clipped) > MOST_CLIPPED),
        }
        if self._has_voice:
            voice, band = decibels(means(self._voice)), decibels(means(self._band))
            found[QUIET] = spans(band < QUIETEST_DBFS)
            found[LOUD_VOICE] = spans(voice > band + LOUDEST_DB)
            if self._activity is not None:
                sung = self._activity.voiced()
            else:
                levels = decibels(self._voice.sums() / sizes)
                heard = np.flatnonzero(levels >= VOICE_DBFS).tolist()
                sung = [(at * CELL_SECONDS, (at + 1) * CELL_SECONDS) for at in heard]
            sung = [(begin, end) for begin, end in merged(sung, MERGED_SECONDS) if end - begin >= SHORTEST_SECONDS]
            found[self._voice_filter] = outside(sung, seconds)
        rounded = {name: [(round(b, 3), round(e, 3)) for b, e in spans] for name, spans in found.items()}
        return {name: tuple(spans) for name, spans in rounded.items() if spans}


class Silero:
    """Where silero-vad hears a voice."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        """Raises ImportError: it is not installed."""
        from silero_vad import load_silero_vad

        self._model = load_silero_vad()
        self._change = soxr.ResampleStream(sample_rate, SILERO_RATE, 1, dtype="float32")
        self._left = np.zeros(0, np.float32)
        self._likely: list[float] = []  # that somebody sings, of each window

    def hear(self, voice: Sound) -> None:
        """The next samples."""
        self._hear(self._change.resample_chunk(voice))

    def voiced(self) -> list[Span]:
        """The spans of voice, in seconds, once all has been heard."""
        self._hear(self._change.resample_chunk(np.zeros(0, np.float32), last=True))
        found, begin = [], None
        second = SILERO_WINDOW / SILERO_RATE
        for at, likely in enumerate([*self._likely, 0.0]):
            if begin is None and likely >= VOICED:
                begin = at
            elif begin is not None and likely < UNVOICED:
                found.append((begin * second, at * second))
                begin = None
        return found

    def _hear(self, sound: Sound) -> None:
        import torch

        sound = np.concatenate([self._left, sound])
        whole = len(sound) // SILERO_WINDOW * SILERO_WINDOW
        with torch.inference_mode():
            for window in torch.from_numpy(sound[:whole]).unflatten(0, (-1, SILERO_WINDOW)) if whole else ():
                self._likely.append(float(self._model(window, SILERO_RATE)))
        self._left = sound[whole:]


def clip_cells(cells: int) -> list[slice]:
    """The cells of each clip; a last one of less than a second belongs to the one before."""
    per_clip = round(CLIP_SECONDS / CELL_SECONDS)
    starts = [start for start in range(0, cells, per_clip) if start == 0 or cells - start >= round(1 / CELL_SECONDS)]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], cells], strict=True)]


def merged(spans: Sequence[Span], gap: float) -> list[Span]:
    """Spans in order, those that are no further apart than `gap` seconds made one."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin - found[-1][1] <= gap + 1e-6:
            found[-1] = found[-1][0], end
        else:
            found.append((begin, end))
    return found


def decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10 * np.log10(np.maximum(power, 1e-12))
