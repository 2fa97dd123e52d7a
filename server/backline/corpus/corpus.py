"""A corpus as trainers and evaluators read it: songs by split, stems at any rate, clips by seed.

corpus = Corpus.open(Path("corpus"))
for song in corpus.songs("test"):            # each a Multitrack
    ...
corpus.clip(seed=7, seconds=4.0, split="training", filters=("silence", "loud voice"))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import soxr

from backline.corpus.labels import Heard, read_heard
from backline.corpus.manifest import SAMPLE_RATE, CorpusError, Manifest, SongEntry, StemEntry, read_manifest, stem_path
from backline.corpus.multitrack import Excerpt, Multitrack, span_samples
from backline.music.seeds import Purpose
from backline.sound_files import Audio

MARGIN_SECONDS = 0.05  # that a resampler hears on either side of a span

Span = tuple[float, float]  # begin and end, seconds
Wanted = Callable[[Multitrack], bool]


class Corpus:
    """The songs of one folder. Any thread; every read opens its file anew."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._songs = tuple(CorpusSong(folder, entry) for entry in manifest.songs)

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Raises CorpusError: it is no corpus, or is damaged."""
        return cls(folder, read_manifest(folder))

    def songs(self, split: Purpose | None = None, wanted: Wanted = lambda song: True) -> tuple[CorpusSong, ...]:
        """Those of a split, or all, that are `wanted`: `has_four_tracks`, for example."""
        return tuple(song for song in self._songs if split in (None, song.entry.split) and wanted(song))

    def clip(
        self,
        seed: int,
        seconds: float,
        split: Purpose,
        filters: Collection[str] = (),
        wanted: Wanted = lambda song: True,
    ) -> Excerpt:
        """A clip from anywhere in the songs of a split that passes `filters`: for the same seed the same.

        All places are equally likely, so that a song of twice the length is heard twice as often.

        Raises:
            CorpusError: nothing in the corpus is such a clip.
        """
        key = (seconds, split, tuple(sorted(filters)), wanted)
        if key not in self._places:
            places = [
                (song, begin, end)
                for song in self.songs(split, wanted)
                for begin, end in song.passing(filters)
                if end - begin >= seconds
            ]
            self._places[key] = places, np.cumsum([end - begin - seconds + 1e-3 for _, begin, end in places])
        places, ends = self._places[key]
        if not places:
            raise CorpusError(
                f"{self.folder} has no {seconds:g} s for {split} that pass {', '.join(filters) or 'no filter'} and "
                "have the stems that are needed: prepare more songs"
            )
        draw = np.random.default_rng([seed, 0xC0])
        place = float(draw.random()) * ends[-1]
        chosen = int(np.searchsorted(ends, place, side="right"))
        song, begin, end = places[min(chosen, len(places) - 1)]
        return Excerpt(song, begin + float(draw.random()) * (end - begin - seconds), seconds)

    @cached_property
    def _places(self) -> dict[tuple[object, ...], tuple[list[tuple[CorpusSong, float, float]], np.ndarray]]:
        return {}


class CorpusSong:
    """A song of a corpus: a `Multitrack`."""

    def __init__(self, folder: Path, entry: SongEntry) -> None:
        self._folder, self.entry = folder, entry
        self._stems: Mapping[str, StemEntry] = {stem.name: stem for stem in entry.stems}
        self.labels: Mapping[str, str] = {stem.name: stem.label for stem in entry.stems}

    @property
    def title(self) -> str:
        return self.entry.title

    @property
    def seconds(self) -> float:
        return self.entry.seconds

    def passing(self, filters: Collection[str]) -> list[Span]:
        """The spans that pass all of these filters."""
        failing = [span for name in filters for span in self.entry.failing.get(name, ())]
        return outside(failing, self.seconds)

    def heard(self) -> Heard:
        """Beats, chords, voice, pitch and words, as far as `entry.labels` names who has heard them.

        Raises:
            CorpusError: nobody has labelled the song, or its labels are damaged.
        """
        if self.entry.labels is None:
            raise CorpusError(f"{self.title} has no labels: `backline data label {self._folder}` makes them")
        return read_heard(self._folder, self.entry.id, self.entry.labels.sha256)

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        """As `Multitrack.read`. Raises CorpusError: the file is not what corpus.json says."""
        span = span_samples(self.seconds, sample_rate, begin, seconds)
        return read_at(lambda first, last: self._read(stem, first, last), sample_rate, *span)

    def _read(self, name: str, first: int, last: int) -> Audio:
        """Samples of the file, as far as there are any."""
        entry = self._stems[name]
        last = min(last, self.entry.samples)
        path = stem_path(self._folder, self.entry.id, name)
        try:
            if not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
                raise CorpusError(f"{path} is no file of this corpus: prepare the song again")
            with soundfile.SoundFile(path) as file:
                if (file.samplerate, file.channels, file.frames) != (SAMPLE_RATE, entry.channels, self.entry.samples):
                    raise CorpusError(f"{path} is not what corpus.json says of it: prepare the song again")
                file.seek(min(first, file.frames))
                audio = file.read(max(0, last - first), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise CorpusError(f"{path} is damaged ({error}): prepare the song again") from error
        if len(audio) != max(0, last - first):
            raise CorpusError(f"{path} is damaged (its end is missing): prepare the song again")
        return np.ascontiguousarray(audio.T) * np.float32(entry.scale)


def read_at(read: Callable[[int, int], Audio], sample_rate: int, first: int, last: int) -> Audio:
    """Samples `first` to `last` at `sample_rate` [channel, sample] of a sound at SAMPLE_RATE.

    Args:
        read: gives samples of the sound from one to another, as far as there are any.
    """
    if sample_rate == SAMPLE_RATE:
        return read(first, last)
    # A resampler hears a little around the span, from where samples of both rates fall together.
    step = sample_rate // np.gcd(sample_rate, SAMPLE_RATE)
    margin = int(MARGIN_SECONDS * sample_rate)
    start = max(0, first - margin) // step * step
    heard = read(start * SAMPLE_RATE // sample_rate, -(-(last + margin) * SAMPLE_RATE // sample_rate))
    changed = soxr.resample(heard.T, SAMPLE_RATE, sample_rate).astype(np.float32).T
    changed = changed[:, first - start : last - start]
    return np.ascontiguousarray(np.pad(changed, ((0, 0), (0, last - first - changed.shape[1]))))


def outside(spans: Collection[Span], whole: float) -> list[Span]:
    """What of [0, whole] lies in none of the spans."""
    found, at = [], 0.0
    for begin, end in [*sorted(spans), (whole, whole)]:
        if at < min(begin, whole):
            found.append((at, min(begin, whole)))
        at = max(at, end)
    return found
