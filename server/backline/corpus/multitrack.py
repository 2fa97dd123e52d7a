"""A song and its stems, wherever they come from: one protocol for composed songs and for those of a corpus.

song = Corpus.open(folder).songs("training")[0]      # or Composed(song(7, BAND, 48_000))
song.labels                                          # {"vocals": "vocals", "guitar-2": "guitar", ...}
song.read("guitar-2", 44_100, begin=30.0, seconds=4.0)    # [channel, sample]
four_tracks(song, 48_000)                            # [vocals, drums, bass and other, sample], as MUSDB18 has them
voice_and_band(song, 24_000)                         # two sounds [sample], as HAFM and DuoTok want them
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

from backline.corpus.stem_names import (
    BASS,
    DRUMS,
    MIX,
    OTHER,
    SEVERAL,
    VOCALS,
    programme_label,
    track_of,
)
from backline.music.songs import Song
from backline.sound_files import Audio

Sound = NDArray[np.float32]  # [sample]
TRACKS = (VOCALS, DRUMS, BASS, OTHER)
Made = TypeVar("Made")


class StemsMissing(ValueError):
    """A song does not have the stems that are asked of it; the message says which it has."""


def made_of(make: Callable[[int], Made], seeds: Iterable[int]) -> Iterator[Made]:
    """What is made of the songs of these seeds; those that lack stems are passed over."""
    for seed in seeds:
        try:
            made = make(seed)
        except StemsMissing:
            continue
        yield made


class Multitrack(Protocol):
    """A song and its stems, all of one length."""

    @property
    def title(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    @property
    def labels(self) -> Mapping[str, str]:
        """What each stem is, by its name: see stem_names.py. They sum to the song, but for one labelled `mix`."""
        ...

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        """[channel, sample] of a stem, float32: from `begin` on, so many seconds, or as many as there are.

        Two spans that meet are one sound: the sample at time t is the same whatever span it is read in, up to what a
        resampler rings over 50 ms.
        """
        ...


def sum_of(
    song: Multitrack, stems: Collection[str], sample_rate: int, begin: float = 0.0, seconds: float | None = None
) -> Audio:
    """The sum [channel, sample] of some of a song's stems; in stereo where one of them is."""
    found: Audio | None = None
    for stem in stems:
        audio = song.read(stem, sample_rate, begin, seconds)
        if found is not None and audio.shape[0] != found.shape[0]:
            channels = max(audio.shape[0], found.shape[0])
            audio, found = _widened(audio, channels), _widened(found, channels)
        found = audio if found is None else found + audio
    if found is None:
        begin_sample, end_sample = span_samples(song.seconds, sample_rate, begin, seconds)
        return np.zeros((1, end_sample - begin_sample), np.float32)
    return found


def mixture(song: Multitrack, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
    """The whole song [channel, sample]: its mix where it has one, else the sum of its stems."""
    mixes = [stem for stem, label in song.labels.items() if label == MIX]
    return sum_of(song, mixes[:1] or list(song.labels), sample_rate, begin, seconds)


def has_four_tracks(song: Multitrack) -> bool:
    """Whether `four_tracks` can tell them apart: a track that is not there is silent."""
    labels = set(song.labels.values()) - {MIX}
    return bool(labels) and not labels & SEVERAL


def has_voice_and_band(song: Multitrack) -> bool:
    """Whether voice and band are apart, and there are both."""
    labels = set(song.labels.values()) - {MIX}
    return VOCALS in labels and len(labels) > 1


def has_band(song: Multitrack) -> bool:
    """Whether there is anything but a voice that is apart from one."""
    return bool(_band(song))


def four_tracks(
    song: Multitrack, sample_rate: int, begin: float = 0.0, seconds: float | None = None
) -> NDArray[np.float32]:
    """Vocals, drums, bass and other [track, sample] in mono, by the order of TRACKS.

    Raises:
        StemsMissing: one of its stems is more than one of them.
    """
    if not has_four_tracks(song):
        raise StemsMissing(f"{song.title} has {_listed(song)}, which are not {', '.join(TRACKS)}: take another song")
    labels = {stem: label for stem, label in song.labels.items() if label != MIX}
    return np.stack(
        [
            mono(
                sum_of(
                    song, [s for s, label in labels.items() if track_of(label) == track], sample_rate, begin, seconds
                )
            )
            for track in TRACKS
        ]
    )


def voice_and_band(
    song: Multitrack, sample_rate: int, begin: float = 0.0, seconds: float | None = None
) -> tuple[Sound, Sound]:
    """The voice and all the rest [sample], in mono.

    Raises:
        StemsMissing: they are not apart, or one is missing.
    """
    if not has_voice_and_band(song):
        raise StemsMissing(f"{song.title} has {_listed(song)}, and no voice apart from a band: take another song")
    voice = [stem for stem, label in song.labels.items() if label == VOCALS]
    span = (sample_rate, begin, seconds)
    return mono(sum_of(song, voice, *span)), mono(sum_of(song, _band(song), *span))


def band_of(song: Multitrack, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Sound:
    """All but the voice [sample], in mono.

    Raises:
        StemsMissing: it is not apart.
    """
    if not has_band(song):
        raise StemsMissing(f"{song.title} has {_listed(song)}, and no band apart from a voice: take another song")
    return mono(sum_of(song, _band(song), sample_rate, begin, seconds))


@dataclass(frozen=True)
class Excerpt:
    """A span of a song, as a song."""

    song: Multitrack
    begin: float  # seconds, as the next
    seconds: float

    @property
    def title(self) -> str:
        return self.song.title

    @property
    def labels(self) -> Mapping[str, str]:
        return self.song.labels

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        left = max(0.0, self.seconds - begin)
        return self.song.read(stem, sample_rate, self.begin + begin, left if seconds is None else min(seconds, left))


def excerpts(song: Multitrack, longest: float, sample_rate: int) -> Iterator[Multitrack]:
    """The song, or equal parts of it of at most `longest` seconds, that begin on samples at `sample_rate`."""
    count = max(1, math.ceil(song.seconds / longest))
    if count == 1:
        yield song
        return
    edges = [round(song.seconds * sample_rate * number / count) / sample_rate for number in range(count + 1)]
    for begin, end in pairwise(edges):
        yield Excerpt(song, begin, end - begin)


class Composed:
    """A composed song as a multitrack. Stems that rest throughout are none."""

    def __init__(self, song: Song) -> None:
        self.song = song
        band = song.piece.band
        labels = {DRUMS: DRUMS, BASS: BASS}
        labels |= {part: programme_label(getattr(band, part) or 0) for part in ("comp", "pad")}
        parts = {part: labels[part] for part in song.stems if song.piece.parts[part]}
        self.labels: Mapping[str, str] = {VOCALS: VOCALS, **parts}

    @property
    def title(self) -> str:
        return f"{self.song.piece.style} {self.song.piece.seed}"

    @property
    def seconds(self) -> float:
        return len(self.song.vocal) / self.song.sample_rate

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        sound = self.song.vocal if stem == VOCALS else self.song.stems[stem]
        if sample_rate != self.song.sample_rate:
            sound = soxr.resample(sound, self.song.sample_rate, sample_rate).astype(np.float32)
        first, last = span_samples(self.seconds, sample_rate, begin, seconds)
        return sound[np.newaxis, first:last]


def span_samples(whole: float, sample_rate: int, begin: float, seconds: float | None) -> tuple[int, int]:
    """The first sample of a span, and the one after its last, within a sound of `whole` seconds."""
    end = whole if seconds is None else min(whole, begin + seconds)
    first = round(begin * sample_rate)
    return first, max(first, round(end * sample_rate))


def mono(audio: Audio) -> Sound:
    """The mean of the channels [sample]."""
    return audio[0] if audio.shape[0] == 1 else audio.mean(axis=0, dtype=np.float32)


def _band(song: Multitrack) -> list[str]:
    """The stems that are neither the voice nor the mix."""
    return [stem for stem, label in song.labels.items() if label not in (MIX, VOCALS)]


def _widened(audio: Audio, channels: int) -> Audio:
    """Mono on every channel; what has fewer channels in its first ones."""
    if audio.shape[0] == 1:
        return np.repeat(audio, channels, axis=0)
    return np.pad(audio, ((0, channels - audio.shape[0]), (0, 0)))


def _listed(song: Multitrack) -> str:
    return ", ".join(dict.fromkeys(song.labels.values()))
